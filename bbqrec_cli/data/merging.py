"""Adding items to a catalogue: old items keep their rows, new ones follow in the order of the new file."""

from __future__ import annotations

import dataclasses

import numpy as np

from bbqrec_cli.records import Catalogue, Vocabulary


def new_item_rows(old: Catalogue, new: Catalogue) -> np.ndarray:
    """Rows (n,) int64 of the items of `new` whose ids are not in `old`, in order."""
    return np.flatnonzero(old.item_ids.rows(new.item_ids) < 0)


def renamed_items(old: Catalogue, new: Catalogue) -> tuple[int, int]:
    """How many items of both have another title in the one than in the other, and how many have one in both."""
    rows = old.item_ids.rows(new.item_ids)
    pairs = [(old.titles[row], title) for row, title in zip(rows.tolist(), new.titles, strict=True) if row >= 0]
    titled = [(one, other) for one, other in pairs if one and other]
    return sum(one != other for one, other in titled), len(titled)


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
