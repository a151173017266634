"""Vectors that the user brings: .npy, .npz, .safetensors, .parquet and .h5. n rows, d width, I items of the dataset.

Nothing is unpickled: arrays of Python objects are refused.
"""

from __future__ import annotations

import json
import tokenize
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.data.sources import columns
from bbqrec_cli.data.sources.files import as_id, id_text
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.hdf5 import Arrays, read_features
from bbqrec_cli.hdf5.schema import FORMAT
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import Feature, Vocabulary

if TYPE_CHECKING:
    import polars as pl

NAME = "own vectors"
"""What files name the encoder of such features."""
SUFFIXES = (".npy", ".npz", ".safetensors", ".parquet", ".h5", ".hdf5")
ID_NAMES = ("ids", "id", "item_ids", "item_id", "items", "asins", "keys", *columns.ITEM_ID)
"""Usual names of an array of ids, the best first; case, `_`, `-` and spaces do not count."""
SURE_NAMES = ("ids", "item_ids", "item_id")
"""Names that go before the other ones. Another number of such ids is an error."""
INDEX = "__index_level_"
"""Begins what pandas calls an index without a name: ids, or numbers of the rows of an earlier table."""
NUMBERS, IDS = "fiu", "iuUS"
"""NumPy's kinds: of vectors, and of ids."""
NAMED = 10
"""Rows that errors name, at most."""
HEADER_ERRORS = (ValueError, TypeError, SyntaxError, EOFError, OSError, OverflowError, tokenize.TokenError)
"""What numpy raises on a damaged file: it reads headers as Python's literals."""
ARCHIVE_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, *HEADER_ERRORS)
"""What may be raised by an archive of such files: an unknown version, a password, damaged bytes."""
_OBJECTS = "holds Python objects, which bbqrec does not unpickle"


@dataclass(frozen=True)
class Found:
    """An array of a file, not yet read: its shape and NumPy kind."""

    shape: tuple[int, ...]
    kind: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True, eq=False)
class Vectors:
    """values (n, d); ids: of each row, None if the file holds none; present (n,) bool: the rows that count; encoder:
    what made them, if it is known; ids_array: what the file calls its ids."""

    values: np.ndarray
    ids: list[str] | None
    present: np.ndarray
    encoder: str = NAME
    ids_array: str = ""


def to_feature(
    path: Path, name: str, array: str, item_ids: Vocabulary, given_ids: Sequence[str] | None, progress: Progress
) -> Feature:
    """The vectors of a file as a feature of the items of a dataset.

    Args:
        name: the feature's name.
        array: which array of the file; '': the only table, or the one of the feature's name.
        given_ids: the id of each row, for a file that holds none; without either, the rows are in the dataset's order.

    Raises:
        DataError: the file cannot be read; what it holds is no table of numbers; rows, ids and items do not agree;
            an item has two rows; NaN or infinity.
        UsageError: `given_ids` are not those that the file holds.
        MissingFileError: no such file.
    """
    found = read_vectors(path, name, array)
    if given_ids is not None and found.ids is not None and found.ids != list(given_ids):
        raise UsageError(
            f"--ids: {path} holds other ids of its own ({found.ids_array})",
            "leave --ids out; or, if these are no ids, give a file with the vectors alone",
        )
    count, ids = len(found.values), found.ids if found.ids is not None else given_ids
    if ids is None:
        if count != len(item_ids):
            raise DataError(
                f"{path}: {count:,} rows without ids, and the dataset has {len(item_ids):,} items",
                "give the id of each row with --ids, one a line",
            )
        progress.warn(f"{name}: {path} holds no ids: its rows are taken as the items in the order of the dataset")
        rows = np.arange(count)
    else:
        if len(ids) != count:
            raise DataError(f"{path}: {count:,} rows, but {len(ids):,} ids", "one id a row is needed")
        twice = next((each for each, times in Counter(ids).items() if times > 1), None)
        if twice is not None:
            first, second = [row for row, each in enumerate(ids) if each == twice][:2]
            raise DataError(f"{path}: the id {twice!r} has two rows, {first} and {second}", "one row an item is needed")
        rows = item_ids.rows(ids)
        _say_unknown(path, name, ids, rows, progress)
    there = found.present & (rows >= 0)
    values = np.zeros((len(item_ids), found.values.shape[1]), dtype=np.float32)
    with np.errstate(over="ignore"):  # infinity is found below
        values[rows[there]] = found.values[there]
    bad = np.flatnonzero(there)[~np.isfinite(values[rows[there]]).all(axis=1)]
    if len(bad):
        which = ", ".join(f"{row} (item {item_ids[rows[row]]!r})" for row in bad[:NAMED])
        more = f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
        raise DataError(
            f"{path}: NaN or infinity in {len(bad):,} of {count:,} rows, from 0: {which}{more}",
            "correct them, or leave out the rows of items that have no vector",
        )
    present = np.zeros(len(item_ids), dtype=bool)
    present[rows[there]] = True
    return Feature(values=values, present=present, encoder=found.encoder)


