"""Amazon's 2014 release: reviews_X(_5).json.gz, meta_X.json.gz and image_features_X.b (McAuley et al., SIGIR 2015)."""

from __future__ import annotations

import ast
import html
import json
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.data.sources.base import Interactions, Items, by_user, without_duplicates
from bbqrec_cli.data.sources.files import fields_of, find_pictures, first_few, lines, list_pictures, read_pictures
from bbqrec_cli.data.sources.options.amazon import AmazonOptions
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import Feature, Vocabulary

ASIN, WIDTH = 10, 4096
"""Bytes of an ASIN and numbers of an item in the visual features file."""
RECORD = ASIN + 4 * WIDTH
_SHOWN_EVERY = 1000
"""Lines or records per step of a progress bar."""
ENCODER = "amazon-2014-cnn-4096"
REVIEWS, METADATA, VECTORS = "reviews_", "meta_", "image_features_"
"""How the names of the files start."""
_NAMES = "bbqrec prepare amazon FOLDER, or the files: reviews_X_5.json.gz meta_X.json.gz image_features_X.b"


class Amazon:
    """PATHS: a folder or files; reviews are required, metadata and visual features are used if present.

    `minimum` is 5 for the whole reviews_X and 0 for reviews_X_5, which is filtered already.

    Raises:
        UsageError: no reviews, or several files of one kind.
        MissingFileError: a path that does not exist.
    """

    def __init__(self, paths: list[Path], options: AmazonOptions, *, seed: int, progress: Progress) -> None:
        for path in paths:
            if not path.exists():
                raise MissingFileError(f"{path}: no such file or folder", _NAMES)
            if path.is_file() and not path.name.startswith((REVIEWS, METADATA, VECTORS)):
                raise UsageError(f"prepare amazon cannot tell what {path.name} is", _NAMES)
        given = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
        reviews = _only(given, REVIEWS)
        if reviews is None:
            where = ", ".join(map(str, paths)) or "no path was given"
            raise UsageError(f"prepare amazon found no reviews_X_5.json.gz or reviews_X.json.gz ({where})", _NAMES)
        self._reviews, self._metadata = reviews, options.items or _only(given, METADATA)
        self._vectors = _only(given, VECTORS)
        folder = next((path for path in paths if path.is_dir()), None)
        self._images, self._progress = options.images or find_pictures(folder), progress
        self._options, self._seed = options, seed
        self.minimum = 0 if reviews.name.split(".")[0].endswith("_5") else 5
        self.files = [file for file in (self._reviews, self._metadata, self._vectors) if file]

    def interactions(self) -> Interactions:
        """Each user's reviews by unixReviewTime; the release only has days, so --ties decides much.

        Raises:
            DataError: a line that is neither JSON nor a Python literal, or lacks a field; an empty file.
        """
        users, items, times = [], [], []
        with self._progress.task("reviews", None) as task:
            for number, line in lines(self._reviews):
                user, item, time = review(self._reviews, number, line)
                users.append(user)
                items.append(item)
                times.append(time)
                if number % _SHOWN_EVERY == 0:
                    task.advance(_SHOWN_EVERY)
        if not users:
            raise DataError(f"{self._reviews}: no reviews in it", "download or copy it again")
        made = by_user(users, items, times, ties=self._options.ties, seed=self._seed)
        return without_duplicates(made, self._options.duplicates, self._reviews.name, self._progress)

    def items(self, item_ids: list[str]) -> Items:
        """Cleaned metadata and ready image features (or pictures of a folder named by ASIN) of the kept items."""
        fields, features, images, pictures = {}, {}, [], dict[str, Path]()
        if self._metadata:
            known = read_metadata(self._metadata, set(item_ids), self._progress)
            fields = fields_of(item_ids, known, self._metadata, self._progress)
        if self._vectors:
            features["image"] = read_image_features(self._vectors, item_ids, self._progress)
        if self._images:
            pictures = list_pictures(self._images)
            images = read_pictures(pictures, item_ids, self._images, self._progress)
        return Items(fields=fields, images=images, pictures=[*pictures.values()], features=features)


