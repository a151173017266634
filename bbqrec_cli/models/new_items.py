"""Extending a trained model to new items by their semantic IDs alone, without training."""

from __future__ import annotations

import dataclasses

import numpy as np

from bbqrec_cli.decoding.trie import Trie
from bbqrec_cli.errors import DataError
from bbqrec_cli.records import Codes, Tokens, TrainedModel

PER_TUPLE = ("tuples", "tuple_bias")
"""Parameters with one row per existing code tuple of the first level, in the trie's order."""
PER_ITEM = ("dense.own",)
"""Parameters with one row per item."""


def with_tokens(trained: TrainedModel, tokens: Tokens, *, where: str) -> TrainedModel:
    """The model for all items of `tokens`, the first of which are those that it was trained on.

    Parameters of a single item or code tuple are zero for a new one: only the shared parameters describe it.

    Args:
        where: the tokens file's name, for the messages.

    Raises:
        DataError: the model has no semantic IDs, or they are not those of the first items of `tokens`.
    """
    old, new = trained.codes, tokens.codes
    if old is None:
        raise DataError(
            f"the model {trained.name} has no semantic IDs: it cannot recommend items that it was not trained on",
            f"bbqrec train {where} --model {trained.name}",
        )
    count = trained.catalogue.items
    like = (old.modalities, old.codebook_size, old.levels) == (new.modalities, new.codebook_size, new.levels)
    same = like and tokens.catalogue.item_ids[:count] == trained.catalogue.item_ids
    if not same or not np.array_equal(new.codes[:count], old.codes):
        raise DataError(
            f"{where}: does not extend the semantic IDs that the model was trained on",
            "give the file that `bbqrec tokenize --append` made from the model's tokens file",
        )
    weights = grown_weights(trained.weights, old, new)
    return dataclasses.replace(trained, catalogue=tokens.catalogue, codes=new, weights=weights)


def grown_weights(weights: dict[str, np.ndarray], old: Codes, new: Codes) -> dict[str, np.ndarray]:
    """The parameters with zero rows added for new items and code tuples."""
    place = {row.tobytes(): number for number, row in enumerate(first_tuples(new))}
    tuples = np.array([place[row.tobytes()] for row in first_tuples(old)], dtype=np.int64)
    rows = dict.fromkeys(PER_TUPLE, (tuples, len(place)))
    rows |= dict.fromkeys(PER_ITEM, (np.arange(len(old.codes)), len(new.codes)))
    grown = dict(weights)
    for name in rows.keys() & weights.keys():
        where, count = rows[name]
        grown[name] = np.zeros((count, *weights[name].shape[1:]), dtype=weights[name].dtype)
        grown[name][where] = weights[name]
    return grown


def first_tuples(codes: Codes) -> np.ndarray:
    """The existing code tuples of the first level, (tuples, M), in the trie's order."""
    return Trie(codes.codes).codes(0).numpy()
