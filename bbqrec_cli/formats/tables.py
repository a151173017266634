"""Tables as CSV or Parquet, written batch by batch, and arrays as .npz or safetensors. n rows of a batch."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.data.sources.arrow import import_pyarrow
from bbqrec_cli.data.sources.columns import plain_name
from bbqrec_cli.data.sources.table import PICTURE_FIELDS
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.formats.items import item_fields
from bbqrec_cli.records import PARTS, Catalogue, Codes, Dataset, Feature, Metrics

ITEM_COLUMNS = ("item", "item_id", "iid", "sku")
"""Names of the column with an item's id, of which the first is taken that is no field of the items."""
PART = "part"
"""The column that says which part of a split a row is of, where the split is not leave-last-out."""
_RESULTS = {
    "user": "str", "target": "str", "rank": "int", "cold": "bool", "history_length": "int", "target_interactions": "int"
}  # fmt: skip
"""Columns of a metrics file's users that are no floats."""
_ROWS = 1 << 14
_LARGEST_HEADER = 90_000_000
"""Bytes of metadata in a safetensors file; its readers refuse 100 MB."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """A table to write.

    columns: name -> 'str', 'int', 'float', 'bool', or the width of a vector; batches: name -> n values (None: an empty
    cell), each with all columns. plain: read back by `prepare table`, so that its names must be plain.
    """

    name: str
    columns: Mapping[str, str | int]
    batches: Iterable[Mapping[str, Sequence[Any]]]
    plain: bool = False


def interactions_tables(dataset: Dataset) -> list[Table]:
    """`interactions` (user, item, timestamp, part of the split) in order, and `items` (item, title, fields, text)."""
    catalogue, fields = dataset.catalogue, item_fields(dataset)
    name = next((each for each in ITEM_COLUMNS if each not in fields), "")
    if not name:
        raise DataError(f"the items have fields called {', '.join(ITEM_COLUMNS)}; none is left for the id's column")
    times = catalogue.sequences.timestamps
    kinds: dict[str, str | int] = {"user": "str", name: "str"}
    if times is not None:
        kinds["timestamp"] = "int"
    if catalogue.sequences.parts is not None:
        kinds[PART] = "str"
    log = Table(name="interactions", columns=kinds, batches=_log(catalogue, name))
    of_items = {name: list(catalogue.item_ids), **fields}
    about = Table(name="items", columns=dict.fromkeys(of_items, "str"), batches=[of_items], plain=True)
    return [log, about]


def _log(catalogue: Catalogue, item: str) -> Iterator[dict[str, Sequence[Any]]]:
    sequences = catalogue.sequences
    users = sequences.users
    for start in range(0, max(1, len(users)), _ROWS):
        part = slice(start, start + _ROWS)
        made: dict[str, Sequence[Any]] = {"user": [catalogue.user_ids[user] for user in users[part].tolist()]}
        made[item] = [catalogue.item_ids[row] for row in sequences.items[part].tolist()]
        if sequences.timestamps is not None:
            made["timestamp"] = sequences.timestamps[part].tolist()
        if sequences.parts is not None:
            made[PART] = [PARTS[each] for each in sequences.parts[part].tolist()]
        yield made


def features_tables(catalogue: Catalogue, features: Mapping[str, Feature]) -> list[Table]:
    """A table (item, vector) per modality; items without it are left out."""
    return [
        Table(name=name, columns={"item": "str", "vector": each.values.shape[1]}, batches=_vectors(catalogue, each))
        for name, each in features.items()
    ]


def _vectors(catalogue: Catalogue, feature: Feature) -> Iterator[dict[str, Sequence[Any]]]:
    rows = np.flatnonzero(feature.present)
    for start in range(0, max(1, len(rows)), _ROWS):
        part = rows[start : start + _ROWS]
        yield {"item": [catalogue.item_ids[row] for row in part.tolist()], "vector": list(feature.values[part])}


def ids_table(catalogue: Catalogue, codes: Codes) -> Table:
    """item, title, and a column per level: code_1, … of one signal, else text_1, … of each."""
    single = len(codes.modalities) == 1
    made: dict[str, Sequence[Any]] = {"item": list(catalogue.item_ids), "title": catalogue.titles}
    for level in range(codes.levels):
        for number, signal in enumerate(codes.modalities):
            made[f"{'code' if single else signal}_{level + 1}"] = codes.codes[:, level, number].tolist()
    kinds: dict[str, str | int] = {name: "str" if name in ("item", "title") else "int" for name in made}
    return Table(name="ids", columns=kinds, batches=[made])


def results_table(metrics: Metrics) -> Table:
    """The columns of `Metrics.columns`; a rank below the ranked depth is an empty cell."""
    made = metrics.columns()
    return Table(name="results", columns={name: _RESULTS.get(name, "float") for name in made}, batches=[made])


def write_csv(path: Path, table: Table) -> int:
    """Write a CSV file; a vector has a column per number. Returns: the number of rows.

    Raises:
        DataError: `prepare table` would not read a column back under its name.
    """
    if table.plain:
        for name in table.columns:
            if not name or plain_name(name) != name or name.casefold() in PICTURE_FIELDS:
                why = (
                    "names pictures there" if name.casefold() in PICTURE_FIELDS else "would be read under another name"
                )
                raise DataError(f"CSV cannot carry the field {name!r}: it {why}", "--to parquet, or --to recbole")
    heads: list[str] = []
    for name, kind in table.columns.items():
        heads += [f"{name}_{place}" for place in range(1, kind + 1)] if isinstance(kind, int) else [name]
    rows = 0
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(heads)
        for batch in table.batches:
            columns = [_cells(batch[name], kind) for name, kind in table.columns.items()]
            for cells in zip(*columns, strict=True):
                writer.writerow([value for cell in cells for value in cell])
                rows += 1
    return rows


def _cells(values: Any, kind: str | int) -> Iterator[Sequence[Any]]:
    """The cells of each row that a column fills: one, or the numbers of a vector."""
    if isinstance(kind, int):
        # 9 digits say which float32 it is.
        return ([f"{number:.9g}" for number in row] for row in np.asarray(values).tolist())
    return ((value,) for value in values)


def write_parquet(path: Path, table: Table) -> int:
    """Write a Parquet file; a vector is a list of float32. Returns: the number of rows.

    Raises:
        MissingPackageError: no pyarrow.
    """
    pyarrow = import_pyarrow()
    kinds = {"str": pyarrow.string(), "int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()}
    vector = pyarrow.list_(pyarrow.float32())
    schema = pyarrow.schema([(name, vector if isinstance(k, int) else kinds[k]) for name, k in table.columns.items()])
    rows = 0
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for batch in table.batches:
            made = {name: list(values) for name, values in batch.items()}
            writer.write_table(pyarrow.Table.from_pydict(made, schema=schema))
            rows += len(next(iter(made.values())))
    return rows


def arrays_of_features(features: Mapping[str, Feature]) -> dict[str, np.ndarray]:
    """NAME (I, d) float32 and NAME_present (I,) bool of each modality. Raises: DataError: two of one name."""
    made = {name: each.values for name, each in features.items()}
    present = {f"{name}_present": each.present for name, each in features.items()}
    if taken := sorted(made.keys() & present.keys()):
        other = taken[0].removesuffix("_present")
        what = f"arrays cannot carry the feature {taken[0]!r}: the one of that name says which items have {other!r}"
        raise DataError(what, "--to csv or parquet")
    return made | present


def arrays_of_ids(codes: Codes) -> dict[str, np.ndarray]:
    """codes (I, L, M) uint16, and codebooks, item_vectors and present where there are any."""
    found = {name: getattr(codes, name) for name in ("codes", "codebooks", "item_vectors", "present")}
    return {name: values for name, values in found.items() if values is not None}


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], ids: Sequence[str], about: Mapping[str, Any]) -> None:
    """Write `arrays`, the item ids as `ids` (I,), and the lists of `about`; np.load reads it without pickle.

    Raises:
        DataError: an array called like one of these.
    """
    texts = {"ids": list(ids)} | {name: list(each) for name, each in about.items() if isinstance(each, (list, tuple))}
    if taken := sorted(texts.keys() & arrays.keys()):
        what = f".npz cannot carry the feature {taken[0]!r}: the array of that name holds something else"
        raise DataError(what, "--to safetensors")
    made = {name: np.array(each, dtype=str) for name, each in texts.items()} | dict(arrays)
    with zipfile.ZipFile(path, "w") as archive:  # np.savez would take some names for its own arguments
        for name, values in made.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, values, allow_pickle=False)


def write_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], ids: Sequence[str], about: Mapping[str, Any]
) -> None:
    """Write `arrays`; the item ids and `about` are JSON in the metadata.

    Raises:
        UsageError: more ids than a header holds.
    """
    from safetensors.numpy import save

    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in {"ids": list(ids), **about}.items()}
    if sum(len(text.encode()) for text in texts.values()) > _LARGEST_HEADER:
        raise UsageError(f"the ids of {len(ids):,} items are too long for the header of safetensors", "--to npz")
    # Not `save_file`, whose errors do not say that the disk is full.
    path.write_bytes(save({name: np.ascontiguousarray(values) for name, values in arrays.items()}, metadata=texts))
