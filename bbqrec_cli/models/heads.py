"""Heads that score all items at once, beside a generator, and the shares that each has in what is recommended.

B users, C candidates of a user, I items, D width, H heads.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.markov import Markov
from bbqrec_cli.models.neighbours import from_the_last, whole_weight
from bbqrec_cli.models.options.markov import MarkovConfig
from bbqrec_cli.records import ItemData, Sequences

FACTORS = (4.0, 2.0, 1.3)
"""Shares are multiplied and divided by these in search of better ones, by the largest first."""
DEPTH = 10
"""k of the NDCG that chooses them."""
NEARLY = 0.98
"""Nearly all."""
SMALLEST = 1e-3
"""No share is smaller."""
LEAST = 1e-12
"""A probability counts as no less, so that its logarithm is a number."""
EVEN = 0.01
"""Part of the Markov head's probability that all items share alike."""


class Head(nn.Module):
    """weight (): its share in the score of an item, Σ share · log P over the generator, which has what the heads leave,
    and the heads: a logarithmic opinion pool (Genest and Zidek, Statistical Science 1986), without its constant.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor(0.0))

    def prepare(self, train: Sequences) -> None:
        """Count what there is to count."""


class DenseHead(Head):
    """P(i) by a softmax over all items; an item's vector is the sum of its codes' vectors plus a learnt vector.

    The learnt vector starts at zero and is learnt for items with interactions: any other is the sum of its codes.
    """

    warm: Tensor

    def __init__(self, items: int, width: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.zeros(items, width))
        self.register_buffer("warm", torch.ones(items, 1, dtype=torch.bool), persistent=False)

    def prepare(self, train: Sequences) -> None:
        """Find the items with interactions."""
        self.warm.zero_()[torch.from_numpy(np.unique(train.items).astype(np.int64))] = True

    def table(self, composed: Tensor) -> Tensor:
        """Item vectors (I, D); composed (I, D): the sums of their codes' vectors."""
        return composed + torch.where(self.warm, self.own, self.own.detach())


class MarkovHead(Head):
    """P(i) by the Markov chain of the model `markov` with its defaults: counted, not trained.

    As in kNN-LM (Khandelwal et al., ICLR 2020), what the training data say literally beside what a model has learnt.
    A part `EVEN` of it is spread evenly, so that items that nobody had are not ruled out.
    """

    per_item = tuple(f"chain.{each}" for each in Markov.per_item)
    new_rows: ClassVar[dict[str, float]] = {"chain.remainder": 1.0}
    """Nothing follows a new item: what is left for popularity is all."""

    def __init__(self, data: ItemData) -> None:
        super().__init__()
        chosen = MarkovConfig()
        self.chain = Markov(data=data, successors=chosen.successors, smoothing=chosen.smoothing, decay=chosen.decay)

    def prepare(self, train: Sequences) -> None:
        """Count the transitions."""
        self.chain.prepare(train)

    def forward(self, batch: Batch) -> Tensor:
        """log P of all items after each history, (B, I) float32."""
        found = self.chain.probabilities(batch)
        return ((1 - EVEN) * found + EVEN / found.shape[1]).log()


