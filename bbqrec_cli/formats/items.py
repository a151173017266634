"""What other programs' files are made of: fields of items, and the targets of a split. I items."""

from __future__ import annotations

from collections.abc import Iterator

from bbqrec_cli.data.splits import PAD, HeldOut, Split
from bbqrec_cli.records import Dataset, Sequences

Row = tuple[int, list[int], int]
"""A user, the items before a target, and the target, as rows."""

TEXT = "text"
"""The column of the text that is embedded; `prepare --text-fields text` takes it as it is."""


def item_fields(dataset: Dataset) -> dict[str, list[str]]:
    """Name -> one string per item, (I,): title, attributes and text, those that any item has."""
    titles = {"title": dataset.catalogue.titles}
    texts = {TEXT: list(dataset.texts)}
    return {name: values for name, values in (titles | dataset.catalogue.attributes | texts).items() if any(values)}


def parts_of(split: Split, *, history: int) -> tuple[Iterator[Row], Iterator[Row], Iterator[Row]]:
    """Every target of training, validation and test, with the last `history` items before it.

    The histories of held-out targets are those of the split.
    """
    return _windows(split.train, history), _targets(split.validation), _targets(split.test)


def _windows(train: Sequences, history: int) -> Iterator[Row]:
    for user, rows in enumerate(train):
        listed = rows.tolist()
        for place in range(1, len(listed)):
            yield user, listed[max(0, place - history) : place], listed[place]


def _targets(held: HeldOut) -> Iterator[Row]:
    for user, before, target in zip(held.users.tolist(), held.read(), held.targets.tolist(), strict=True):
        yield user, before[before != PAD].tolist(), target
