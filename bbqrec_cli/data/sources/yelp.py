"""Yelp's open dataset: yelp_academic_dataset_review.json and yelp_academic_dataset_business.json, JSON lines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bbqrec_cli.data.sources import times as clock
from bbqrec_cli.data.sources.archives import Archive
from bbqrec_cli.data.sources.base import Interactions, Items
from bbqrec_cli.data.sources.files import as_id, fields_of, json_object, read_items
from bbqrec_cli.data.sources.log import Log
from bbqrec_cli.data.sources.options.yelp import YelpOptions
from bbqrec_cli.data.sources.paths import only_path
from bbqrec_cli.data.sources.pictures import find_pictures, pictures_of
from bbqrec_cli.errors import DataError, MissingFileError
from bbqrec_cli.progress import Progress, counted

REVIEWS, BUSINESSES = "yelp_academic_dataset_review.json", "yelp_academic_dataset_business.json"
_EXAMPLE = "bbqrec prepare yelp FOLDER, or yelp_dataset.tar, or Yelp-JSON.zip as they were downloaded"


class Yelp:
    """PATH: the folder, tar or zip that holds the files (gzipped or not), or the file of reviews in such a folder.

    Raises:
        UsageError: not one path.
        MissingFileError: no such path, or no reviews in it.
    """

    minimum = 0

    def __init__(self, paths: list[Path], options: YelpOptions, *, seed: int, progress: Progress) -> None:
        path = only_path(paths, "yelp", _EXAMPLE)
        path = path.parent if path.name.removesuffix(".gz") == REVIEWS else path
        self._archive, self._options, self._seed, self._progress = Archive(path), options, seed, progress
        if path.is_dir() and not self._archive.has(REVIEWS):
            raise MissingFileError(f"{path}: no {REVIEWS} in it", _EXAMPLE)
        self.images = options.images or find_pictures(path)
        self.files = self._archive.files(REVIEWS, *([] if options.items else [BUSINESSES]))
        self.files += [options.items] if options.items else []

    def interactions(self) -> Interactions:
        """Each user's reviews by time.

        Raises:
            DataError: a malformed line, an empty file.
        """
        log = Log(self._options.min_rating)
        with self._progress.task("reviews", None) as task:
            for number, row in counted(self._rows(REVIEWS), task):
                log.add(*self._review(number, row))
        if not log:
            what = f"no reviews of {self._options.min_rating:g} stars in it" if log.low else "no reviews in it"
            raise DataError(f"{self._archive.path / REVIEWS}: {what}", "lower --min-rating, or give another file")
        return log.by_user(per_second=clock.UNITS["us"], ties=self._options.ties, seed=self._seed)

    def _review(self, number: int, row: dict[str, Any]) -> tuple[str, str, int, float]:
        """(user, business, microseconds since 1970, stars)."""
        user, business, stars, date = (row.get(name) for name in ("user_id", "business_id", "stars", "date"))
        time = clock.date(date) if isinstance(date, str) else None
        stars = stars if isinstance(stars, (int, float)) else math.nan
        if not (user and business and math.isfinite(stars)) or time is None or time < 0:
            what = f"user_id is {user!r}, business_id {business!r}, stars {stars!r}, date {date!r}"
            where = self._archive.where(REVIEWS, number)
            raise DataError(f"{where}: {what}; all are needed, the date as 2019-07-01 12:00:00", "download it again")
        return as_id(str(user)), as_id(str(business)), time, float(stars)

    def _rows(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in self._archive.lines(name):
            yield number, json_object(line, self._archive.where(name, number), "download or copy it again")

    def items(self, item_ids: list[str]) -> Items:
        """Name, categories, city and state of the businesses; pictures from a folder."""
        fields: dict[str, list[str]] = {}
        if self._options.items:
            known = read_items(self._options.items, id_column=None)
            fields = fields_of(item_ids, known, self._options.items, self._progress)
        elif self._archive.has(BUSINESSES):
            known = self._businesses(set(item_ids))
            fields = fields_of(item_ids, known, self._archive.path / BUSINESSES, self._progress)
        else:
            self._progress.warn(f"{self._archive.path}: no {BUSINESSES} in it, so no names")
        return Items(fields=fields, images=pictures_of(self.images, item_ids, self._progress))

    def _businesses(self, wanted: set[str]) -> dict[str, dict[str, Any]]:
        """Business -> its fields."""
        found: dict[str, dict[str, Any]] = {}
        left = 0
        for number, row in self._rows(BUSINESSES):
            business = as_id(str(row.get("business_id") or ""))
            if not business or business in found:
                what = f"business {business!r} appears twice" if business else "no business_id"
                raise DataError(f"{self._archive.where(BUSINESSES, number)}: {what}", "download or copy it again")
            if business not in wanted:
                left += 1
                continue
            categories = row.get("categories") or []  # a list until 2017, then one string
            listed = categories.split(",") if isinstance(categories, str) else categories
            found[business] = {
                "name": row.get("name"),
                "categories": [" ".join(str(each).split()) for each in listed],
                "city": row.get("city"),
                "state": row.get("state"),
            }
        if left:
            self._progress.log(f"{BUSINESSES}: {left:,} entries are left out: their items are not among those kept")
        return found
