"""Amazon's 2014 release: reviews_X(_5).json.gz, meta_X.json.gz and image_features_X.b (McAuley et al., SIGIR 2015)."""

from __future__ import annotations

import ast
import html
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.data.sources.base import Interactions, Items, Options, by_user
from bbqrec_cli.data.sources.files import fields_of, find_pictures, lines, list_pictures, read_pictures
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import Feature

ASIN, WIDTH = 10, 4096
"""Bytes of an ASIN and numbers of an item in the visual features file."""
ENCODER = "amazon-2014-cnn-4096"


class Amazon:
    """PATHS: a folder or files; the reviews are needed, the metadata and the visual features taken if they are there.

    `minimum` is 5 for the whole reviews_X and 0 for reviews_X_5, which went through it already.

    Raises:
        UsageError: no reviews, or several files of a sort.
        MissingFileError: a path that does not exist.
    """

    def __init__(self, paths: list[Path], options: Options, progress: Progress) -> None:
        for path in paths:
            if not path.exists():
                raise MissingFileError(f"{path}: no such file or folder")
        given = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
        reviews = _only(given, "reviews_")
        if reviews is None:
            hint = "bbqrec prepare amazon FOLDER, or the names of the files"
            raise UsageError("prepare amazon found no reviews_X_5.json.gz or reviews_X.json.gz", hint)
        self._reviews, self._metadata = reviews, options.items or _only(given, "meta_")
        self._vectors = _only(given, "image_features_")
        folder = next((path for path in paths if path.is_dir()), None)
        self._images, self._progress = options.images or find_pictures(folder), progress
        self.minimum = 0 if reviews.name.split(".")[0].endswith("_5") else 5
        self.files = [file for file in (self._reviews, self._metadata, self._vectors) if file]

    def interactions(self) -> Interactions:
        """Each user's by unixReviewTime; equal times (the release knows the day only) keep the file's order.

        Raises:
            DataError: a line that is neither JSON nor a Python literal, or lacks a field; an empty file.
        """
        users, items, times = [], [], []
        for number, line in lines(self._reviews):
            row = record(self._reviews, number, line)
            user, item, time = (row.get(name) for name in ("reviewerID", "asin", "unixReviewTime"))
            if not (user and item) or not isinstance(time, int) or time < 0:
                what = f"reviewerID is {user!r}, asin {item!r}, unixReviewTime {time!r}"
                raise DataError(f"{self._reviews}, line {number}: {what}; all three are needed, the time as seconds")
            users.append(str(user))
            items.append(str(item))
            times.append(time)
        if not users:
            raise DataError(f"{self._reviews}: no reviews in it")
        return by_user(users, items, times)

    def items(self, item_ids: list[str]) -> Items:
        """Cleaned metadata and ready image features (or pictures of a folder named by ASIN) of the kept items."""
        fields, features, images = {}, {}, []
        if self._metadata:
            fields = fields_of(item_ids, read_metadata(self._metadata, set(item_ids)), self._progress)
        if self._vectors:
            features["image"] = read_image_features(self._vectors, item_ids, self._progress)
        if self._images:
            images = read_pictures(list_pictures(self._images), item_ids, self._progress)
        return Items(fields=fields, images=images, features=features)


def _only(files: list[Path], start: str) -> Path | None:
    found = [file for file in files if file.name.startswith(start)]
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UsageError(f"prepare amazon found several files of a sort: {names}", "name the files that are meant")
    return found[0] if found else None


def read_metadata(path: Path, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """asin -> title, brand, category and description of the wanted items, without HTML; missing fields are left out.

    Raises:
        DataError: a malformed line; an ASIN that appears twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for number, line in lines(path):
        row = record(path, number, line)
        asin = row.get("asin")
        if not asin:
            raise DataError(f"{path}, line {number}: no asin")
        if asin in found:
            raise DataError(f"{path}, line {number}: item {asin!r} appears twice", "keep one line an item")
        if asin in wanted:
            # categories: a list of paths, coarse to fine; their distinct parts are kept
            nested = [part if isinstance(part, list) else [part] for part in row.get("categories") or []]
            found[asin] = {
                "title": plain_text(row.get("title")),
                "brand": plain_text(row.get("brand")),
                "category": list(dict.fromkeys(plain_text(part) for parts in nested for part in parts)),
                "description": plain_text(row.get("description")),
            }
    return found


def record(path: Path, number: int, line: str) -> dict[str, Any]:
    """One line: JSON, or (the metadata) a Python literal, which is parsed and never run.

    Raises:
        DataError: neither, or no object.
    """
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        try:
            row = ast.literal_eval(line)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: neither JSON nor a Python literal: {line[:60]!r}") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: holds a {type(row).__name__}; an object of fields is needed")
    return row


class _Text(HTMLParser):
    """What a reader of the page would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._hidden = tag in ("script", "style")
        self.parts.append(" ")  # <br> and <li> part words

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        self.parts.append(" ")


def plain_text(value: Any) -> str:
    """Without tags, scripts and character references (the release escapes some texts twice), spaces folded."""
    if not value:
        return ""
    parser = _Text()
    parser.feed(html.unescape(" ".join(map(str, value)) if isinstance(value, list) else str(value)))
    parser.close()
    return " ".join("".join(parser.parts).replace("\0", " ").split())


def read_image_features(path: Path, item_ids: list[str], progress: Progress) -> Feature:
    """The 4,096 numbers of each of the items; the file (often many GB) is read record by record.

    Raises:
        MissingFileError: no such file.
        DataError: a truncated record, one that does not start with an ASIN, NaN.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    rows = {item: row for row, item in enumerate(item_ids)}
    values, present = np.zeros((len(item_ids), WIDTH), dtype=np.float32), np.zeros(len(item_ids), dtype=bool)
    size = ASIN + 4 * WIDTH
    with open(path, "rb") as stream, progress.task("visual features", path.stat().st_size // size) as task:
        number = 0
        while blob := stream.read(size):
            number += 1
            if len(blob) < size:
                what = f"{path}, record {number}: truncated, {len(blob):,} of {size:,} bytes"
                raise DataError(what, "fetch or copy the file again")
            asin = blob[:ASIN].decode("ascii", errors="replace").strip()
            if not asin.isalnum():
                what = f"{path}, record {number}: starts with {blob[:ASIN]!r}, which is no ASIN"
                raise DataError(what, f"records of {ASIN} bytes of ASIN and {WIDTH:,} little-endian float32 are needed")
            if asin in rows:
                values[rows[asin]] = np.frombuffer(blob, dtype="<f4", offset=ASIN)
                present[rows[asin]] = True
            task.advance()
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DataError(f"{path}: NaN or infinity in the record of item {item_ids[bad[0]]!r}", "fetch the file again")
    return Feature(values=values, present=present, encoder=ENCODER)
