"""Amazon's reviews: the releases of 2014 (McAuley et al., SIGIR 2015), 2018 (Ni et al., EMNLP 2019) and 2023 (Hou et
al., arXiv 2403.03952)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.data.download import download
from bbqrec_cli.data.download_pictures import download_pictures
from bbqrec_cli.data.sources.amazon_features import read_image_features
from bbqrec_cli.data.sources.amazon_texts import read_metadata, record
from bbqrec_cli.data.sources.base import Interactions, Items
from bbqrec_cli.data.sources.files import as_id, fields_of, lines, table_rows
from bbqrec_cli.data.sources.log import Log
from bbqrec_cli.data.sources.options.amazon import AmazonOptions
from bbqrec_cli.data.sources.paths import download_folder
from bbqrec_cli.data.sources.pictures import find_pictures, pictures_of
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.progress import Progress, counted

REVIEWS = re.compile(r"reviews_.+\.jsonl?(\.gz)?|[A-Z]\w*\.(json|jsonl|csv)(\.gz)?")
METADATA = re.compile(r"meta_.+\.jsonl?(\.gz)?")
VECTORS = re.compile(r"image_features_.+")
PART_NAMES = ("train", "valid", "test")
PARTS = re.compile(rf"([A-Z]\w*)\.({'|'.join(PART_NAMES)})\.csv(\.gz)?")
"""The 5-core of 2023 in three parts, as it was split; together they are the whole."""
_NAMES = "bbqrec prepare amazon FOLDER, or the files, such as: reviews_X_5.json.gz meta_X.json.gz image_features_X.b"
_DOWNLOAD = "bbqrec prepare amazon --download 2014 --category Beauty"
PICTURES = "images"
"""Folder of downloaded pictures, beside the reviews."""


@dataclass(frozen=True)
class Release:
    """Where a release is published, its files of a category, and what its reviews are made of."""

    site: str
    five_core: str
    unfiltered: str
    metadata: str
    user: str = "reviewerID"
    item: str = "asin"
    time: str = "unixReviewTime"
    per_second: int = 1


_UCSD = "https://mcauleylab.ucsd.edu/public_datasets/data"
RELEASES = {
    "2014": Release(
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
        "reviews_{}_5.json.gz", "reviews_{}.json.gz", "meta_{}.json.gz",
    ),
    "2018": Release(
        f"{_UCSD}/amazon_v2",
        "categoryFilesSmall/{}_5.json.gz", "categoryFiles/{}.json.gz", "metaFiles2/meta_{}.json.gz",
    ),
    "2023": Release(
        f"{_UCSD}/amazon_2023",
        "benchmark/5core/rating_only/{}.csv.gz", "raw/review_categories/{}.jsonl.gz",
        "raw/meta_categories/meta_{}.jsonl.gz",
        user="user_id", item="parent_asin", time="timestamp", per_second=1000,
    ),
}  # fmt: skip


class Amazon:
    """PATHS: a folder or files; reviews are required, metadata and visual features are used if present.

    `minimum` is 0 for what is called X_5 and for the parts of a split, and 5 for all else: whole reviews, and 2023's
    5-core, which looks like its unfiltered ratings and loses nothing by it.

    Raises:
        UsageError: no reviews, or several files of one kind.
        MissingFileError: a path that does not exist.
    """

    @staticmethod
    def fetch(paths: list[Path], options: AmazonOptions, progress: Progress) -> list[Path]:
        """The paths after --download. Raises: UsageError, and those of `download.download`."""
        if not options.download:
            for name in ("category", "unfiltered", "mirror"):
                if getattr(options, name):
                    raise UsageError(f"--{name} has no effect without --download", _DOWNLOAD)
            return paths
        folder = download_folder(paths, _DOWNLOAD)
        if not options.category or not re.fullmatch(r"[A-Za-z0-9_]+", options.category):
            what = f"--category is {options.category!r}; the name of one category is needed"
            raise UsageError(f"{what}, as the release writes it", _DOWNLOAD)
        release = RELEASES[options.download]
        wanted = (release.unfiltered if options.unfiltered else release.five_core, release.metadata)
        _refuse_metadata_of_another(folder, options.download, options.category)
        found = []
        for each in wanted:
            name = each.format(options.category)
            url = f"{(options.mirror or release.site).rstrip('/')}/{name}"
            found.append(download(url, folder / name.rpartition("/")[2], progress=progress))
        return found

    def __init__(self, paths: list[Path], options: AmazonOptions, *, seed: int, progress: Progress) -> None:
        for path in paths:
            if not path.exists():
                raise MissingFileError(f"{path}: no such file or folder", _NAMES)
            if path.is_file() and not any(kind.fullmatch(path.name) for kind in (REVIEWS, PARTS, METADATA, VECTORS)):
                raise UsageError(f"prepare amazon cannot tell what {path.name} is", _NAMES)
        given = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
        self._reviews = _reviews(given)
        if not self._reviews:
            where = ", ".join(map(str, paths)) or "no path was given"
            what = "prepare amazon found no reviews (reviews_X_5.json.gz, X_5.json.gz, X.jsonl.gz, X.csv.gz, …)"
            raise UsageError(f"{what}: {where}", _NAMES)
        self._metadata = options.items or _only(given, METADATA)
        self._vectors = _only(given, VECTORS)
        self._folder = next((path for path in paths if path.is_dir()), self._reviews[0].parent)
        inside = self._folder if options.download or any(path.is_dir() for path in paths) else None
        self.images, self._progress = options.images or find_pictures(inside), progress
        self._options, self._seed = options, seed
        first = self._reviews[0].name
        self.minimum = 0 if first.split(".")[0].endswith("_5") or PARTS.fullmatch(first) else 5
        self.files = [*self._reviews, *filter(None, (self._metadata, self._vectors))]
        self._release = ""

    def interactions(self) -> Interactions:
        """Each user's reviews by time; the releases before 2023 only have days, so --ties decides much.

        Raises:
            DataError: a line that is neither JSON nor a Python literal, or lacks a field; an empty file.
        """
        log = Log()
        with self._progress.task("reviews", None) as task:
            for file in self._reviews:
                for number, row in counted(_rows(file), task):
                    if not self._release:
                        self._release = release_of(file, row)
                        self._progress.log(f"{file.name}: the {self._release} release")
                    log.add(*review(file, number, row, RELEASES[self._release]))
        if not log:
            raise DataError(f"{self._reviews[0]}: no reviews in it", "download or copy it again")
        per_second = RELEASES[self._release].per_second
        return log.by_user(per_second=per_second, ties=self._options.ties, seed=self._seed)

    def items(self, item_ids: list[str]) -> Items:
        """Cleaned metadata and ready image features (or pictures of a folder named by ASIN) of the kept items."""
        fields, features = {}, {}
        if self._metadata:
            known = read_metadata(
                self._metadata, set(item_ids), self._progress, repeats=self._release in ("2018", "2023")
            )  # fmt: skip
            fields = fields_of(item_ids, known, self._metadata, self._progress)
        if self._vectors:
            features["image"] = read_image_features(self._vectors, item_ids, self._progress)
        if self._options.download_pictures:
            self.images = self._pictures(item_ids, fields.get("image_url", []))
        return Items(fields=fields, images=pictures_of(self.images, item_ids, self._progress), features=features)

    def _pictures(self, item_ids: list[str], addresses: list[str]) -> Path | None:
        """The folder into which the pictures were downloaded; None if none could be had."""
        if not any(addresses):
            raise DataError("--download-pictures: no item has the address of a picture", "give the metadata as well")
        folder = self.images or self._folder / PICTURES
        known = {item: address for item, address in zip(item_ids, addresses, strict=True) if address}
        download_pictures(known, folder, progress=self._progress)
        return folder if folder.is_dir() else None


def _refuse_metadata_of_another(folder: Path, wanted: str, category: str) -> None:
    """Two releases have one name for their metadata. Raises: UsageError: what is there is another one's."""

    def at(name: str) -> Path:
        return folder / name.format(category).rpartition("/")[2]

    meta = at(RELEASES[wanted].metadata)
    for year, other in RELEASES.items():
        reviews = [at(name) for name in (other.five_core, other.unfiltered) if at(name).exists()]
        if year != wanted and at(other.metadata) == meta and meta.exists() and reviews:
            what = f"{meta} is there already, beside {reviews[0].name} of the release of {year}"
            raise UsageError(what, f"another folder for the release of {wanted}")


