"""A catalogue that grows: old items keep their rows, new ones come after them, in the order of the new file."""

from __future__ import annotations

import dataclasses

import numpy as np

from bbqrec_cli.records import Catalogue, Vocabulary


def new_item_rows(old: Catalogue, new: Catalogue) -> np.ndarray:
    """Rows of `new` whose items, by id, are not in `old`; int64, in order."""
    return np.flatnonzero(old.item_ids.rows(new.item_ids) < 0)


def merge_catalogues(old: Catalogue, new: Catalogue) -> Catalogue:
    """Both catalogues' items; what both have is described as in `new`. Users and sequences are those of `new` where it
    has users, else those of `old`."""
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
    )  # fmt: skip