def _only(files: list[Path], start: str) -> Path | None:
    found = [file for file in files if file.name.startswith(start)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UsageError(f"prepare amazon found several files of one kind: {names}", "name the files to read")
    return found[0] if found else None


def review(path: Path, number: int, line: str) -> tuple[str, str, int]:
    """(reviewerID, asin, unixReviewTime) of one line.

    Raises:
        DataError: a malformed line; one of the three is missing or invalid.
    """
    row = record(path, number, line)
    user, item, time = (row.get(name) for name in ("reviewerID", "asin", "unixReviewTime"))
    if not (user and item) or not isinstance(time, int) or time < 0:
        what = f"reviewerID is {user!r}, asin {item!r}, unixReviewTime {time!r}"
        what = f"{path}, line {number}: {what}; all three are needed, the time as whole seconds"
        raise DataError(what, "correct or remove the line")
    return str(user), str(item), time


def read_metadata(path: Path, wanted: set[str], progress: Progress) -> dict[str, dict[str, Any]]:
    """asin -> title, brand, category and description of the wanted items, without HTML; '' where they are missing.

    Raises:
        DataError: a malformed line; an ASIN that appears twice.
    """
    found: dict[str, dict[str, Any]] = {}
    number_of: dict[str, int] = {}
    with progress.task("metadata", None) as task:
        for number, line in lines(path):
            row = record(path, number, line)
            asin = str(row.get("asin") or "")
            if not asin:
                what = f"{path}, line {number}: no asin among its fields {', '.join(map(str, row)) or '(none)'}"
                raise DataError(what, "correct or remove the line")
            if asin in number_of:
                what = f"{path}, line {number}: item {asin!r} has line {number_of[asin]} already"
                raise DataError(what, "keep one line per item")
            number_of[asin] = number
            if asin in wanted:
                found[asin] = cleaned(row)
            if number % _SHOWN_EVERY == 0:
                task.advance(_SHOWN_EVERY)
    if left := len(number_of) - len(found):
        progress.log(f"{path.name}: {left:,} entries are left out: their items have no interactions among those kept")
    return found


def cleaned(row: dict[str, Any]) -> dict[str, Any]:
    """The kept fields of an item's metadata."""
    paths = row.get("categories") or []  # paths from coarse to fine; their distinct parts are kept
    nested = [path if isinstance(path, list) else [path] for path in (paths if isinstance(paths, list) else [paths])]
    return {
        "title": plain_text(row.get("title")),
        "brand": plain_text(row.get("brand")),
        "category": list(dict.fromkeys(plain_text(part) for path in nested for part in path)),
        "description": plain_text(row.get("description")),
    }


def record(path: Path, number: int, line: str) -> dict[str, Any]:
    """One line: JSON, or (in the metadata) a Python literal, which is parsed and never executed.

    Raises:
        DataError: neither, or not an object.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about escapes that JSON has and Python has not, such as \/
                row = ast.literal_eval(line)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            what = f"{path}, line {number}: neither JSON nor a Python literal: {line[:60]!r}"
            raise DataError(what, "correct or remove the line") from error
    if not isinstance(row, dict):
        what = f"{path}, line {number}: holds a {type(row).__name__}; an object of fields is needed"
        raise DataError(what, "correct or remove the line")
    return row


class _Text(HTMLParser):
    """The visible text of HTML."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden = tag in ("script", "style")
        self.parts.append(" ")  # <br> and <li> separate words

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        self.parts.append(" ")


def plain_text(value: Any) -> str:
    """Text without tags, scripts and character references (the release escapes some texts twice), spaces folded."""
    if not value:
        return ""
    parser = _Text()
    parser.feed(html.unescape(" ".join(map(str, value)) if isinstance(value, list) else str(value)))
    parser.close()
    return " ".join("".join(parser.parts).replace("\0", " ").split())


def read_image_features(path: Path, item_ids: list[str], progress: Progress) -> Feature:
    """The 4,096-dimensional features of the items; the file (often many GB) is read record by record.

    Raises:
        MissingFileError: no such file.
        DataError: a truncated record, one that does not start with an ASIN, NaN; none of the items in it.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file", _NAMES)
    whole, rest = divmod(path.stat().st_size, RECORD)
    if rest or not whole:
        what = f"{path}, record {whole + 1}: truncated, {rest:,} of {RECORD:,} bytes"
        raise DataError(what, "download or copy the file again")
    known = Vocabulary(item_ids)
    values, present = np.zeros((len(item_ids), WIDTH), dtype=np.float32), np.zeros(len(item_ids), dtype=bool)
    again = 0
    with open(path, "rb") as stream, progress.task("visual features", whole) as task:
        for number in range(1, whole + 1):
            asin, vector = _record(path, number, stream.read(RECORD))
            row = known.row(asin) if asin in known else None
            if row is not None and present[row]:
                again += 1
            elif row is not None:
                if not np.isfinite(vector).all():
                    what = f"{path}, record {number}: NaN or infinity in the features of item {asin!r}"
                    raise DataError(what, "download or copy the file again")
                values[row], present[row] = vector, True
            if number % _SHOWN_EVERY == 0:
                task.advance(_SHOWN_EVERY)
    _say_features(path, item_ids, present, again, progress)
    return Feature(values=values, present=present, encoder=ENCODER)


def _record(path: Path, number: int, blob: bytes) -> tuple[str, np.ndarray]:
    """ASIN and vector (4096,) of one record."""
    asin = blob[:ASIN].decode("ascii", errors="replace").strip()
    if not asin.isalnum():
        what = f"{path}, record {number}: starts with {blob[:ASIN]!r}, which is not an ASIN"
        raise DataError(what, f"records of {ASIN} bytes of ASIN and {WIDTH:,} little-endian float32 are needed")
    return asin, np.frombuffer(blob, dtype="<f4", offset=ASIN)


def _say_features(path: Path, item_ids: list[str], present: np.ndarray, again: int, progress: Progress) -> None:
    """Report what the visual features file lacks and repeats."""
    if not present.any():
        what = f"{path}: has none of the {len(item_ids):,} items; their ids look like {first_few(item_ids)}"
        raise DataError(what, "give the features of the same category as the reviews")
    if missing := int((~present).sum()):
        progress.warn(f"{path.name}: {missing:,} of {len(item_ids):,} items have no visual features")
    if again:
        progress.warn(f"{path.name}: {again:,} repeated records of items are left out")
