"""The interface of every recommender: one trainer trains them, one protocol evaluates them.

B users, T items of history, K recommendations, S items to leave out, I items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bbqrec_cli.data.batches import Batch, Batches, WindowBatches
from bbqrec_cli.data.splits import HISTORY, PAD
from bbqrec_cli.decoding.beam import pad_answer
from bbqrec_cli.errors import DataError, DivergedError
from bbqrec_cli.records import Sequences


@dataclass(frozen=True, eq=False, kw_only=True)
class Wanted:
    """The options of `recommend`.

    k: items per user; beam: width of the beam search, if there is one, 0: exact, None: as suits the model; allowed
    (I,) bool or None: the only candidates; exclude (B, S) int64 or None: rows of items to leave out for each user,
    filled with PAD.
    """

    k: int
    beam: int | None = None
    allowed: Tensor | None = None
    exclude: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the training, such as pre-training or fine-tuning. Only the last one is validated and may stop early.

    epochs: their number, and the length of the learning rate's schedule; loss: the mean over a batch's targets;
    start: called when the phase begins, for example to freeze parameters; before_epoch: before each of its epochs;
    couples: the loss of a user depends on the others of the batch, as with negatives from within it, so that every
    process computes the whole batch.
    """

    name: str
    epochs: int
    batches: Batches
    loss: Callable[[Any], Tensor]
    start: Callable[[], None] = lambda: None
    before_epoch: Callable[[], None] = lambda: None
    couples: bool = False


class Recommender(nn.Module, ABC):
    """A model. The constructor takes `data` (`ItemData`) and its settings, both as keywords."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Which of 'codes' and 'features' the model is built from; the model file keeps them, so that it can be loaded."""
    reads: tuple[str, ...] | None = None
    """The features that it reads, which the model file keeps; None: all of them, if it needs features."""
    history: int = HISTORY
    """Length T of the history that the model sees: a user's last items."""
    per_item: ClassVar[tuple[str, ...]] = ()
    """Weights with one row per item: `train --from` moves them to the rows of its input, and new items get new ones."""
    new_rows: ClassVar[Mapping[str, float]] = {}
    """Of `per_item`: what the row of an item that came after the training is filled with, where that is not 0."""
    of_catalogue: ClassVar[Mapping[str, int | None]] = {}
    """Buffers that `refresh` computes from the other weights and all items together -> their dimension of the items,
    None where they have none."""

    @classmethod
    def needed(cls, settings: Mapping[str, Any]) -> frozenset[str]:
        """`needs` of a model with these settings: features too, if it has the option `features` and that names some."""
        return cls.needs | ({"features"} if settings.get("features") else set())

    def prepare(self, train: Sequences) -> None:
        """Called once before training, after the weights of an earlier model (`train --from`) are loaded; never on
        loading alone: what it learns must be in buffers or parameters, and is counted from zero."""

    def refresh(self) -> None:
        """Compute the buffers `of_catalogue` anew, since the weights are those of a model with other items."""

    def batches(self, train: Sequences, *, batch_size: int, seed: int) -> Batches:
        """The training batches, of one of the classes of `data/batches.py`. By default every position of every window
        has a target, so a position must not see the following ones."""
        return WindowBatches(train, batch_size=batch_size, seed=seed, history=self.history)

    def phases(self, train: Sequences, fit: Any, *, seed: int) -> tuple[Phase, ...]:
        """The phases of gradient training, () if there is none. fit: the model's configuration (epochs, …)."""
        batches = self.batches(train, batch_size=fit.batch_size, seed=seed)
        return (Phase(name="train", epochs=fit.epochs, batches=batches, loss=self.loss),)

    def calibrate(self, batches: Iterable[tuple[Batch, Tensor | None]]) -> None:
        """Called before each validation, with some of its batches (the target is at the last item's position) and what
        is left out of their rankings (`Wanted.exclude`).

        For single numbers that must be fitted on held-out data; they must be in a buffer.
        """

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Mean loss over the batch's targets, a scalar."""

    @abstractmethod
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """The K best items for each history, best first.

        Returns:
            items (B, K) int64, rows, PAD where fewer than K are allowed; scores (B, K) float32, -inf there.
        """


class Untrained(Recommender):
    """A model that `prepare` alone fits: nothing is trained by gradient, and the whole history counts."""

    history = 1000

    def phases(self, train: Sequences, fit: Any, *, seed: int) -> tuple[Phase, ...]:
        """()."""
        return ()

    def loss(self, batch: Batch) -> Tensor:
        """Zero."""
        return torch.zeros((), device=batch.items.device)


CELLS = {"cpu": 1 << 22}
"""Device -> scores that are made and ranked at once."""
ELSEWHERE = 1 << 26
"""The same on other devices, which memory bounds and not a cache."""
BLOCK = 64
"""Neighbouring scores whose maximum is looked at before they are."""


def top_items(scores: Tensor, wanted: Wanted) -> tuple[Tensor, Tensor]:
    """The result of `recommend` from the scores (B, I) of all items; equal scores in the order of the items' rows."""
    return top_blocks(lambda first, last: scores[:, first:last], scores, scores.shape[1], wanted)


