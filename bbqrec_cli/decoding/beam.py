"""Beam search over the trie of real semantic IDs: no invalid item, no duplicate, filters inside the beam.

B users, W beams, C children, M signals, N codes, I items, S excluded items, K results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bbqrec_cli.decoding.trie import Trie

Step = Callable[[int, Tensor, Tensor], "tuple[Tensor, Tensor | None]"]
"""(level, parent (B, W), codes (B, W, M)) -> logits (B, W, M, N) of the level's codes, and at level 0 what the C tuples
of the first level add of their own (B, C), or None.

Beam w grew out of beam parent[w] of the step before by codes[w]; at level 0 there is one beam, and both are zero."""


@dataclass(frozen=True, eq=False)
class Alive:
    """Which nodes still lead to an item that may be recommended to a user."""

    trie: Trie
    allowed: Tensor
    """(I,) bool, in item rows."""
    excluded: Tensor
    """(B, S) places of the excluded items in the trie's order, sorted, I where there is none."""

    @classmethod
    def of(cls, trie: Trie, allowed: Tensor | None, exclude: Tensor | None, users: int) -> Alive:
        """From `Wanted.allowed` and `Wanted.exclude` (B, S) item rows, PAD = none."""
        device = trie.order.device
        if allowed is None:
            allowed = torch.ones(trie.items, dtype=torch.bool, device=device)
        if exclude is None or not exclude.shape[1]:
            return cls(trie, allowed, torch.full((users, 1), trie.items, device=device))
        rows = exclude.clamp(min=0)
        counted = (exclude >= 0) & allowed[rows]
        places = torch.where(counted, trie.place[rows], trie.items).sort(dim=1).values
        again = torch.zeros_like(counted)
        again[:, 1:] = places[:, 1:] == places[:, :-1]
        return cls(trie, allowed, torch.where(again, trie.items, places).sort(dim=1).values)

    def nodes(self, depth: int, nodes: Tensor) -> Tensor:
        """(B, n) bool for nodes (B, n) at `depth`: does a permitted item remain below?"""
        bounds = self.trie.bounds(depth)
        start, stop = bounds[nodes], bounds[nodes + 1]
        permitted = torch.nn.functional.pad(self.allowed[self.trie.order].cumsum(0), (1, 0))
        removed = torch.searchsorted(self.excluded, stop) - torch.searchsorted(self.excluded, start)
        return permitted[stop] - permitted[start] > removed

    def places(self, places: Tensor) -> Tensor:
        """(B, n) bool for places (B, n) in the trie's order."""
        found = torch.searchsorted(self.excluded, places).clamp(max=self.excluded.shape[1] - 1)
        return self.allowed[self.trie.order[places]] & (self.excluded.gather(1, found) != places)


def beam_search(
    trie: Trie, step: Step, *, width: int, k: int, alive: Alive, over_children: bool
) -> tuple[Tensor, Tensor]:
    """The K most probable items of each user; equal scores in the order of the codes.

    Args:
        step: logits of a level given the codes so far.
        width: beams W; at least k are kept.
        over_children: normalise each level over the children that exist (else: a softmax over N a signal).

    Returns:
        items (B, K) rows, best first, -1 where fewer are permitted; scores (B, K) log-probabilities, -inf there. Items
        that share an ID stand one after the other, in the order of their rows.
    """
    width, users = max(width, k), len(alive.excluded)
    nodes = parent = torch.zeros(users, 1, dtype=torch.int64, device=trie.order.device)
    codes = nodes.unsqueeze(2).expand(-1, -1, trie.signals)
    score = torch.zeros_like(nodes, dtype=torch.float32)
    for level in range(trie.levels):
        logits, own = step(level, parent, codes)
        children, found = child_log_probabilities(trie, level, nodes, logits, over_children, own)
        flat, total = children.flatten(1), (score.unsqueeze(2) + found).flatten(1)
        total = total.masked_fill(~alive.nodes(level + 1, flat), -torch.inf)
        best = ranks(total, flat).topk(min(width, total.shape[1]), dim=1).indices
        nodes, score, parent = flat.gather(1, best), total.gather(1, best), best // children.shape[2]
        codes = trie.codes(level)[nodes]
    return _items(trie, nodes, score, alive, k)


def ranks(scores: Tensor, nodes: Tensor) -> Tensor:
    """Integers in the order of the float32 scores, and of the nodes (the lower is the better) where these are equal."""
    bits = (scores + 0.0).view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered.long() << 32) - nodes


def child_log_probabilities(
    trie: Trie, level: int, nodes: Tensor, logits: Tensor, over_children: bool, own: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Children (B, W, C) of the nodes (B, W), and their log-probabilities, -inf where a node has fewer than C.

    own (B, C): added to the children's logits at level 0, where W is 1.
    """
    bounds = trie.child_bounds(level)
    first, count = bounds[nodes], bounds[nodes + 1] - bounds[nodes]
    offset = torch.arange(int(count.max()), device=nodes.device)
    real = offset < count.unsqueeze(2)
    children = torch.where(real, first.unsqueeze(2) + offset, 0)
    logits = logits.float() if over_children else logits.float().log_softmax(3)
    codes = trie.codes(level)[children]
    found = torch.stack([logits[:, :, m].gather(2, codes[..., m]) for m in range(trie.signals)]).sum(0)
    if own is not None:
        found = found + own.unsqueeze(1)
    found = found.masked_fill(~real, -torch.inf)
    return children, found - found.logsumexp(2, keepdim=True) if over_children else found


def _items(trie: Trie, leaves: Tensor, score: Tensor, alive: Alive, k: int) -> tuple[Tensor, Tensor]:
    """The leaves' permitted items, in the leaves' order."""
    bounds = trie.bounds(trie.levels)
    start, count = bounds[leaves], bounds[leaves + 1] - bounds[leaves]
    offset = torch.arange(int(count.max()), device=leaves.device)
    real = (offset < count.unsqueeze(2)) & (score > -torch.inf).unsqueeze(2)
    places = torch.where(real, start.unsqueeze(2) + offset, 0).flatten(1)
    real = real.flatten(1) & alive.places(places)
    scores = score.unsqueeze(2).expand(-1, -1, len(offset)).flatten(1)
    keep = (~real).to(torch.uint8).argsort(dim=1, stable=True)[:, :k]
    items = torch.where(real, trie.order[places], -1).gather(1, keep)
    best = torch.where(real, scores, -torch.inf).gather(1, keep)
    missing = k - keep.shape[1]
    return torch.nn.functional.pad(items, (0, missing), value=-1), torch.nn.functional.pad(
        best, (0, missing), value=-torch.inf
    )
