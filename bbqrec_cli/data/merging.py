"""Adding items to a catalogue: old items keep their rows, new ones follow in the order of the new file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bbqrec_cli.errors import DataError
from bbqrec_cli.records import Catalogue, Vocabulary

RENAMED = 5
"""Titles that may differ between two files of the same items, however few there are."""


def new_item_rows(old: Catalogue, new: Catalogue) -> np.ndarray:
    """Rows (n,) int64 of the items of `new` whose ids are not in `old`, in order."""
    return np.flatnonzero(old.item_ids.rows(new.item_ids) < 0)


def check_titles(
    item_ids: Sequence[str], titles: Sequence[str], new: Catalogue, *, old: str | Path, path: Path, hint: str
) -> None:
    """Whether items of one id are one item in two files, as far as both have their titles.

    Args:
        item_ids, titles: of the file `old`; new: the catalogue of the file `path`; hint: what to give instead of it.

    Raises:
        DataError: most have another title in the one than in the other.
    """
    rows = Vocabulary(item_ids).rows(new.item_ids)
    pairs = [(titles[row], title) for row, title in zip(rows.tolist(), new.titles, strict=True) if row >= 0]
    titled = [(one, other) for one, other in pairs if one and other]
    renamed = sum(one != other for one, other in titled)
    if renamed > len(titled) / 2 and renamed >= RENAMED:
        raise DataError(
            f"{path}: of {len(titled):,} items that {old} has, too, {renamed:,} have another title there: these are "
            "other items under the same ids", hint,
        )  # fmt: skip


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