def top_products(
    states: Tensor, items: Tensor, wanted: Wanted, *, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`top_items` of the scores states @ items.T + bias, which are never all in memory.

    Args:
        states: (B, D) float32; items: (I, D) float32; bias: (I,) or None.
    """

    def scores(first: int, last: int) -> Tensor:
        made = states @ items[first:last].T
        return made if bias is None else made + bias[first:last]

    return top_blocks(scores, states, len(items), wanted)


def top_blocks(
    scores: Callable[[int, int], Tensor], like: Tensor, items: int, wanted: Wanted
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`top_items` of scores that are made for a block of items at a time, and never all in memory.

    Args:
        scores: (first, last) -> scores (B, last - first) of the rows from first to last.
        like: (B, …) on their device.
        items: I.
    """
    users, k = len(like), min(wanted.k, items)
    best, found = like.new_empty(users, 0, dtype=torch.float32), like.new_empty(users, 0, dtype=torch.int64)
    size = max(1, CELLS.get(like.device.type, ELSEWHERE) // max(1, users), k)
    for first in range(0, items, size):
        last = min(first + size, items)
        part = _permitted(scores(first, last).float(), wanted, first)
        rows, values = _first(part, min(k, last - first))
        # What was found before has lower rows, so a stable sort keeps the order of equal scores.
        best, order = torch.cat([best, values], dim=1).sort(dim=1, descending=True, stable=True)
        found = torch.cat([found, rows + first], dim=1).gather(1, order[:, :k])
        best = best[:, :k]
    return pad_answer(found.masked_fill(best == -torch.inf, -1), best, wanted.k)


def _permitted(scores: Tensor, wanted: Wanted, first: int) -> Tensor:
    """The scores (B, C) of the items from row `first` on, -inf for those that may not be recommended."""
    items = scores.shape[1]
    if wanted.allowed is not None:
        scores = scores.masked_fill(~wanted.allowed[first : first + items], -torch.inf)
    if wanted.exclude is not None:
        places = wanted.exclude - first
        here = (places >= 0) & (places < items)
        scores = scores.index_put((here.nonzero()[:, 0], places[here]), scores.new_tensor(-torch.inf))
    return scores


def check_answer(answer: Any, model: Recommender, wanted: Wanted, *, users: int, items: int) -> None:
    """Raises: DataError: what is none of `Recommender.recommend`, and would give wrong numbers.

    items: I, 0 if it is not known.
    """
    if wrong := _wrong(answer, wanted, users, items):
        raise DataError(f"the model {type(model).__name__} recommends {wrong}", "correct its method recommend")


def _wrong(answer: Any, wanted: Wanted, users: int, items: int) -> str:
    if not isinstance(answer, tuple) or [isinstance(each, Tensor) for each in answer] != [True, True]:
        return "something else than a tuple of two tensors, items and scores"
    (rows, scores), shape = answer, (users, wanted.k)
    if rows.is_floating_point() or rows.dtype == torch.bool:
        return f"items of the type {rows.dtype}; integers are needed"
    for what, found in (("items", rows), ("scores", scores)):
        if found.shape != shape:
            return f"an array {tuple(found.shape)} of {what}; {shape} is needed: users, items"
    ordered, there = rows.sort(dim=1).values, rows != PAD
    if (ordered < PAD).any() or (items and (ordered >= items).any()):
        return f"rows that no item has, from {ordered.min()} to {ordered.max()}"
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PAD)).any():
        return "an item twice to one user"
    if scores[there].isnan().any():
        return "scores that are not numbers"
    if (there[:, 1:] & ~there[:, :-1]).any():
        return "items behind places without one"
    if (there[:, 1:] & (scores[:, 1:] > scores[:, :-1])).any():
        return "items that are not sorted by their scores, the best first"
    if wanted.allowed is not None and not wanted.allowed[rows[there]].all():
        return "items that are not among those that are allowed"
    excluded = wanted.exclude if wanted.exclude is not None else ()
    if any(bool(torch.isin(found[found != PAD], own).any()) for found, own in zip(rows, excluded, strict=False)):
        return "items that are left out of a user's ranking"
    return ""


def diverged() -> DivergedError:
    """For scores that are not numbers."""
    return DivergedError("the model's scores are not numbers; its training has diverged", "a lower --learning-rate")


def _first(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The first k columns of a stable descending sort of scores (B, C): their numbers, and the scores.

    They lie in the k blocks of columns with the highest maxima (of equal ones, the first): an item elsewhere has k
    blocks before its own, each with an item that comes before it.
    """
    whole = scores.shape[1] // BLOCK
    if whole <= 2 * k:
        return _first_of_few(scores, k)
    blocks = scores[:, : whole * BLOCK].unflatten(1, (whole, BLOCK))
    chosen = _first_of_few(blocks.amax(2), k)[0].sort(dim=1).values
    inside = (chosen.unsqueeze(2) * BLOCK + torch.arange(BLOCK, device=scores.device)).flatten(1)
    rest = torch.arange(whole * BLOCK, scores.shape[1], device=scores.device)
    inside = torch.cat([inside, rest.expand(len(scores), -1)], dim=1)
    places, values = _first_of_few(scores.gather(1, inside), k)
    return inside.gather(1, places), values


def _first_of_few(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See `_first`; 6 times faster than sorting all columns."""
    best = scores.topk(k, dim=1).values
    if bool(best[:, 0].isnan().any()):  # of several numbers, what is none comes first
        raise diverged()
    last = best[:, -1:]
    above, tied = scores > last, scores == last
    chosen = above | (tied & (tied.cumsum(1, dtype=torch.int32) <= k - above.sum(1, keepdim=True)))
    items = chosen.nonzero()[:, 1].view(-1, k)
    order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    return items.gather(1, order.indices), order.values
