"""What a source gives to `prepare`: first the interactions; then, once they are filtered, the kept items' fields.

n interactions, U users, I items.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from bbqrec_cli.data.leakage import digests_of_names
from bbqrec_cli.errors import DataError
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import Feature

_PART = 1 << 20
"""Rows that are sorted at a time."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Interactions:
    """users, items (n,) integers: rows into user_ids and item_ids, sorted by user, each user's oldest first;
    timestamps (n,) int64 seconds or None; moments (n,) integers: equal where a user's times are equal, parts of a
    second included, ascending without `parts`, or None without times; left_out: why -> interactions of the raw data
    that are not here; parts (n,) uint8 or None: where the data say which part of a split (`PARTS`) each one belongs to,
    which then goes before the time."""

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
        user_ids, users = _used(self.user_ids, self.users[keep])
        item_ids, items = _used(self.item_ids, self.items[keep])
        return Interactions(
            user_ids=user_ids, item_ids=item_ids, users=users, items=items,
            timestamps=None if self.timestamps is None else self.timestamps[keep],
            moments=None if self.moments is None else self.moments[keep],
            left_out=self.left_out | {why: self.left_out.get(why, 0) + int((~keep).sum())},
            parts=None if self.parts is None else self.parts[keep],
        )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Items:
    """What is known about I items, in the requested order.

    fields: name -> one string per item ('' = missing; the values of a list joined by LIST_SEPARATOR);
    images: encoded pictures, b'' = missing, or [] without any; features: precomputed ones.
    """

    fields: dict[str, list[str]] = field(default_factory=dict)
    images: Sequence[bytes] = field(default_factory=list)
    features: dict[str, Feature] = field(default_factory=dict)


class Source(Protocol):
    """One raw data set, built as `Class(paths, options, seed=…, progress=…)`; notes to the user go to `progress`.

    minimum: the interactions that a user and an item need if the command line does not say (0: all are kept);
    files: the inputs, recorded as parents of the dataset file (pictures: see `Items`). A source that finds a folder of
    pictures by itself has it as `images`, so that a benchmark sees when they change.

    A source whose data can be downloaded has the static method `fetch(paths, options, progress) -> list[Path]`, which
    is called first and returns the paths to read.

    A source that knows more of its interactions than they show has `about`, which goes into the dataset file's
    configuration, such as what a perfect model reaches on synthetic ones.

    A source whose interactions have `parts` has `divided = True`. One whose files may be the parts of a split has
    `divide()`, which --split given calls before `interactions`, and which raises UsageError where they are none.

    A source whose rows of items say nothing of who takes what has `own_order = True`; those of others are reordered.

    A source whose files name further ones that `items` reads has `named_files() -> list[Path]`, for the same reason.
    """

    minimum: int
    files: list[Path]

    def interactions(self) -> Interactions:
        """The interactions of all users, with what --duplicates may leave out.

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
    """Interactions (n,) in any order, sorted by user, then by part, then by time; see `by_rows`."""
    named = index_names(users), index_names(items)
    return by_rows(*named, times, per_second=per_second, ties=ties, seed=seed, parts=parts)


def by_rows(
    users: tuple[list[str], np.ndarray],
    items: tuple[list[str], np.ndarray],
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
        users, items: distinct ids in any order, and the row (n,) of each interaction's among them.
        times: `per_second` of them are a second; parts of a second count for the order, and are not kept.
        ties: the order of a user's interactions of equal time: file (as given), item (by id) or random (by `seed`,
            whatever the order in the file).
        parts: (n,) uint8, see `Interactions`.

    Raises:
        DataError: a time that is no number, or infinite.
    """
    user_ids, user_rows = _appearing(*users)
    item_ids, item_rows = items
    del users, items
    stamps = None if times is None else np.asarray(times)
    if stamps is not None and stamps.dtype.kind == "f" and len(wrong := np.flatnonzero(~np.isfinite(stamps))):
        user, item = user_ids[user_rows[wrong[0]]], item_ids[item_rows[wrong[0]]]
        raise DataError(f"user {user!r}, item {item!r}: the time is {stamps[wrong[0]]}", "correct or remove the row")
    keys = () if stamps is None else (*tie_keys(ties, user_ids, user_rows, item_ids, item_rows, stamps, seed), stamps)
    order = _sorted(user_rows, *keys, *(() if parts is None else (parts,)))
    user_rows = user_rows[order]
    item_ids, item_rows = _appearing(item_ids, item_rows[order])
    stamps = None if stamps is None else stamps[order]
    return Interactions(
        user_ids=user_ids, item_ids=item_ids, users=user_rows, items=item_rows,
        timestamps=None if stamps is None else _seconds(stamps, per_second),
        moments=None if stamps is None else _moments(user_rows, stamps, apart=parts is not None),
        parts=None if parts is None else parts[order],
    )  # fmt: skip


