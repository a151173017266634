"""Files whose columns have types: Parquet and Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from bbqrec_cli.data.sources.opening import check_plain
from bbqrec_cli.errors import DataError


def read_typed(path: Path) -> pl.DataFrame:
    """A whole Parquet or Arrow file without its columns of bytes. Raises: DataError: a damaged file."""
    with damage_of(path):
        return as_written(scan(path).select(pl.exclude(pl.Binary)).collect())


def as_written(table: pl.DataFrame) -> pl.DataFrame:
    """With columns of 32 bits in float64, the numbers as they were written before they were rounded: 4.1, not
    4.099999904632568. What is whole stays."""
    few = pl.col(pl.Float32)
    written = pl.when(few == few.floor()).then(few.cast(pl.Float64)).otherwise(few.cast(pl.String).cast(pl.Float64))
    return table.with_columns(written)


def scan(path: Path) -> pl.LazyFrame:
    """The rows of a Parquet or Arrow file, a file or a stream.

    Raises:
        DataError: a compressed one; and what `damage_of` turns into an error.
    """
    check_plain(path)
    with open(path, "rb") as stream:
        start = stream.read(6)
    if start == b"ARROW1":
        return pl.scan_ipc(path, glob=False, hive_partitioning=False)
    if path.name.endswith(".parquet") or start.startswith(b"PAR1"):
        return pl.scan_parquet(path, glob=False, hive_partitioning=False)
    return pl.read_ipc_stream(path).lazy()


@contextmanager
def damage_of(path: Path) -> Iterator[None]:
    """Raises: DataError: for what reading a damaged file raises."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        kind = "Parquet" if path.name.endswith(".parquet") else "Arrow"
        what = (str(error).splitlines() or [""])[0]
        raise DataError(f"{path}: not a readable {kind} file ({what})", "make or copy it again") from error
