"""Reading raw files: text that may be gzipped, tables of items, folders of pictures. Errors carry file and line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bbqrec_cli.errors import DataError, MissingFileError
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import LIST_SEPARATOR

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
PICTURE_FOLDERS = ("images", "pictures", "posters")
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_ID_FIELDS = ("id", "item_id", "asin")


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """A UTF-8 text file, gzipped or not; what is wrong with its bytes becomes a DataError.

    Raises:
        MissingFileError: no such file.
        DataError: not UTF-8; not gzip in spite of its name; truncated or damaged gzip.
    """
    if not path.is_file():
        what = "is a folder; a file is needed" if path.is_dir() else "no such file"
        raise MissingFileError(f"{path}: {what}")
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as stream:  # type: ignore[arg-type]
                yield stream
        else:
            with open(path, encoding="utf-8-sig", newline="") as stream:
                yield stream
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({_where(error)})", f"iconv -t UTF-8 {path} > converted") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error})", "fetch or copy it again") from error


def _where(error: UnicodeDecodeError) -> str:
    """The bad byte and what stands before it, since decoding in blocks hides the line."""
    before = error.object[max(0, error.start - 40) : error.start].decode("utf-8", errors="replace")
    return f"byte 0x{error.object[error.start]:02x} after {before!r}"


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of the lines that are not blank. Raises: those of `open_text`."""
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            if stripped := line.strip():
                yield number, stripped


def table_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of a CSV or, if '.tsv' is in its name, TSV file; the header first, blank lines left out.

    Raises:
        DataError: broken quoting, a row of another width than the header; and the errors of `open_text`.
    """
    with open_text(path) as stream:
        reader = csv.reader(stream, delimiter="\t" if ".tsv" in path.name else ",", strict=True)
        width = 0
        try:
            for row in reader:
                if not row:
                    continue
                width = width or len(row)
                if len(row) != width:
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(row)} columns; the header has {width}",
                        "quote cells that hold the separator",
                    )
                yield reader.line_num, row
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: not a readable table ({error})") from error


def as_field(value: Any) -> str:
    """A field's value as text, spaces folded; lists (of lists) are joined by LIST_SEPARATOR; None and NaN are missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, (list, tuple)):
        return LIST_SEPARATOR.join(filter(None, map(as_field, value)))
    return " ".join((json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)).split())


def fields_of(item_ids: list[str], known: dict[str, dict[str, Any]], progress: Progress) -> dict[str, list[str]]:
    """name -> one string an item, for every field that any of the items has; says what is missing or left over."""
    without = sum(item not in known for item in item_ids)
    if without:
        progress.warn(f"{without:,} of {len(item_ids):,} items have no entry in the items file: no title, no text")
    if left := len(known) - (len(item_ids) - without):
        progress.log(f"{left:,} entries of the items file are left out: nobody who is kept took them")
    rows = [known.get(item, {}) for item in item_ids]
    names = dict.fromkeys(name for row in rows for name in row if name)
    # '/' would make groups in the HDF5 file.
    return {name.replace("/", "_"): [as_field(row.get(name)) for row in rows] for name in names}


def read_items(path: Path, *, id_column: str) -> dict[str, dict[str, Any]]:
    """Item id -> fields, from CSV, TSV, JSON lines (.jsonl, .ndjson) or one JSON object (id -> fields), gzipped or not.

    The id of a table's or a JSON line's item stands in `id_column`, or else in id, item_id or asin.

    Raises:
        DataError: a malformed line, a line without id, an id that appears twice; with file and line.
    """
    name = path.name.removesuffix(".gz")
    if not name.endswith((".csv", ".tsv", ".jsonl", ".ndjson")):
        return _json_object(path)
    found: dict[str, dict[str, Any]] = {}
    for number, row in _table_items(path) if name.endswith((".csv", ".tsv")) else _json_lines(path):
        key = next((k for k in (id_column, *_ID_FIELDS) if as_field(row.get(k))), None)
        if key is None:
            names = ", ".join(dict.fromkeys((id_column, *_ID_FIELDS)))
            raise DataError(f"{path}, line {number}: no item id; one of the fields {names} is needed", "--item-column")
        item = as_field(row.pop(key))
        if item in found:
            raise DataError(f"{path}, line {number}: item {item!r} appears twice", "keep one line an item")
        found[item] = row
    return found


def _table_items(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = table_rows(path)
    _, header = next(rows, (0, []))
    yield from ((number, dict(zip(header, row, strict=True))) for number, row in rows)


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: an object is needed")
        yield number, row


def _json_object(path: Path) -> dict[str, dict[str, Any]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise DataError(f"{path}: the key {twice!r} appears twice in one object", "keep one entry an item")
        return found

    try:
        with open_text(path) as stream:
            found = json.load(stream, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        hint = "if it holds one object a line, call it .jsonl" if error.msg == "Extra data" else ""
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg})", hint) from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds a {type(found).__name__}; an object of item id -> fields is needed")
    for item, row in found.items():
        if not isinstance(row, dict):
            raise DataError(f"{path}: the entry of item {item!r} is no object of fields")
    return found


def find_file(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path | None:
    """`folder/stem.suffix` for the one suffix that is there, or None.

    Raises:
        DataError: several are there.
    """
    found = [path for suffix in suffixes if (path := folder / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        raise DataError(f"{folder}: holds {' and '.join(p.name for p in found)}; which one is meant?", "name the file")
    return found[0] if found else None


def find_pictures(folder: Path | None) -> Path | None:
    """The folder of pictures inside a data folder, if there is one."""
    return next((folder / name for name in PICTURE_FOLDERS if (folder / name).is_dir()), None) if folder else None


def list_pictures(folder: Path) -> dict[str, Path]:
    """Item id -> picture, for a folder of pictures named by item id.

    Raises:
        MissingFileError: no such folder.
        DataError: no picture in it; two of one item.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder of pictures")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES and not path.name.startswith("."):
            if path.stem in found:
                raise DataError(f"{folder}: two pictures of one item, {found[path.stem].name} and {path.name}")
            found[path.stem] = path
    if not found:
        raise DataError(f"{folder}: holds no pictures ({', '.join(PICTURES)})")
    return found


def read_pictures(pictures: dict[str, Path], item_ids: list[str], progress: Progress) -> list[bytes]:
    """The encoded picture of each item, b'' where there is none; says what is missing or left over."""
    gone = [item for item in item_ids if item in pictures and not pictures[item].is_file()]
    if gone:
        progress.warn(f"{len(gone):,} pictures are not there and count as missing, the first: {pictures[gone[0]]}")
    if left := len(pictures.keys() - set(item_ids)):
        progress.log(
            f"{left:,} pictures are left out: their items are not in the data, or nobody who is kept took them"
        )
    kept = {item: pictures[item] for item in set(item_ids) & pictures.keys() - set(gone)}
    return [kept[item].read_bytes() if item in kept else b"" for item in item_ids]
