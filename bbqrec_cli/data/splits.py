"""Training, validation and test part of the interactions (docs/protocol.md). E interactions, U users."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bbqrec_cli.errors import DataError
from bbqrec_cli.records import PARTS, Catalogue, Sequences, Splitting

PAD = -1
"""Fills the short rows of a batch; never the row of an item, never in a file."""
HISTORY = 20
"""Items of the history that a model sees (paper, section 5.1)."""
EVALUATED = 3
"""Interactions from which on a user is evaluated."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOut:
    """Held-out targets: one per evaluated user, or several where `Sequences.parts` says so.

    users (n,) rows of users, ascending; targets (n,) rows of items; seen_items[seen_start[i] : seen_stop[i]]: the whole
    history of row i, oldest first; history: the last items of it that `read` gives, T at most.
    """

    users: np.ndarray
    targets: np.ndarray
    seen_items: np.ndarray
    seen_start: np.ndarray
    seen_stop: np.ndarray
    history: int = HISTORY

    def first(self, users: int) -> HeldOut:
        """The first `users` rows only."""
        return self._part(slice(users))

    def every(self, step: int) -> HeldOut:
        """Every `step`-th row only."""
        return self._part(slice(None, None, step))

    def every_user(self, step: int) -> HeldOut:
        """The rows of every `step`-th user only."""
        return self._part(np.isin(self.users, np.unique(self.users)[::step]))

    def _part(self, rows: slice | np.ndarray) -> HeldOut:
        names = ("users", "targets", "seen_start", "seen_stop")
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in names})

    @property
    def lengths(self) -> np.ndarray:
        """Items of each whole history, (n,) int64."""
        return self.seen_stop - self.seen_start

    def read(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The last items of histories, (B, T) rows of items, oldest first, filled with PAD on the right.

        rows: (B,) places in `users`.
        """
        stop = self.seen_stop[rows]
        return rows_of(self.seen_items, np.maximum(self.seen_start[rows], stop - self.history), stop)

    def seen(self, rows: np.ndarray) -> np.ndarray:
        """The items of whole histories, less the target where it is among them: (B, S) int64, filled with PAD.

        rows: (B,) places in `users`.
        """
        items = rows_of(self.seen_items, self.seen_start[rows], self.seen_stop[rows])
        return np.where(items == self.targets[rows, None], PAD, items)


@dataclass(frozen=True, eq=False, kw_only=True)
class Split:
    """train: all that may be fitted on. Under the protocol's split, users with fewer than 3 interactions are in it with
    all of them and are not evaluated."""

    train: Sequences
    validation: HeldOut
    test: HeldOut


def split_of(sequences: Sequences, *, history: int = HISTORY) -> Split:
    """The split that the sequences carry, by default leave-last-out; histories are cut to the last `history` items.

    Every interaction of the validation and test part is a target, and everything before it is its history; one without
    a history is none.
    """
    parts = sequences.parts if sequences.parts is not None else last_parts(sequences)
    return Split(
        train=sequences.kept(parts == 0),
        validation=held_out(sequences, parts == 1, history=history),
        test=held_out(sequences, parts == 2, history=history),
    )


def last_parts(sequences: Sequences) -> np.ndarray:
    """(E,) uint8, the parts of leave-last-out: the last item of each user is test, the one before it validation."""
    left = np.repeat(sequences.indptr[1:], sequences.lengths) - np.arange(len(sequences.items))
    evaluated = np.repeat(sequences.lengths >= EVALUATED, sequences.lengths)
    return np.where(evaluated & (left <= 2), 3 - left, 0).astype(np.uint8)


def split_by_time(sequences: Sequences, quantiles: tuple[float, ...]) -> tuple[np.ndarray, Splitting]:
    """The parts (E,) uint8 of a split by time, the same cuts for all users, and what it is called.

    As in MiniOneRec, the interactions that have a history are sorted by time, and a cut is the time of the one that
    stands at the given share. Here everything of that time or later comes after the cut, so that equal times are never
    divided, and neither is a user's history.

    Raises:
        DataError: no timestamps, or a part is empty.
    """
    times, second = sequences.timestamps, sequences.positions > 0
    if times is None:
        raise DataError("--split time needs timestamps, and the data have none", "--split last")
    if (np.diff(times)[second[1:]] < 0).any():
        what = "--split time: the interactions of a user are in another order than their times"
        raise DataError(what, "--split last, or prepare the undivided log")
    ordered = np.sort(times[second], kind="stable")
    if not len(ordered):
        raise DataError("--split time: no user has 2 interactions", "--split last")
    places = [int(len(ordered) * share + 1e-9) for share in quantiles]  # 90 * .7 is 62.99…
    cuts = np.array([ordered[place] for place in places])
    parts = np.searchsorted(cuts, times, side="right").astype(np.uint8)
    if lacking := [name for part, name in enumerate(PARTS) if not (second & (parts == part)).any()]:
        raise DataError(
            f"--split time: at the quantiles {', '.join(map(str, quantiles))} there is no interaction for "
            f"{' and '.join(lacking)} (equal times are not divided)",
            "other --quantiles, or --split last",
        )
    return parts, Splitting(kind="time", quantiles=quantiles, cuts=tuple(cuts.tolist()))


def held_out(sequences: Sequences, targets: np.ndarray, *, history: int) -> HeldOut:
    """Where targets (E,) is True and a history goes before it: the item, and what is before it."""
    target = np.flatnonzero(targets & (sequences.positions > 0))
    users = np.searchsorted(sequences.indptr, target, side="right") - 1
    return HeldOut(
        users=users, targets=sequences.items[target].astype(np.int64), seen_items=sequences.items,
        seen_start=sequences.indptr[users], seen_stop=target, history=history,
    )  # fmt: skip


def rows_of(items: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """(n, T) int64 of items[start[i] : stop[i]], filled with PAD on the right; T is the length of the longest."""
    at = start[:, None] + np.arange(int((stop - start).max(initial=0)))
    return np.where(at < stop[:, None], items[np.minimum(at, len(items) - 1)], PAD).astype(np.int64)


def tied_targets(items: np.ndarray, moments: np.ndarray | None, split: Split) -> dict[str, int]:
    """Test and validation targets for which another item has the same time: "test" and "validation" -> targets.

    Args:
        items, moments: (E,), see `Interactions`, in the order of the sequences; without times no target is tied.
    """
    if moments is None or not len(items):
        return {"test": 0, "validation": 0}
    same = moments[1:] == moments[:-1]
    runs = np.concatenate([[0], np.cumsum(~same)])
    mixed = np.zeros(runs[-1] + 1, bool)
    mixed[runs[1:][same & (items[1:] != items[:-1])]] = True
    # A target stands right behind its history.
    return {name: int(mixed[runs[held.seen_stop]].sum())
            for name, held in (("test", split.test), ("validation", split.validation))}  # fmt: skip


def nobody(path: Path, catalogue: Catalogue, what: str) -> DataError:
    """The error of a file that has nobody to do `what` with, 'evaluate' or 'validate on'."""
    last = catalogue.sequences.parts is None
    why = f"no user has {EVALUATED} interactions" if last else "no target has a history"
    hint = "prepare data in which users have more interactions, or with another split (bbqrec prepare --split time)"
    return DataError(f"{path}: {why}: nothing to {what}", hint)


def subsample_users(held: HeldOut, users: int) -> HeldOut:
    """Every n-th of the held-out users, with all targets: `users` of them, or less than twice as many; 0: all."""
    return held.every_user(max(1, len(np.unique(held.users)) // users)) if users else held


def pad(rows: list[np.ndarray] | list[list[int]], *, history: int = HISTORY) -> np.ndarray:
    """(n, T) of the last `history` items of each row, filled with PAD on the right; T is the longest that is left."""
    cut = [np.asarray(row, dtype=np.int64)[-history:] for row in rows]
    filled = np.full((len(cut), max((len(row) for row in cut), default=1)), PAD, dtype=np.int64)
    for number, row in enumerate(cut):
        filled[number, : len(row)] = row
    return filled
