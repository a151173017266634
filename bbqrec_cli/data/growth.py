"""A catalogue that grows: old items keep their rows, new ones come after them, in the order of the new file."""

from __future__ import annotations

import dataclasses

import numpy as np

from bbqrec_cli.records import Catalogue


def new_rows(old: Catalogue, new: Catalogue) -> np.ndarray:
    """Rows of `new` whose items, by id, are not in `old`; int64, in order."""
    there = set(old.item_ids)
    return np.array([row for row, item in enumerate(new.item_ids) if item not in there], dtype=np.int64)


def grown(old: Catalogue, new: Catalogue) -> Catalogue:
    """Both catalogues' items; what both have is described as in `new`. Users and sequences are those of `new` where it
    has users, else those of `old`."""
    rows = new_rows(old, new)
    place = {item: row for row, item in enumerate(old.item_ids)}
    place |= {new.item_ids[row]: len(old.item_ids) + number for number, row in enumerate(rows)}
    where = np.array([place[item] for item in new.item_ids], dtype=np.int32)
    item_ids = [*old.item_ids, *(new.item_ids[row] for row in rows)]

    def merged(olds: list[str] | None, news: list[str] | None) -> list[str]:
        values = [*(olds or [""] * len(old.item_ids)), *[""] * len(rows)]
        for row, value in zip(where.tolist(), news or [], strict=False):
            values[row] = value or values[row]
        return values

    names = [*old.attributes, *(name for name in new.attributes if name not in old.attributes)]
    users = new if new.users else old
    items = where[new.sequences.items] if new.users else old.sequences.items
    return Catalogue(
        user_ids=users.user_ids, item_ids=item_ids, titles=merged(old.titles, new.titles),
        sequences=dataclasses.replace(users.sequences, items=items.astype(np.int32)),
        attributes={name: merged(old.attributes.get(name), new.attributes.get(name)) for name in names},
    )  # fmt: skip
