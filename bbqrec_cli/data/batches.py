"""Training batches: windows of users' training sequences, grouped by length so that there is little padding.

B users, T items of history. `WindowBatches` has a target at every position of a window, `PrefixBatches` the item after
each prefix, `ClozeBatches` masked items of a window. In the first two, every training item but a user's first is a
target exactly once per epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from bbqrec_cli.data.splits import HISTORY, PAD, HeldOut, rows_of
from bbqrec_cli.records import Sequences
from bbqrec_cli.seeds import numpy_generator


@dataclass(frozen=True, eq=False)
class Batch:
    """items (B, T) int64, PAD on the right; targets (B, T) int64: the target of each position, PAD = none."""

    items: torch.Tensor
    targets: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """(B, T) bool, True where there is an item."""
        return self.items != PAD

    @property
    def lengths(self) -> torch.Tensor:
        """(B,) int64."""
        return self.mask.sum(1)

    def last(self, values: torch.Tensor) -> torch.Tensor:
        """What stands at the last position of each history: values (B, T, …) -> (B, …)."""
        return values[torch.arange(len(self.items), device=self.items.device), self.lengths - 1]

    @property
    def weight(self) -> int:
        """Number of targets, over which the batch's loss is a mean."""
        return int((self.targets != PAD).sum())

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        return Batch(self.items.to(device), self.targets.to(device))

    def part(self, rank: int, world: int) -> Batch:
        """Every `world`-th user, starting at the `rank`-th."""
        return self if world == 1 else Batch(self.items[rank::world], self.targets[rank::world])


class Batches(Protocol):
    """The batches of every epoch. targets: their number per epoch; 0: there is nothing to train on."""

    @property
    def targets(self) -> int: ...

    def epoch(self, number: int) -> Sequence[Any]:
        """The batches of epoch `number` (from 0); the same at every call, each made on access."""


class Epoch(Sequence[Any]):
    """The batches of one epoch, each made on access.

    Args:
        groups: the rows of each batch.
        make: makes a batch from its rows.
    """

    def __init__(self, groups: Sequence[Any], make: Callable[[Any], Any]) -> None:
        self.groups, self.make = groups, make

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: Any) -> Any:
        return self.make(self.groups[number])