def _say_unknown(path: Path, name: str, ids: Sequence[str], rows: np.ndarray, progress: Progress) -> None:
    unknown = np.flatnonzero(rows < 0)
    if len(unknown) == len(rows):
        raise DataError(f"{path}: none of its {len(rows):,} ids, such as {ids[0]!r}, is an item of the dataset")
    if len(unknown):
        first = ", ".join(repr(ids[row]) for row in unknown[:3])
        progress.warn(
            f"{name}: {len(unknown):,} of {len(rows):,} ids of {path} are no items of the dataset and left out: {first}"
            + (", …" if len(unknown) > 3 else "")
        )


def read_ids(path: Path) -> list[str]:
    """One id a line. Raises: MissingFileError; DataError: an empty line, or not UTF-8."""
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file", "--ids names a file with one id a line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error})") from None
    ids = list(map(as_id, lines))
    if "" in ids:
        raise DataError(f"{path}, line {ids.index('') + 1}: empty; an id is needed")
    return ids


def read_vectors(path: Path, name: str, array: str = "") -> Vectors:
    """The table of numbers in a file, with the ids of its rows if it holds them. Raises: as `to_feature`."""
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file", f"--vectors {name}=FILE, one of {', '.join(SUFFIXES)}")
    readers = {
        ".npy": _npy, ".npz": _npz, ".safetensors": _safetensors, ".parquet": _parquet, ".h5": _hdf5, ".hdf5": _hdf5,
    }  # fmt: skip
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: a file of another kind; one of {', '.join(SUFFIXES)} is needed")
    if path.suffix.lower() in (".h5", ".hdf5") and Arrays(path).format == FORMAT:
        return _of_features_file(path, array or name)
    arrays = readers[path.suffix.lower()](path)
    chosen = _choose(path, name, array, arrays)
    values = arrays[chosen].read()
    ids = _choose_ids(path, arrays, chosen, len(values))
    present = np.ones(len(values), dtype=bool)
    return Vectors(values, _as_ids(path, arrays[ids].read()) if ids else None, present, ids_array=ids)


def _of_features_file(path: Path, name: str) -> Vectors:
    made = read_features(path)
    if name not in made.features:
        there = ", ".join(made.features) or "none"
        raise DataError(f"{path}: a features file without the feature {name!r}; it has {there}", "--vectors NAME=FILE")
    feature = made.features[name]
    items = list(made.catalogue.item_ids)
    return Vectors(feature.values, items, feature.present, feature.encoder or NAME, ids_array="items/id")


def _choose(path: Path, name: str, array: str, arrays: dict[str, Found]) -> str:
    """The array that holds the vectors. Raises: DataError: none does, or several do."""
    tables = [key for key, each in arrays.items() if len(each.shape) == 2 and each.kind in NUMBERS]
    if array and array not in arrays:
        raise DataError(
            f"{path}: holds no {array!r}{did_you_mean(array, arrays)}, but {', '.join(arrays) or 'nothing'}"
        )
    called = [array] if array else [key for key in tables or arrays if key.rpartition("/")[2] == name]
    if len(called) != 1 and len(tables) > 1:
        hint = f"say which one: --vectors {name}={path}:{tables[0]}"
        raise DataError(f"{path}: holds several tables, {', '.join(tables)}, and not one called {name!r}", hint)
    chosen = called[0] if len(called) == 1 else tables[0] if tables else next(iter(arrays), None)
    if chosen is None:
        raise DataError(f"{path}: holds nothing; a table of numbers (items, width) is needed")
    found, needed = arrays[chosen], "a table of numbers (items, width) is needed"
    label = f"{path}: {chosen} " if chosen else f"{path}: "  # a .npy file is its only array
    if found.kind == "O":
        raise DataError(f"{label}{_OBJECTS}", "save numbers alone: np.save(…, np.stack(vectors))")
    if len(found.shape) != 2 or 0 in found.shape:
        shape = "one-dimensional" if len(found.shape) == 1 else f"of shape {found.shape}"
        raise DataError(f"{label}is {shape}; {needed}")
    if found.kind not in NUMBERS:
        raise DataError(f"{label}holds {_KINDS.get(found.kind, 'no numbers')}; {needed}")
    return chosen


