"""The item vectors of a trained sequence model, for tokenizers that use them.

I items, D width of the tokenizer's vectors, W width of the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bbqrec_cli import hdf5
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import DataError
from bbqrec_cli.records import Sequences
from bbqrec_cli.seeds import numpy_generator
from bbqrec_cli.tokenizers.base import TokenizerInput

TABLE = "table.weight"
"""The name of a model's item table among its weights."""
_AGAIN = "bbqrec train FEATURES.h5 --model sasrec -o MODEL.h5, from the same features file"


def read_item_table(path: Path, item_ids: Sequence[str], train: Sequences) -> np.ndarray:
    """The item vectors of a model file, (I, W) float32, in the order of `item_ids`.

    Args:
        train: the training part of the sequences. The model must have been trained on the same, or it could leak
            held-out interactions.

    Raises:
        DataError: a model without an item table, or whose items are more than it; of other items or other training
            sequences.
        the errors of `hdf5.read_model`.
    """
    model = hdf5.read_model(path)
    table = model.weights.get(TABLE)
    if table is None or len(table) != model.catalogue.items:
        raise DataError(f"{path}: the model {model.name} has no item vectors; a model such as sasrec is needed", _AGAIN)
    if model.settings.get("features") or model.features:
        what = f"the items of this {model.name} are made of features too; a model without them is needed"
        raise DataError(f"{path}: {what}", _AGAIN)
    rows = model.catalogue.item_ids.rows(item_ids)
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        what = f"the model does not know {len(missing):,} of the items, {item_ids[missing[0]]!r} first"
        raise DataError(f"{path}: {what}", _AGAIN)
    if not _same(split_of(model.catalogue.sequences).train, train, rows):
        raise DataError(
            f"{path}: the model was trained on other sequences and may have seen held-out interactions", _AGAIN
        )
    return table[rows].astype(np.float32)


def _same(theirs: Sequences, mine: Sequences, rows: np.ndarray) -> bool:
    """Whether both are the same sequences. rows (I,): the row in `theirs` of each item of `mine`."""
    return np.array_equal(theirs.indptr, mine.indptr) and np.array_equal(theirs.items, rows[mine.items])


def resize_vectors(table: np.ndarray, dim: int, *, seed: int) -> np.ndarray:
    """The vectors in another width, (I, W) -> (I, D) float32.

    To a smaller width: projected on D principal directions (without centring). To a larger one: by a random orthonormal
    map, which preserves distances and uses all dimensions.
    """
    width = table.shape[1]
    if dim == width:
        return table.astype(np.float32)
    if dim > width:
        basis, _ = np.linalg.qr(numpy_generator(seed, "projection").standard_normal((dim, width)))
        return (table @ basis.T).astype(np.float32)
    _, directions = np.linalg.eigh(np.cov(table.astype(np.float64), rowvar=False).reshape(width, width))
    return (table @ directions[:, ::-1][:, :dim]).astype(np.float32)


def warm_vectors(path: Path, inputs: TokenizerInput, dim: int, *, seed: int) -> np.ndarray:
    """A model's item vectors resized to D dimensions, (I, D), of unit length.

    Raises: as `read_item_table`.
    """
    vectors = resize_vectors(read_item_table(path, inputs.item_ids, inputs.train), dim, seed=seed)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