def _reviews(files: list[Path]) -> list[Path]:
    """The file of the reviews, or all parts of it; [] without any."""
    parts = [file for file in files if PARTS.fullmatch(file.name)]
    if not parts:
        only = _only(files, REVIEWS)
        return [only] if only else []
    names = ", ".join(file.name for file in files if REVIEWS.fullmatch(file.name) or file in parts)
    if len({file.name.split(".")[0] for file in parts}) > 1 or len(names.split(", ")) > len(parts):
        raise UsageError(f"prepare amazon found several files of one kind: {names}", "name the files to read")
    if len(parts) != 3:
        what = f"prepare amazon found {names}; train, valid and test together are the interactions"
        raise UsageError(what, "give all three, or read one of them with: bbqrec prepare table")
    # In the order of the parts, so that of equal times the item of an earlier part comes first.
    return sorted(parts, key=lambda file: PART_NAMES.index(file.name.split(".")[1]))


def _only(files: list[Path], kind: re.Pattern[str]) -> Path | None:
    found = [file for file in files if kind.fullmatch(file.name)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UsageError(f"prepare amazon found several files of one kind: {names}", "name the files to read")
    return found[0] if found else None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, fields) of each review, from JSON lines or a table."""
    if path.name.removesuffix(".gz").endswith(".csv"):
        rows = table_rows(path)
        _, header = next(rows, (0, []))
        if not {"user_id", "parent_asin", "timestamp"} <= set(header):
            what = f"{path}, line 1: {', '.join(header[:6])}; user_id, parent_asin, rating and timestamp are needed"
            raise DataError(what, f"bbqrec prepare table {shlex.quote(str(path))} reads other tables")
        for number, row in rows:
            fields: dict[str, Any] = dict(zip(header, row, strict=True))
            time = fields["timestamp"]
            yield number, fields | {"timestamp": int(time) if time.isdecimal() else time}
    else:
        for number, line in lines(path):
            yield number, record(path, number, line)


def release_of(path: Path, row: dict[str, Any]) -> str:
    """The release that a review is of: 2023's have a parent_asin, 2018's a `verified`, and both other names."""
    if "parent_asin" in row:
        return "2023"
    return "2014" if path.name.startswith("reviews_") and "verified" not in row else "2018"


def review(path: Path, number: int, row: dict[str, Any], release: Release) -> tuple[str, str, int]:
    """(user, item, time) of one review.

    Raises:
        DataError: one of the three is missing or invalid.
    """
    user, item = (as_id(str(row.get(name) or "")) for name in (release.user, release.item))
    time = row.get(release.time)
    if not (user and item) or not isinstance(time, int) or not 0 <= time < 1 << 62:
        given = [f"{name} {row.get(name)!r}" for name in (release.item, release.time)]
        what = f"{release.user} is {row.get(release.user)!r}, {', '.join(given)}"
        unit = "whole seconds" if release.per_second == 1 else "whole milliseconds"
        what = f"{path}, line {number}: {what}; all three are needed, the time as {unit}"
        raise DataError(what, "correct or remove the line")
    return user, item, time
