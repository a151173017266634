"""The protocol's split: last item = test, second last = validation, the rest = training (docs/protocol.md)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from bbqrec_cli.records import Sequences

PAD = -1
"""Fills the short rows of a batch; never the row of an item, never in a file."""
HISTORY = 20
"""Items of the history that a model sees (paper, section 5.1)."""
EVALUATED = 3
"""Interactions from which on a user is evaluated."""
SPLITS = ("validation", "test")


@dataclass(frozen=True, eq=False, kw_only=True)
class HeldOut:
    """One held-out target per evaluated user.

    users (n,) rows of users; histories (n, T) rows of items, oldest first, filled with PAD on the right; targets (n,)
    rows of items; seen_items[seen_start[i] : seen_stop[i]]: the whole history of user i, however long.
    """

    users: np.ndarray
    histories: np.ndarray
    targets: np.ndarray
    seen_items: np.ndarray
    seen_start: np.ndarray
    seen_stop: np.ndarray

    def first(self, users: int) -> HeldOut:
        """The first `users` users only."""
        return self._part(slice(users))

    def every(self, step: int) -> HeldOut:
        """Every `step`-th user only."""
        return self._part(slice(None, None, step))

    def _part(self, rows: slice) -> HeldOut:
        names = ("users", "histories", "targets", "seen_start", "seen_stop")
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in names})

    @property
    def lengths(self) -> np.ndarray:
        """Items of each whole history, (n,) int64."""
        return self.seen_stop - self.seen_start

    def seen(self, rows: np.ndarray) -> np.ndarray:
        """The items of whole histories, less the target where it is among them: (B, S) int64, filled with PAD.

        rows: (B,) places in `users`.
        """
        start, stop = self.seen_start[rows, None], self.seen_stop[rows, None]
        at = start + np.arange(int((stop - start).max(initial=0)))[None, :]
        items = np.where(at < stop, self.seen_items[np.minimum(at, len(self.seen_items) - 1)], PAD).astype(np.int64)
        return np.where(items == self.targets[rows, None], PAD, items)


@dataclass(frozen=True, eq=False, kw_only=True)
class Split:
    """train: all that may be fitted on. Users with fewer than 3 interactions are in it with all of them and are not
    evaluated."""

    train: Sequences
    validation: HeldOut
    test: HeldOut


def leave_last_out(sequences: Sequences, *, history: int = HISTORY) -> Split:
    """The leave-last-out split (docs/protocol.md); histories are cut to the last `history` items."""
    evaluated = sequences.lengths >= EVALUATED
    held = np.where(evaluated, 2, 0)
    lengths = sequences.lengths - held
    position = np.arange(len(sequences.items)) - np.repeat(sequences.indptr[:-1], sequences.lengths)
    keep = position < np.repeat(lengths, sequences.lengths)
    times = None if sequences.timestamps is None else sequences.timestamps[keep]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    users = np.flatnonzero(evaluated)
    return Split(
        train=Sequences(indptr=indptr, items=sequences.items[keep], timestamps=times),
        validation=_held_out(sequences, users, back=2, history=history),
        test=_held_out(sequences, users, back=1, history=history),
    )


def _held_out(sequences: Sequences, users: np.ndarray, *, back: int, history: int) -> HeldOut:
    """The item `back` places from the end of each user's sequence, and the `history` items before it."""
    target = sequences.indptr[users + 1] - back
    length = np.minimum(target - sequences.indptr[users], history)
    columns = np.arange(history)[None, :]
    at = np.minimum((target - length)[:, None] + columns, len(sequences.items) - 1)
    histories = np.where(columns < length[:, None], sequences.items[at], PAD)
    return HeldOut(
        users=users, histories=histories.astype(np.int64), targets=sequences.items[target].astype(np.int64),
        seen_items=sequences.items, seen_start=sequences.indptr[users], seen_stop=target,
    )  # fmt: skip


def subsample_users(held: HeldOut, users: int) -> HeldOut:
    """About `users` of the held-out users, evenly spaced; all of them for 0."""
    return held.every(max(1, len(held.users) // users)) if users else held


def pad(rows: list[np.ndarray] | list[list[int]], *, history: int = HISTORY) -> np.ndarray:
    """(n, T) of the last `history` items of each row, filled with PAD on the right; T is the longest that is left."""
    cut = [np.asarray(row, dtype=np.int64)[-history:] for row in rows]
    filled = np.full((len(cut), max((len(row) for row in cut), default=1)), PAD, dtype=np.int64)
    for number, row in enumerate(cut):
        filled[number, : len(row)] = row
    return filled