class WindowBatches:
    """Batches with a target at every position of a user's window (causal models).

    Each epoch cuts a sequence longer than `history` + 1 into windows at random places, so that over the epochs every
    item is predicted from short and from long histories.
    """

    def __init__(self, train: Sequences, *, batch_size: int, seed: int, history: int = HISTORY) -> None:
        self.train, self.batch_size, self.seed, self.history = train, batch_size, seed, history
        self.users = np.flatnonzero(train.lengths >= 2)

    @property
    def targets(self) -> int:
        """Targets per epoch."""
        return int((self.train.lengths[self.users] - 1).sum())

    def epoch(self, number: int) -> Sequence[Batch]:
        """See `Batches.epoch`."""
        starts, stops, groups = self._drawn(number)
        return Epoch(groups, lambda rows: self._batch(starts[rows], stops[rows]))

    def _drawn(self, number: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Start and stop of each window of an epoch, and the windows of each batch."""
        rng = numpy_generator(self.seed, "batches", number)
        starts, stops = self._windows(rng)
        return starts, stops, _groups(stops - starts, self.batch_size, rng)

    def _windows(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Start and stop of each window in train.items; a window of n items has n - 1 targets."""
        first, last = self.train.indptr[self.users], self.train.indptr[self.users + 1]
        targets = last - first - 1
        offset = np.where(targets > self.history, rng.integers(1, self.history + 1, len(first)), targets)
        count = 1 + np.ceil((targets - offset) / self.history).astype(np.int64)
        owner = np.repeat(np.arange(len(first)), count)
        order = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        stop = np.minimum(first[owner] + 1 + offset[owner] + order * self.history, last[owner])
        # The first window holds `offset` targets; each later one starts at the last item of the one before it.
        start = np.where(order == 0, first[owner], first[owner] + offset[owner] + (order - 1) * self.history)
        return start, stop

    def _batch(self, starts: np.ndarray, stops: np.ndarray) -> Batch:
        window = torch.from_numpy(rows_of(self.train.items, starts, stops))
        items, targets = window[:, :-1].clone(), window[:, 1:]
        items[targets == PAD] = PAD
        return Batch(items, targets)


class PrefixBatches:
    """One sample per prefix, as models with a bidirectional encoder train: the only target is the item that follows.

    Every batch has `batch_size` samples, so that in a mean over batches each counts alike, however long it is.
    """

    def __init__(self, train: Sequences, *, batch_size: int, seed: int, history: int = HISTORY) -> None:
        self.train, self.batch_size, self.seed, self.history = train, batch_size, seed, history
        positions = train.positions
        self._targets = np.flatnonzero(positions > 0)
        self._lengths = np.minimum(positions[self._targets], history)

    @property
    def targets(self) -> int:
        """Targets per epoch."""
        return len(self._targets)

    def epoch(self, number: int) -> Epoch:
        """See `Batches.epoch`."""
        rng = numpy_generator(self.seed, "batches", number)
        return Epoch(_even_groups(self._lengths, self.batch_size, rng), self._batch)

    def _batch(self, rows: np.ndarray) -> Batch:
        length, target = self._lengths[rows], self._targets[rows]
        items = rows_of(self.train.items, target - length, target)
        targets = np.full_like(items, PAD)
        targets[np.arange(len(rows)), length - 1] = self.train.items[target]
        return Batch(torch.from_numpy(items), torch.from_numpy(targets))


class ClozeBatches(WindowBatches):
    """Masked items, as BERT4Rec trains (Sun et al., CIKM 2019): some items of a window are masked and are its targets.

    The windows are those of `WindowBatches`, of at most `history` + 1 items: where only the last one is masked, the
    model sees `history` items and the mask, as when recommending. A masked position holds `mask` in `items` and the
    item in `targets`; all others hold PAD in `targets`. Every window has at least one masked position.

    Args:
        mask: the number that stands for a masked item, usually I.
        share: the share of a window's items that are masked.
        last: the probability that only a window's last item is masked, as when recommending.
    """

    def __init__(
        self, train: Sequences, *, batch_size: int, seed: int, mask: int, history: int = HISTORY, share: float = 0.2,
        last: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(train, batch_size=batch_size, seed=seed, history=history)
        self.mask, self.share, self.last = mask, share, last

    @property
    def targets(self) -> int:
        """Users whose items are masked: the least number of targets per epoch."""
        return len(self.users)

    def epoch(self, number: int) -> Sequence[Batch]:
        """See `Batches.epoch`."""
        starts, stops, groups = self._drawn(number)
        return Epoch(
            list(enumerate(groups)), lambda each: self._masked(number, each[0], starts[each[1]], stops[each[1]])
        )

    def _masked(self, epoch: int, number: int, starts: np.ndarray, stops: np.ndarray) -> Batch:
        rng, items = numpy_generator(self.seed, "cloze", epoch, number), rows_of(self.train.items, starts, stops)
        final = np.arange(items.shape[1])[None, :] == (stops - starts)[:, None] - 1
        asked = (rng.random(items.shape) < self.share) & (items != PAD)
        asked = np.where(rng.random((len(items), 1)) < self.last, final, asked)
        asked |= final & ~asked.any(axis=1, keepdims=True)
        targets = np.where(asked, items, PAD)
        return Batch(torch.from_numpy(np.where(asked, self.mask, items)), torch.from_numpy(targets))


def held_out_batches(held: HeldOut, batch_size: int) -> Iterator[tuple[np.ndarray, Batch]]:
    """(rows of `held`, batch), histories of similar length together; the target is at the last item's position."""
    lengths = np.minimum(held.lengths, held.history)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        items = held.read(rows)
        targets = np.full_like(items, PAD)
        targets[np.arange(len(rows)), lengths[rows] - 1] = held.targets[rows]
        yield rows, Batch(torch.from_numpy(items), torch.from_numpy(targets))


def _groups(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Rows in batches of similar length and similar total length, so that every target has the same weight in the loss.

    The rows are shuffled, sorted within pools of about 32 batches, and cut where the total passes `batch_size` mean
    lengths; then the batches are shuffled.
    """
    order = _sorted_in_pools(lengths, batch_size, rng)
    total = np.cumsum(lengths[order])
    count = max(1, round(len(order) / batch_size))
    groups = np.split(order, np.searchsorted(total, total[-1] * np.arange(1, count) / count)) if len(order) else []
    return [groups[i] for i in rng.permutation(len(groups)) if len(groups[i])]


def _even_groups(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """As `_groups`, but every batch has `batch_size` rows, except for one with what is left."""
    order = _sorted_in_pools(lengths, batch_size, rng)
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [groups[i] for i in rng.permutation(len(groups))]


def _sorted_in_pools(lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """All rows, shuffled, then sorted by length within pools of 32 batches, rising and falling in turn.

    So a batch that lies across two pools, too, has rows of similar length.
    """
    order = rng.permutation(len(lengths))
    pool = 32 * batch_size
    for number, start in enumerate(range(0, len(order), pool)):
        part = order[start : start + pool]
        rising = part[np.argsort(lengths[part], kind="stable")]
        order[start : start + pool] = rising[::-1] if number % 2 else rising
    return order