_KINDS = {"b": "true and false", "c": "complex numbers", "U": "text", "S": "text", "V": "records"}


def _choose_ids(path: Path, arrays: dict[str, Found], vectors: str, count: int) -> str:
    """The array that holds the ids of the rows of `vectors`: one of a usual name, else the only one of texts, else the
    index; '' for none. It is looked for beside the vectors, then in the groups around them, then everywhere.

    Raises: DataError: several of usual names say other ids, or one has another number of rows.
    """
    group, ids = vectors, ""
    while group and not ids:
        group = group.rpartition("/")[0]
        beside = {key: each for key, each in arrays.items() if key != vectors and key.rpartition("/")[0] == group}
        ids = _ids_among(path, beside, vectors, count)
    # Elsewhere, those of another number are another table's.
    there = {key: each for key, each in arrays.items() if key != vectors and each.shape and each.shape[0] == count}
    return ids or _ids_among(path, there, vectors, count)


def _ids_among(path: Path, arrays: dict[str, Found], vectors: str, count: int) -> str:
    there = [key for key, each in arrays.items() if each.shape in ((count,), (count, 1))]
    sure = {key: each for key, each in arrays.items() if key.rpartition("/")[2] in SURE_NAMES}
    named = [key for key in there if key in sure] or [key for key in there if _is_named_ids(key)]
    if len(named) > 1 and len({tuple(_as_ids(path, arrays[key].read())) for key in named}) > 1:
        what = f"{path}: {' and '.join(named)} may be the ids of {vectors}, and differ"
        raise DataError(what, "keep one of them, or call the right one item_id")
    if named:
        return named[0]
    for key, each in sure.items():
        if each.shape and each.kind in IDS:
            what = f"{path}: {key} has {each.shape[0]:,} ids, and {vectors} {count:,} rows"
            raise DataError(what, "one id a row is needed")
    texts = [key for key in there if arrays[key].kind in "US"]
    index = [key for key in there if key.startswith(INDEX)]
    return texts[0] if len(texts) == 1 else index[0] if len(index) == 1 else ""


def _is_named_ids(key: str) -> bool:
    return columns.usual([key.rpartition("/")[2]], ID_NAMES) is not None


def _is_number(name: str) -> bool:
    """Whether a column of numbers is one of the vectors', not of ids: no name of ids and no index."""
    return not _is_named_ids(name) and not name.startswith(INDEX)


