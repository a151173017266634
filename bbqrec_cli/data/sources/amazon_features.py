"""image_features_X.b of Amazon's 2014 release: ready picture features (McAuley et al., SIGIR 2015)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bbqrec_cli.data.sources.files import first_few
from bbqrec_cli.errors import DataError, MissingFileError
from bbqrec_cli.hdf5 import check_finite
from bbqrec_cli.progress import Progress, counted
from bbqrec_cli.records import Feature, Vocabulary

ASIN, WIDTH = 10, 4096
"""Bytes of an ASIN and numbers of an item."""
RECORD = ASIN + 4 * WIDTH
ENCODER = "amazon-2014-cnn-4096"


def read_image_features(path: Path, item_ids: list[str], progress: Progress) -> Feature:
    """The 4,096-dimensional features of the items; the file (often many GB) is read record by record.

    Raises:
        MissingFileError: no such file.
        DataError: a truncated record, one that does not start with an ASIN, NaN; none of the items in it.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file", "check the name, or give it in full")
    whole, rest = divmod(path.stat().st_size, RECORD)
    if rest or not whole:
        what = f"{path}, record {whole + 1}: truncated, {rest:,} of {RECORD:,} bytes"
        raise DataError(what, "download or copy the file again")
    known = Vocabulary(item_ids)
    values, present = np.zeros((len(item_ids), WIDTH), dtype=np.float32), np.zeros(len(item_ids), dtype=bool)
    again = 0
    with open(path, "rb") as stream, progress.task("visual features", whole) as task:
        for number in counted(range(1, whole + 1), task):
            asin, vector = _record(path, number, stream.read(RECORD))
            row = known.row(asin) if asin in known else None
            if row is not None and present[row]:
                again += 1
            elif row is not None:
                check_finite(vector[None], [asin], f"{path}, record {number}")
                values[row], present[row] = vector, True
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
