"""The metadata of Amazon's releases: one cleaned form of what each of them calls differently."""

from __future__ import annotations

import ast
import html
import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from bbqrec_cli.data.sources.files import as_id, lines
from bbqrec_cli.errors import DataError
from bbqrec_cli.progress import Progress, counted

_SCRIPT = re.compile(
    r"\bvar \w+ ?=|\bgetTime\(|\bfunction ?\w*\([\w, ]*\) ?\{|\$\([\"'#.]|\b(?:window|document)\.[a-z]\w*[=(.]"
    r"|\{[^{}]*:[^{}]*;[^{}]*\}"
)
"""JavaScript and style sheets, which stand in some cells of the 2018 release instead of a title or a brand."""


def read_metadata(
    path: Path, wanted: set[str], progress: Progress, *, repeats: bool = False
) -> dict[str, dict[str, Any]]:
    """Item -> title, brand, category, features, description and image_url of the wanted items; '' or [] is missing.

    Args:
        repeats: whether items may have several lines, of which the first counts.

    Raises:
        DataError: a malformed line; without `repeats`, an item with two.
    """
    found: dict[str, dict[str, Any]] = {}
    number_of: dict[str, int] = {}
    again = scripts = 0
    with progress.task("metadata", None) as task:
        for number, line in counted(lines(path), task):
            row = record(path, number, line)
            item = as_id(str(row.get("parent_asin") or row.get("asin") or ""))
            if not item:
                what = f"{path}, line {number}: no asin among its fields {', '.join(map(str, row)) or '(none)'}"
                raise DataError(what, "correct or remove the line")
            if item in number_of:
                if not repeats:
                    what = f"{path}, line {number}: item {item!r} has line {number_of[item]} already"
                    raise DataError(what, "keep one line per item")
                again += 1
                continue
            number_of[item] = number
            if item in wanted:
                found[item] = cleaned(row)
                scripts += any(_SCRIPT.search(plain_text(row.get(name))) is not None for name in ("title", "brand"))
    if left := len(number_of) - len(found):
        progress.log(f"{path.name}: {left:,} entries are left out: their items have no interactions among those kept")
    if again:
        progress.log(f"{path.name}: {again:,} lines repeat an item and are left out; the first line of each counts")
    if scripts:
        progress.warn(f"{path.name}: {scripts:,} items have a script instead of a title or brand, which is left out")
    return found


def cleaned(row: dict[str, Any]) -> dict[str, Any]:
    """The kept fields of an item's metadata, as any of the releases writes them."""
    details = row.get("details")
    details = details if isinstance(details, dict) else {}
    brand = row.get("brand") or row.get("store") or details.get("Brand") or details.get("Manufacturer")
    return {
        "title": _name(row.get("title")),
        "brand": _name(brand),
        "category": _categories(row),
        "features": _several(row.get("features") or row.get("feature")),
        "description": plain_text(row.get("description")),
        "image_url": picture_address(row),
    }


def _categories(row: dict[str, Any]) -> list[str]:
    """The distinct parts of the paths from coarse to fine (2014), or the one path (2018, 2023)."""
    paths = row.get("categories") or row.get("category") or row.get("main_category") or []
    nested = [path if isinstance(path, list) else [path] for path in (paths if isinstance(paths, list) else [paths])]
    return _several([part for path in nested for part in path])


def _several(values: Any) -> list[str]:
    listed = values if isinstance(values, list) else [values]
    return list(dict.fromkeys(filter(None, map(_name, listed))))


def _name(value: Any) -> str:
    """Plain text, '' for scripts."""
    plain = plain_text(value)
    return "" if _SCRIPT.search(plain) else plain


def picture_address(row: dict[str, Any]) -> str:
    """The address of an item's main picture, '' without: `imUrl` (2014), `imageURLHighRes` or `imageURL` (2018), the
    main one of `images` at its large size (2023, a list of objects or an object of lists)."""
    images = row.get("images")
    if isinstance(images, dict):
        names = [name for name, values in images.items() if isinstance(values, list)]
        images = [dict(zip(names, each, strict=False)) for each in zip(*(images[name] for name in names), strict=False)]
    listed = [each for each in images if isinstance(each, dict)] if isinstance(images, list) else []
    listed.sort(key=lambda each: each.get("variant") != "MAIN")
    candidates = [each.get(size) for each in listed[:1] for size in ("large", "hi_res", "thumb")]
    for name in ("imageURLHighRes", "imageURL", "imUrl"):
        value = row.get(name)
        candidates += value if isinstance(value, list) else [value]
    return next((each for each in candidates if isinstance(each, str) and each.startswith(("http://", "https://"))), "")


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
    source = html.unescape(" ".join(map(str, value)) if isinstance(value, list) else str(value))
    try:
        parts = _parts(source)
    except AssertionError:  # <![ that begins nothing HTML knows
        parts = _parts(source.replace("<![", "&lt;!["))
    return " ".join("".join(parts).replace("\0", " ").split())


def _parts(source: str) -> list[str]:
    parser = _Text()
    parser.feed(source)
    parser.close()
    return parser.parts