def in_drawn_order(made: Interactions) -> Interactions:
    """The interactions with their items in the order of a digest of each id, which says nothing of who takes what.

    Equal scores, and items that share an ID, are ranked by rows, and the order of first appearance would know what is
    popular and what is held out.
    """
    order = np.argsort(digests_of_names(made.item_ids), kind="stable")
    item_ids, items = _renumbered(made.item_ids, made.items, order)
    return dataclasses.replace(made, item_ids=item_ids, items=items)


def _seconds(stamps: np.ndarray, per_second: int) -> np.ndarray:
    whole = per_second == 1 and stamps.dtype == np.int64
    return stamps if whole else (stamps // per_second).astype(np.int64)


def _moments(users: np.ndarray, stamps: np.ndarray, *, apart: bool) -> np.ndarray:
    """apart: equal times of a user may stand in several parts of a split, with others between them."""
    if apart:
        order = np.lexsort((stamps, users))
        made = np.empty(len(users), smallest(len(users)))
        made[order] = _moments(users[order], stamps[order], apart=False)
        return made
    begins = np.ones(len(users), bool)
    begins[1:] = (users[1:] != users[:-1]) | (stamps[1:] != stamps[:-1])
    return np.cumsum(begins, dtype=smallest(len(begins)))


def smallest(count: int) -> type[np.signedinteger]:
    """The type of rows below `count`, or of a number up to it: long logs take half the memory."""
    return np.int32 if count < 1 << 31 else np.int64


def _sorted(groups: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """(n,): what np.lexsort((*keys, groups)) gives, with less memory. groups: rows from 0."""
    from scipy.sparse import csr_matrix

    count = len(groups)
    places = np.arange(count, dtype=smallest(count))
    # Rows of a sparse matrix: the places of each group in ascending order, found by counting.
    order = csr_matrix((np.ones(count, bool), (groups, places))).indices if count else places
    for part in _parts(groups[order]) if keys else ():
        rows = order[part]
        within, values = groups[rows], [key[rows] for key in keys]
        # Logs are mostly in the order of time: only groups that are not are sorted.
        tied = within[1:] == within[:-1]
        wrong = np.zeros(len(tied), bool)
        for value in reversed(values):
            wrong |= tied & (value[1:] < value[:-1])
            tied &= value[1:] == value[:-1]
        mixed = np.zeros(within[-1] - within[0] + 1, bool)
        mixed[within[1:][wrong] - within[0]] = True
        some = np.flatnonzero(mixed[within - within[0]])
        order[part.start + some] = rows[some][np.lexsort((*(value[some] for value in values), within[some]))]
    return order


def _parts(groups: np.ndarray) -> Iterator[slice]:
    """Slices of about _PART rows that part no group of the ascending `groups` (n,)."""
    start = 0
    while start < len(groups):
        last = min(start + _PART, len(groups)) - 1
        stop = int(np.searchsorted(groups, groups[last], side="right"))
        yield slice(start, stop)
        start = stop


def _appearing(names: list[str], rows: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Those of the distinct names that rows (n,) refer to, in the order in which they first do, and the new rows."""
    first = np.full(len(names), len(rows))
    for start in range(0, len(rows), _PART):
        part = rows[start : start + _PART]
        np.minimum.at(first, part, np.arange(start, start + len(part)))
    order = np.argsort(first, kind="stable")[: int((first < len(rows)).sum())]
    return _renumbered(names, rows, order)


def _used(names: list[str], rows: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Those of the names that rows (n,) refer to, in their order, and the new rows."""
    used = np.zeros(len(names), bool)
    used[rows] = True
    return _renumbered(names, rows, np.flatnonzero(used))


def _renumbered(names: list[str], rows: np.ndarray, order: np.ndarray) -> tuple[list[str], np.ndarray]:
    new = np.zeros(len(names), smallest(len(names)))
    new[order] = np.arange(len(order))
    return [names[row] for row in order.tolist()], new[rows]


def tie_keys(
    ties: str, user_ids: list[str], users: np.ndarray, item_ids: list[str], items: np.ndarray, stamps: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """The keys (n,) that order interactions of equal time; none with `file`."""
    if ties == "file":
        return ()
    return (_ranks(item_ids)[items] if ties == "item" else _drawn(user_ids, users, item_ids, items, stamps, seed),)


def _drawn(
    user_ids: list[str], users: np.ndarray, item_ids: list[str], items: np.ndarray, stamps: np.ndarray, seed: int
) -> np.ndarray:
    """A number (n,) that hangs on the user, the item, the time and the seed alone, so that a log may grow."""
    drawn, odd = digests_of_names(user_ids)[users], np.uint64(0x9E3779B97F4A7C15)
    for part in (digests_of_names(item_ids)[items], stamps.astype(np.float64).view(np.uint64), np.uint64(seed)):
        drawn *= odd
        drawn += part
    # The end of SplitMix64 (Steele et al., OOPSLA 2014): every bit hangs on all of them.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        drawn ^= drawn >> np.uint64(shift)
        drawn *= np.uint64(factor)
    return drawn


def _ranks(names: list[str]) -> np.ndarray:
    """(names,) integers: the place of each name in their ascending order."""
    made = np.empty(len(names), smallest(len(names)))
    made[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return made


def without_duplicates(made: Interactions, how: str, progress: Progress) -> Interactions:
    """The interactions after `--duplicates`; what repeats user, item and time of another one is counted and said.

    Args:
        how: keep; drop: one of those of equal user, item and time; first, last: one per user and item.
    """
    keep = np.ones(len(made.users), bool)
    if how in ("first", "last"):
        keep = ~_again(made.users, made.items, last=how == "last")
    elif made.moments is not None:
        keep = ~repeated(made)
    if not (count := int((~keep).sum())):
        return made
    what = "repeat user and item" if how in ("first", "last") else "repeat user, item and time"
    if how == "keep":
        progress.warn(
            f"{count:,} of {len(keep):,} interactions {what} of another one and count as they stand, for "
            "--min-user-interactions too; --duplicates drop leaves them out"
        )
        return made
    progress.log(f"{count:,} of {len(keep):,} interactions {what} of another one and are left out")
    return made.kept(keep, "duplicates")


def repeated(made: Interactions) -> np.ndarray:
    """(n,) bool: the interactions that repeat user, item and time of an earlier one; none without times."""
    found = np.zeros(len(made.users), bool)
    if made.moments is None:
        return found
    # Those of a given split do not ascend; of equal ones, the row of the earlier part is the earlier one.
    order = np.argsort(made.moments, kind="stable") if made.parts is not None else slice(None)
    found[order] = _again(made.moments[order], made.items[order])
    return found


def _again(groups: np.ndarray, items: np.ndarray, *, last: bool = False) -> np.ndarray:
    """(n,) bool: the rows that repeat group and item of an earlier row; last: of a later one. groups ascend."""
    found = np.zeros(len(groups), bool)
    for part in _parts(groups):
        same = _repeats(groups[part])
        some = part.start + np.flatnonzero(same | np.append(same[1:], False))
        some = some[np.lexsort((items[some], groups[some]))]
        repeats = _repeats(groups[some], items[some])
        found[some] = np.roll(repeats, -1) if last else repeats
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
