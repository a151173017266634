"""Adding items to a catalogue: old items keep their rows, new ones follow in the order of the new file."""

from __future__ import annotations

import dataclasses

import numpy as np

from bbqrec_cli.data.splits import split_of
from bbqrec_cli.records import Catalogue, Sequences, Vocabulary


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


def trained_on(old: Catalogue, new: Catalogue) -> int:
    """How many held-out interactions of `new` stand in the training part of `old`, by the ids of user and item.

    An interaction that a user repeats counts as often as it is in the training part of `old` and not in that of `new`.
    """
    mine, theirs = split_of(new.sequences), split_of(old.sequences).train
    users, items = new.user_ids.rows(old.user_ids), new.item_ids.rows(old.item_ids)

    def pairs(sequences: Sequences, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        rows = np.repeat(users, sequences.lengths), items[sequences.items]
        known = (rows[0] >= 0) & (rows[1] >= 0)
        return rows[0][known] * new.items + rows[1][known]

    held = np.concatenate([each.users * new.items + each.targets for each in (mine.validation, mine.test)])
    was = pairs(theirs, users, items)
    now = pairs(mine.train, np.arange(new.users), np.arange(new.items))
    found, place = np.unique(np.concatenate([held, was, now]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(found)) for part in np.split(place, np.cumsum([len(held), len(was)]))]
    return int(np.minimum(counts[0], np.maximum(counts[1] - counts[2], 0)).sum())
