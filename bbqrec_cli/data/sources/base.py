"""What a source gives to `prepare`: first the interactions; then, once they are filtered, the kept items' fields.

n interactions, U users, I items.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from bbqrec_cli.progress import Progress
from bbqrec_cli.records import Feature


@dataclass(frozen=True, eq=False, kw_only=True)
class Interactions:
    """users, items (n,) int64: rows into user_ids and item_ids, sorted by user, each user's oldest first;
    timestamps (n,) int64 seconds or None; moments (n,) int64: equal where a user's times are equal, parts of a second
    included, or None without times; left_out: why -> interactions of the raw data that are not here; parts (n,) uint8
    or None: where the data say which part of a split (`PARTS`) each one belongs to, which then goes before the time."""

    user_ids: list[str]
    item_ids: list[str]
    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray | None = None
    moments: np.ndarray | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    parts: np.ndarray | None = None

    def kept(self, keep: np.ndarray, why: str) -> Interactions:
        """The interactions where keep (n,) is True; users and items without any go. why: for `left_out`."""
        users, user_rows = np.unique(self.users[keep], return_inverse=True)
        items, item_rows = np.unique(self.items[keep], return_inverse=True)
        return Interactions(
            user_ids=[self.user_ids[u] for u in users], item_ids=[self.item_ids[i] for i in items],
            users=user_rows, items=item_rows,
            timestamps=None if self.timestamps is None else self.timestamps[keep],
            moments=None if self.moments is None else self.moments[keep],
            left_out=self.left_out | {why: self.left_out.get(why, 0) + int((~keep).sum())},
            parts=None if self.parts is None else self.parts[keep],
        )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Items:
    """What is known about I items, in the requested order.

    fields: name -> one string per item ('' = missing; the values of a list joined by LIST_SEPARATOR);
    images: encoded pictures, b'' = missing, or [] without any; pictures: the files that they come from; features:
    precomputed ones.
    """

    fields: dict[str, list[str]] = field(default_factory=dict)
    images: list[bytes] = field(default_factory=list)
    pictures: Sequence[Path] = ()
    features: dict[str, Feature] = field(default_factory=dict)


class Source(Protocol):
    """One raw data set, built as `Class(paths, options, seed=…, progress=…)`; notes to the user go to `progress`.

    minimum: the interactions that a user and an item need if the command line does not say (0: all are kept);
    files: the inputs, recorded as parents of the dataset file (pictures: see `Items`).

    A source whose data can be downloaded has the static method `fetch(paths, options, progress) -> list[Path]`, which
    is called first and returns the paths to read.

    A source whose interactions have `parts` has `divided = True`. One whose files name further ones that `items` reads
    has `named_files() -> list[Path]`, so that a benchmark sees when they change.
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


def by_user(
    users: Iterable[str],
    items: Sequence[str],
    times: Sequence[float] | array | np.ndarray | None = None,
    *,
    per_second: int = 1,
    ties: str = "file",
    seed: int = 0,
    parts: np.ndarray | None = None,
) -> Interactions:
    """Interactions (n,) in any order, sorted by user, then by part, then by time.

    Rows of users and items are in the order of their first appearance.

    Args:
        times: `per_second` of them are a second; parts of a second count for the order, and are not kept.
        ties: the order of a user's interactions of equal time: file (as given), item (by id) or random (by `seed`,
            whatever the order in the file).
        parts: (n,) uint8, see `Interactions`.
    """
    user_ids, user_rows = index_names(users)
    first = (user_rows,) if parts is None else (parts, user_rows)
    if times is None:
        order, stamps = np.lexsort(first), None
    else:
        stamps = np.asarray(times)
        order = np.lexsort((*tie_keys(ties, user_ids, user_rows, items, stamps, seed), stamps, *first))
        stamps = stamps[order]
    user_rows = user_rows[order]
    item_ids, item_rows = index_names(items[i] for i in order)
    return Interactions(
        user_ids=user_ids, item_ids=item_ids, users=user_rows, items=item_rows,
        timestamps=None if stamps is None else (stamps // per_second).astype(np.int64),
        moments=None if stamps is None else _moments(user_rows, stamps),
        parts=None if parts is None else parts[order],
    )  # fmt: skip


def _moments(users: np.ndarray, stamps: np.ndarray) -> np.ndarray:
    begins = np.ones(len(users), bool)
    begins[1:] = (users[1:] != users[:-1]) | (stamps[1:] != stamps[:-1])
    return np.cumsum(begins)


def tie_keys(
    ties: str, user_ids: list[str], users: np.ndarray, items: Sequence[str], stamps: np.ndarray, seed: int
) -> tuple[np.ndarray, ...]:
    """The keys (n,) that order interactions of equal time; none with `file`."""
    if ties == "file":
        return ()
    names, rows = index_names(items)
    by_item = _ranks(names)[rows]
    if ties == "item":
        return (by_item,)
    drawn = np.empty(len(users))
    drawn[np.lexsort((by_item, stamps, _ranks(user_ids)[users]))] = np.random.default_rng(seed).random(len(users))
    return (drawn,)


def _ranks(names: list[str]) -> np.ndarray:
    """(names,) int64: the place of each name in their ascending order."""
    made = np.empty(len(names), np.int64)
    made[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return made


def without_duplicates(made: Interactions, how: str, name: str, progress: Progress) -> Interactions:
    """The interactions after `--duplicates`; what repeats user, item and time of another one is counted and said.

    Args:
        how: keep; drop: one of those of equal user, item and time; first, last: one per user and item.
        name: the file, for the message.
    """
    keep = np.ones(len(made.users), bool)
    if how in ("first", "last"):
        order = np.lexsort((made.items, made.users))
        begins = ~_repeats(made.users[order], made.items[order])
        keep[order] = begins if how == "first" else np.roll(begins, -1)
    elif made.moments is not None:
        keep = ~repeated(made)
    if not (count := int((~keep).sum())):
        return made
    what = "repeat user and item" if how in ("first", "last") else "repeat user, item and time"
    if how == "keep":
        progress.warn(
            f"{name}: {count:,} of {len(keep):,} interactions {what} of another one and count as they stand, for "
            "--min-user-interactions too; --duplicates drop leaves them out"
        )
        return made
    progress.log(f"{name}: {count:,} of {len(keep):,} interactions {what} of another one and are left out")
    return made.kept(keep, "duplicates")


def repeated(made: Interactions) -> np.ndarray:
    """(n,) bool: the interactions that repeat user, item and time of an earlier one; none without times."""
    found = np.zeros(len(made.users), bool)
    if made.moments is not None:
        order = np.lexsort((made.items, made.moments))
        found[order] = _repeats(made.moments[order], made.items[order])
    return found


def _repeats(*columns: np.ndarray) -> np.ndarray:
    """(n,) bool: the rows of sorted columns that equal the row before."""
    made = np.zeros(len(columns[0]), bool)
    made[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return made


def index_names(names: Iterable[str]) -> tuple[list[str], np.ndarray]:
    """Distinct names in the order of their first appearance, and the row (n,) int64 of each name among them."""
    rows: dict[str, int] = {}
    found = np.fromiter((rows.setdefault(name, len(rows)) for name in names), np.int64)
    return list(rows), found
