"""What a source gives to `prepare`: first the interactions; then, once they are filtered, the kept items' fields.

n interactions, U users, I items.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from bbqrec_cli.records import Feature


@dataclass(frozen=True, eq=False, kw_only=True)
class Interactions:
    """users, items (n,) int64: rows into user_ids and item_ids, sorted by user, each user's oldest first;
    timestamps (n,) int64 seconds or None."""

    user_ids: list[str]
    item_ids: list[str]
    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Items:
    """What is known about I items, in the requested order.

    fields: name -> one string per item ('' = missing; the values of a list joined by LIST_SEPARATOR);
    images: encoded pictures, b'' = missing, or [] without any; features: precomputed ones.
    """

    fields: dict[str, list[str]] = field(default_factory=dict)
    images: list[bytes] = field(default_factory=list)
    features: dict[str, Feature] = field(default_factory=dict)


class Source(Protocol):
    """One raw data set, built as `Class(paths, options, seed=…, progress=…)`; notes to the user go to `progress`.

    minimum: the interactions that a user and an item need if the command line does not say (0: all are kept);
    files: the inputs, recorded as parents of the dataset file (not pictures: the file holds them).

    A source whose files name further ones that `items` reads has `named_files() -> list[Path]`, so that a benchmark
    sees when they change.
    """

    minimum: int
    files: list[Path]

    def interactions(self) -> Interactions:
        """The interactions of all users.

        Raises:
            DataError, MissingFileError: with file and line.
        """

    def items(self, item_ids: list[str]) -> Items:
        """What is known about these items. Called after `interactions`, with some of its ids.

        Raises:
            DataError, MissingFileError: with file and line.
        """


def by_user(users: Iterable[str], items: Sequence[str], times: Sequence[float] | None = None) -> Interactions:
    """Interactions (n,) in any order, sorted by user, then by time; ties keep the given order.

    Times are in seconds; parts of a second count for the order, and are not kept.
    Rows of users and items are in the order of their first appearance.
    """
    user_ids, user_rows = index_names(users)
    stamps = None if times is None else np.asarray(times)
    order = np.argsort(user_rows, kind="stable") if stamps is None else np.lexsort((stamps, user_rows))
    item_ids, item_rows = index_names(items[i] for i in order)
    return Interactions(
        user_ids=user_ids, item_ids=item_ids, users=user_rows[order], items=item_rows,
        timestamps=None if stamps is None else stamps[order].astype(np.int64),
    )  # fmt: skip


def index_names(names: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """Distinct names in the order of their first appearance, and the row (n,) int64 of each name among them."""
    rows: dict[str, int] = {}
    found = np.fromiter((rows.setdefault(name, len(rows)) for name in names), np.int64)
    return list(rows), found
