"""The weights of a trained model for other items: to recommend new ones without training, or to train on."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping

import numpy as np
import torch

from bbqrec_cli.decoding.trie import Trie
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.base import Recommender
from bbqrec_cli.models.registry import MODELS, load_model
from bbqrec_cli.records import Catalogue, Codes, ItemData, Tokens, TrainedModel

PER_TUPLE = ("tuples", "tuple_bias")
"""Parameters with one row per existing code tuple of the first level, in the trie's order."""
Places = tuple[np.ndarray, int]
"""The new row of each old row of a parameter, and the number of new rows."""


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
            f"bbqrec train {shlex.quote(where)} --model {trained.name}",
        )
    count = trained.catalogue.items
    like = (old.modalities, old.codebook_size, old.levels) == (new.modalities, new.codebook_size, new.levels)
    same = like and tokens.catalogue.item_ids[:count] == trained.catalogue.item_ids
    if not same or not np.array_equal(new.codes[:count], old.codes):
        raise DataError(
            f"{where}: does not extend the semantic IDs that the model was trained on",
            "give the file that `bbqrec tokenize --append` made from the model's tokens file",
        )
    rows, model = (np.arange(count), tokens.catalogue.items), MODELS.implementation(trained.name)
    places = tuple_places(old, new) | dict.fromkeys(model.per_item, rows)
    weights = moved_rows(trained.weights, places)
    for name in model.new_rows.keys() & weights.keys():
        weights[name][count:] = model.new_rows[name]
    return dataclasses.replace(trained, catalogue=tokens.catalogue, codes=new, weights=weights)


def load_earlier(
    model: Recommender, earlier: TrainedModel, catalogue: Catalogue, data: ItemData, *, where: str
) -> bool:
    """Load the weights of an earlier model into `model`, which is built for the items of `catalogue`.

    Items are matched by their ids. The rows of new items and code tuples stay as they are initialised. True if what
    follows from all items was computed anew.

    Args:
        data: what `model` was built from.
        where: the name of the catalogue's file, for the messages.

    Raises:
        DataError: items are missing, or their semantic IDs or their features are others.
    """
    old = earlier.catalogue
    rows = catalogue.item_ids.rows(old.item_ids)
    if len(missing := np.flatnonzero(rows < 0)):
        what = f"{len(missing):,} of the {old.items:,} items that the model was trained on are missing"
        raise DataError(f"{where}: {what}, {old.item_ids[missing[0]]!r} first", "give a file with all of them, or more")
    check_same_content(earlier, data, rows, where=where)
    fresh = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    places = dict.fromkeys(model.per_item, (rows, catalogue.items))
    if earlier.codes is not None and data.codes is not None:
        places |= tuple_places(earlier.codes, data.codes)
    same = catalogue.items == old.items  # all of `old` are there
    if same and model.of_catalogue:  # what follows from all items follows from their features, too
        same = all(
            np.array_equal(was.present, now.present[rows]) and np.array_equal(was.values, now.values[rows])
            for was, now in ((was, data.features[name]) for name, was in earlier.features.items())
        )
    weights = earlier.weights
    if fresh.keys() - weights.keys():  # an older version's: what they lack follows from the items that they were for
        made = load_model(earlier, torch.device("cpu")).state_dict()
        weights = {name: value.numpy() for name, value in made.items()}
    try:
        weights = moved_rows(weights, places, fresh)
        if same:
            for name, axis in model.of_catalogue.items():
                if axis is not None:
                    weights[name] = np.take(weights[name], np.argsort(rows), axis=axis)
        else:
            weights |= {name: fresh[name] for name in model.of_catalogue}
        model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except (RuntimeError, ValueError, IndexError, KeyError) as error:
        raise DataError(
            f"{where}: the model's weights do not fit it: {error}", "bbqrec train without --from"
        ) from error
    if not same:
        model.refresh()
    return not same and bool(model.of_catalogue)


def check_same_content(earlier: TrainedModel, data: ItemData, rows: np.ndarray, *, where: str) -> None:
    """Raises: DataError: semantic IDs or features differ from those that the model was trained with.

    Args:
        rows: the row in `data` of each item of the model.
    """
    old, new = earlier.codes, data.codes
    if old is not None and new is not None:
        like = (old.modalities, old.codebook_size, old.levels) == (new.modalities, new.codebook_size, new.levels)
        if not like or not np.array_equal(new.codes[rows], old.codes):
            raise DataError(
                f"{where}: its items have other semantic IDs than those that the model was trained on",
                "give the model's tokens file, or one that `bbqrec tokenize --append` made from it",
            )
    for name, was in earlier.features.items():
        now = data.features.get(name)
        if now is None:
            raise DataError(
                f"{where}: has no feature {name}, which the model reads", f"bbqrec embed --modalities {name}"
            )
        before, after = ((each.encoder, each.values.shape[1]) for each in (was, now))
        if before != after:
            raise DataError(
                f"{where}: the feature {name} is of another encoder than the one that the model was trained on "
                f"({after[0] or 'not said'}, width {after[1]}; it was {before[0] or 'not said'}, width {before[1]})",
                "bbqrec embed with the model and the options of before",
            )


def moved_rows(
    weights: Mapping[str, np.ndarray], places: Mapping[str, Places], fresh: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """The parameters with their rows at new places; new rows are those of `fresh`, zero without it."""
    moved = dict(weights)
    for name in places.keys() & weights.keys():
        (where, count), old = places[name], weights[name]
        moved[name] = fresh[name].copy() if fresh else np.zeros((count, *old.shape[1:]), dtype=old.dtype)
        moved[name][where] = old
    return moved


def tuple_places(old: Codes, new: Codes) -> dict[str, Places]:
    """The places of the parameters `PER_TUPLE`; every code tuple of `old` is one of `new`."""
    place = {row.tobytes(): number for number, row in enumerate(first_tuples(new))}
    tuples = np.array([place[row.tobytes()] for row in first_tuples(old)], dtype=np.int64)
    return dict.fromkeys(PER_TUPLE, (tuples, len(place)))


def first_tuples(codes: Codes) -> np.ndarray:
    """The existing code tuples of the first level, (tuples, M), in the trie's order."""
    return Trie(codes.codes).codes(0).numpy()