def _as_ids(path: Path, ids: np.ndarray) -> list[str]:
    ids = ids.ravel()
    if ids.dtype.kind not in IDS:
        what = _OBJECTS if ids.dtype.kind == "O" else f"are of type {ids.dtype}"
        raise DataError(f"{path}: its ids: {what}; text or integers are needed", "save them as text: ids.astype(str)")
    try:
        return [as_id(each.decode() if isinstance(each, bytes) else str(each)) for each in ids.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: its ids are not UTF-8 ({error})") from None


def _npy(path: Path) -> dict[str, Found]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Python 2 wrote it
            values = np.lib.format.open_memmap(path, mode="r")
    except HEADER_ERRORS as error:
        if "Python objects" in str(error):
            return {"": Found((), "O", lambda: np.empty(0))}
        raise DataError(f"{path}: not a .npy file, or a damaged one ({error})") from None
    return {"": Found(values.shape, values.dtype.kind, lambda: values)}


def _npz(path: Path) -> dict[str, Found]:
    made = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for each in archive.namelist():
                with archive.open(each) as stream:
                    version = np.lib.format.read_magic(stream)
                    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else _header_2_0
                    shape, _, dtype = header(stream)
                made[each.removesuffix(".npy")] = Found(shape, dtype.kind, lambda each=each: _member(path, each))  # type: ignore[misc]
    except ARCHIVE_ERRORS as error:
        raise DataError(f"{path}: not a .npz file, or a damaged one ({error})") from None
    return made


_header_2_0 = np.lib.format.read_array_header_2_0


def _member(path: Path, name: str) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except ARCHIVE_ERRORS as error:
        what = f"{name.removesuffix('.npy')} {_OBJECTS}" if "Object arrays" in str(error) else f"{name}: {error}"
        hint = "save ids as text: np.savez(…, ids=np.array(ids, dtype=str))"
        raise DataError(f"{path}: {what}", hint) from None


def _safetensors(path: Path) -> dict[str, Found]:
    from safetensors import SafetensorError, safe_open

    def read(name: str) -> np.ndarray:
        with safe_open(path, framework="pt") as file:
            tensor = file.get_tensor(name)
        return tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()

    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            names = {name: (tuple(each.get_shape()), each.get_dtype()) for name, each in slices.items()}
            ids = _ids_of_metadata(path, (file.metadata() or {}).get("ids"))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a .safetensors file, or a damaged one ({error})") from None
    kinds = {"F": "f", "B": "f", "I": "i", "U": "u"}
    return ids | {
        name: Found(shape, "b" if kind == "BOOL" else kinds.get(kind[0], "V"), lambda name=name: read(name))  # type: ignore[misc]
        for name, (shape, kind) in names.items()
    }


def _ids_of_metadata(path: Path, text: str | None) -> dict[str, Found]:
    """What `export --to safetensors` keeps there, as JSON, since such a file has no arrays of texts."""
    if text is None:
        return {}
    try:
        ids = json.loads(text)
    except ValueError:
        ids = None
    if not isinstance(ids, list) or not all(id_text(each) for each in ids):
        raise DataError(f"{path}: the ids in its metadata are no JSON list of ids", "correct them, or leave them out")
    return {"ids": Found((len(ids),), "U", lambda: np.array(list(map(str, ids)), dtype=str))}


def _hdf5(path: Path) -> dict[str, Found]:
    arrays = Arrays(path)
    return {
        name: Found(shape, kind, lambda name=name: arrays.read(name))  # type: ignore[misc]
        for name, (shape, kind) in arrays.shapes.items()
    }


def _parquet(path: Path) -> dict[str, Found]:
    from bbqrec_cli.data.sources.typed import damage_of, scan

    with damage_of(path):
        table = scan(path).collect()
    made = {column.name: _column(path, column) for column in table.iter_columns()}
    wide = [name for name, kind in table.schema.items() if kind.is_numeric() and _is_number(name)]
    if wide and not any(len(each.shape) == 2 and each.kind in NUMBERS for each in made.values()):
        # A column a number.
        stacked = table.select(wide).to_numpy()
        made = {name: each for name, each in made.items() if name not in wide}
        made[f"{len(wide)} columns"] = Found(stacked.shape, stacked.dtype.kind, lambda: stacked)
    return made


def _column(path: Path, column: pl.Series) -> Found:
    """A column of a Parquet file: lists as a table, others as ids. What is wrong with it is said when it is read."""
    import polars as pl

    kind = column.dtype
    if isinstance(kind, (pl.List, pl.Array)):
        return _lists(path, column, kind.inner)

    def read() -> np.ndarray:
        if gaps := column.null_count():
            raise DataError(f"{path}: {gaps} rows have no {column.name}", "leave such rows out")
        if kind.is_numeric():
            return column.to_numpy()
        return np.array(column.to_list(), dtype=bytes if kind == pl.Binary else str)

    return Found((len(column),), _kind_of(kind), read)


def _lists(path: Path, column: pl.Series, inner: Any) -> Found:
    """A column of lists, all of one width if it is a table of vectors."""
    import polars as pl

    lengths = (column.list if column.dtype == pl.List else column.arr).len()
    widths = lengths.drop_nulls().unique()

    def read() -> np.ndarray:
        if column.null_count() or len(widths) != 1:
            what = "rows without a vector" if column.null_count() else f"vectors of {len(widths)} widths"
            raise DataError(f"{path}: the column {column.name} has {what}", "leave such rows out")
        return (column.list.to_array(widths[0]) if column.dtype == pl.List else column).to_numpy()

    return Found((len(column), int(widths.max() or 0)), _kind_of(inner), read)  # type: ignore[arg-type]


def _kind_of(kind: Any) -> str:
    """NumPy's kind of what a type of polars holds; 'V' for values that are made of others."""
    import polars as pl

    if kind.is_nested() or kind.is_numeric():
        return "V" if kind.is_nested() else "i" if kind.is_integer() else "f"
    return {pl.Boolean: "b", pl.Binary: "S"}.get(kind.base_type(), "U")
