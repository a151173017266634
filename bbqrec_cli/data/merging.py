"""Adding items to a catalogue: old items keep their rows, new ones follow in the order of the new file."""

from __future__ import annotations

import dataclasses
from hashlib import blake2b

import numpy as np

from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import DataError
from bbqrec_cli.records import Catalogue, Sequences, TrainedModel, Vocabulary


def new_item_rows(old: Catalogue, new: Catalogue) -> np.ndarray:
    """Rows (n,) int64 of the items of `new` whose ids are not in `old`, in order."""
    return np.flatnonzero(old.item_ids.rows(new.item_ids) < 0)


def merge_catalogues(old: Catalogue, new: Catalogue) -> Catalogue:
    """The items of both catalogues; titles and attributes of `new` win. Users and sequences are those of `new`, or of
    `old` if `new` has no users."""
    rows = new_item_rows(old, new)
    item_ids = Vocabulary([*old.item_ids, *(new.item_ids[row] for row in rows)])
    where = item_ids.rows(new.item_ids)

    def values_of(olds: list[str] | None, news: list[str] | None) -> list[str]:
        values = [*(olds or [""] * len(old.item_ids)), *[""] * len(rows)]
        for row, value in zip(where.tolist(), news or [], strict=False):
            values[row] = value or values[row]
        return values

    names = [*old.attributes, *(name for name in new.attributes if name not in old.attributes)]
    users = new if new.users else old
    items = where[new.sequences.items] if new.users else old.sequences.items
    return Catalogue(
        user_ids=users.user_ids, item_ids=item_ids, titles=values_of(old.titles, new.titles),
        sequences=dataclasses.replace(users.sequences, items=items.astype(np.int32)),
        attributes={name: values_of(old.attributes.get(name), new.attributes.get(name)) for name in names},
        splitting=users.splitting,
    )  # fmt: skip


def training_digests(catalogue: Catalogue) -> np.ndarray:
    """(n,) uint64: of each interaction of the training part a number that the ids of its user and item make."""
    return _digests(catalogue, *_rows(catalogue, split_of(catalogue.sequences).train))


def digests_of_model(model: TrainedModel) -> np.ndarray:
    """(n,) uint64: `training_digests` of all that a model and those that it goes on from were trained on."""
    own, before = training_digests(model.catalogue), model.earlier_interactions
    if before is None:
        return own
    found, place = np.unique(np.concatenate([own, before]), return_inverse=True)
    parts = np.split(place, [len(own)])
    return np.repeat(found, np.maximum(*(np.bincount(part, minlength=len(found)) for part in parts)))


def _rows(catalogue: Catalogue, train: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Of each interaction the rows of its user and item, (n,) each."""
    return np.repeat(np.arange(catalogue.users), train.lengths), train.items


def _digests(catalogue: Catalogue, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n,) uint64, of pairs of rows."""
    of_users, of_items = (
        np.array([int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") for name in ids], np.uint64)
        for ids in (catalogue.user_ids, catalogue.item_ids)
    )
    return of_users[users] * np.uint64(0x9E3779B97F4A7C15) + of_items[items]


def check_held_out(model: TrainedModel, new: Catalogue, *, name: object, where: object) -> None:
    """Refuse data that hold out what a model was trained on. name, where: the files of the model and of the data.

    Raises: DataError: they do.
    """
    if leaked := trained_on(digests_of_model(model), new):
        raise DataError(
            f"{where}: {name} was trained on {leaked:,} interactions that are held out here",
            "prepare the data with the split of before, or a later one",
        )


def trained_on(was: np.ndarray, new: Catalogue) -> int:
    """How many held-out interactions of `new` something was trained on. was (n,): `training_digests` of then.

    An interaction that a user repeats counts as often as it is in `was` and not in the training part of `new`.
    """
    mine = split_of(new.sequences)
    parts = [(each.users, each.targets) for each in (mine.validation, mine.test)] + [_rows(new, mine.train)]
    users, items = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    digests, held = _digests(new, users, items), len(users) - len(mine.train.items)
    found, place = np.unique(np.concatenate([digests, was]), return_inverse=True)
    of_held, now, then = (
        np.bincount(part, minlength=len(found)) for part in np.split(place, [held, len(digests)])
    )  # fmt: skip
    return int(np.minimum(of_held, np.maximum(then - now, 0)).sum())
