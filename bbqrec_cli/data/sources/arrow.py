"""Hugging Face data sets and Parquet files on disk, read with pyarrow. n rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bbqrec_cli.errors import BrokenFileError, DataError, MissingFileError, MissingPackageError

ORDER = ("train", "training", "validation", "valid", "val", "dev", "test")
"""Names of splits, in the order of time."""
ITEMS = ("items", "item", "item_metadata", "metadata", "meta")
"""Names of a split or file that describes items."""


def import_pyarrow() -> Any:
    """Import pyarrow. Raises: MissingPackageError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        what = "Parquet and Arrow files need pyarrow, which is not installed"
        raise MissingPackageError(what, "pip install 'bbqrec[parquet]'") from error
    return pyarrow


def splits_of(path: Path) -> dict[str, list[Path]]:
    """Name of a split -> its files, those of users in the order of time.

    A folder of `save_to_disk` (dataset_dict.json, or state.json), of Parquet files, or one file.

    Raises:
        MissingFileError: nothing of the kind.
        DataError: splits whose order is not known.
    """
    if path.is_file():
        return {"train": [path]}
    if (path / "dataset_dict.json").is_file():
        names = _json(path / "dataset_dict.json").get("splits")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BrokenFileError(f"{path / 'dataset_dict.json'}: no list of splits", "save_to_disk writes one")
        found = {name: _saved(path / name) for name in names}
    elif (path / "state.json").is_file():
        found = {"train": _saved(path)}
    else:
        found = {}
        for each in sorted(path.rglob("*.parquet")):
            # train-00000-of-00002.parquet, train/0000.parquet, interactions.parquet
            stem = each.stem.split("-")[0]
            name = each.parent.name if stem.isdecimal() and each.parent != path else stem
            found.setdefault(name, []).append(each)
    if not found:
        hint = "a folder of save_to_disk, or of .parquet files, is needed"
        raise MissingFileError(f"{path}: no dataset_dict.json, state.json or .parquet in it", hint)
    of_users = [name for name in found if name not in ITEMS]
    if len(of_users) > 1 and (odd := [name for name in of_users if name not in ORDER]):
        what = f"{path}: holds {', '.join(of_users)}; the order of {', '.join(odd)} in time is not known"
        raise DataError(what, "give the file or folder of the interactions, and --items for those of the items")
    return dict(sorted(found.items(), key=lambda each: ORDER.index(each[0]) if each[0] in ORDER else len(ORDER)))


def _saved(folder: Path) -> list[Path]:
    """The Arrow files of one data set that `save_to_disk` wrote."""
    state = _json(folder / "state.json")
    if state.get("_indices_data_files"):
        raise DataError(f"{folder}: holds a selection of rows", "data.flatten_indices().save_to_disk(…) writes them")
    try:
        files = [folder / str(each["filename"]) for each in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise BrokenFileError(f"{folder / 'state.json'}: names no files", "save_to_disk writes them") from error
    for each in files:
        if each.parent != folder or not each.is_file():
            raise MissingFileError(f"{each}: no such file", f"{folder / 'state.json'} names it; copy the whole folder")
    return files


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file", "copy the whole folder of save_to_disk") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenFileError(f"{path}: not JSON ({error})", "copy it again") from error
    if not isinstance(found, dict):
        raise BrokenFileError(f"{path}: not a JSON object", "copy it again")
    return found


def schema_of(path: Path) -> Any:
    """The pyarrow schema of a file. Raises: as `batches_of`."""
    return next(_opened(path))


def batches_of(path: Path, names: list[str]) -> Iterator[Any]:
    """Record batches with the columns `names`, so that a large file is never in memory as a whole.

    Raises:
        MissingPackageError, BrokenFileError.
    """
    pieces = _opened(path, names)
    next(pieces)
    yield from pieces


def _opened(path: Path, names: list[str] | None = None) -> Iterator[Any]:
    """The schema, then the record batches."""
    pyarrow = import_pyarrow()
    try:
        if path.suffix == ".arrow":
            with pyarrow.memory_map(str(path)) as source:
                magic = bytes(source.read(6))
                source.seek(0)
                opened = pyarrow.ipc.open_file if magic == b"ARROW1" else pyarrow.ipc.open_stream
                with opened(source) as reader:
                    yield reader.schema
                    rows = range(reader.num_record_batches) if magic == b"ARROW1" else None
                    for batch in reader if rows is None else map(reader.get_batch, rows):
                        yield batch.select(names) if names else batch
        else:
            with pyarrow.parquet.ParquetFile(path) as file:
                yield file.schema_arrow
                yield from file.iter_batches(columns=names)
    except (pyarrow.ArrowException, OSError, UnicodeError) as error:
        raise BrokenFileError(f"{path}: not a readable Arrow or Parquet file ({error})", "copy it again") from error