class SimilarityHead(Head):
    """P(i) by how similar item i is to the history; counted and computed, not trained.

    s_i = Σ decay^k cos(v_i, v_k) / Σ decay^k over the items of the history, k places before the last, and
    P(i) ∝ exp(s_i / τ) among the items outside of the history and among those in it. The latter have together the share
    of training targets that stand in their last T items, as RepeatNet (Ren et al., AAAI 2019) learns to repeat or to
    explore.

    Args:
        vectors: (I, D), scaled to unit length here; zeros: an item without any, similar to nothing.
        history: T.
    """

    temperature, decay = 0.1, 0.8
    vectors: Tensor
    repeats: Tensor

    def __init__(self, vectors: Tensor, history: int) -> None:
        super().__init__()
        self.history = history
        # The model file keeps the vectors themselves.
        self.register_buffer("vectors", normalize(vectors, dim=1), persistent=False)
        self.register_buffer("repeats", torch.tensor(0.0))

    def prepare(self, train: Sequences) -> None:
        """Count the repeats."""
        users = train.users
        order = np.lexsort((np.arange(len(users)), train.items, users))
        same = (np.diff(users[order]) == 0) & (np.diff(train.items[order]) == 0)
        near = np.diff(order) <= self.history
        self.repeats.fill_((same & near).sum() / max(1, len(users) - np.count_nonzero(train.lengths)))

    def forward(self, batch: Batch) -> Tensor:
        """log P of all items after each history, (B, I) float32, `LEAST` at least."""
        weighted = from_the_last(batch, self.decay)
        history = torch.stack([self.vectors[items] * weight.unsqueeze(1) for items, weight in weighted]).sum(0)
        with torch.autocast(history.device.type, enabled=False):
            similar = history @ self.vectors.T / (whole_weight(batch, self.decay) * self.temperature)
        seen = torch.zeros(len(similar), similar.shape[1] + 1, dtype=torch.bool, device=similar.device)
        places = batch.items.masked_fill(batch.items == PAD, similar.shape[1])
        seen = seen.scatter_(1, places, True)[:, :-1]
        new = similar.masked_fill(seen, -torch.inf).log_softmax(1) + (1 - self.repeats).log()
        old = similar.masked_fill(~seen, -torch.inf).log_softmax(1) + self.repeats.log()
        return torch.where(seen, old, new).clamp(min=math.log(LEAST))


def best_shares(hit: Tensor, log_p: Tensor) -> Tensor:
    """The shares of the generator and the heads, (1 + H,), with a high NDCG@10; the generator has some.

    Equal shares at first; then nearly all for one, and one after the other larger or smaller, as long as that is better
    by more than a standard error of the difference: less would be noise of these users.

    Args:
        hit: (B, C) bool, the target among the candidates; at most one.
        log_p: (B, C, 1 + H), the candidates' by the generator and each head; -inf of the generator: no candidate.
    """
    count = log_p.shape[2]
    shares = log_p.new_full((count,), 1 / count)
    best = ndcg(pooled(log_p, shares[1:]), hit)

    def improves(tried: Tensor) -> bool:
        nonlocal shares, best
        found = ndcg(pooled(log_p, tried[1:]), hit)
        gain = found - best
        if tried.min() < SMALLEST or not gain.mean() > gain.std(correction=0) / len(gain) ** 0.5:
            return False
        shares, best = tried, found
        return True

    for alone in torch.eye(count).to(log_p):
        improves(NEARLY * alone + (1 - NEARLY) / count)
    for factor in (each for size in FACTORS for each in (size, 1 / size)):
        for number in range(count):
            while improves(scaled(shares, number, factor)):
                pass
    return shares


def scaled(shares: Tensor, number: int, factor: float) -> Tensor:
    """Shares, one of which is so many times what it was beside the others."""
    made = shares.clone()
    made[number] *= factor
    return made / made.sum()


def pooled(log_p: Tensor, shares: Tensor) -> Tensor:
    """Scores (…) from the log P (…, 1 + H) of the generator and the heads; shares (H,) of the heads."""
    return (1 - shares.sum()) * log_p[..., 0] + (log_p[..., 1:] * shares).sum(-1)  # not @, which autocast would round


def ndcg(scores: Tensor, hit: Tensor) -> Tensor:
    """NDCG@10 of each target among candidates, (B, C) both -> (B,); one that is not there has 0, and one whose score
    others have, too, is the first of them."""
    target = scores.masked_fill(~hit, -torch.inf).amax(1, keepdim=True)
    rank = 1 + (scores > target).sum(1)
    return (1 / (1 + rank).log2()).masked_fill((rank > DEPTH) | ~hit.any(1), 0)
