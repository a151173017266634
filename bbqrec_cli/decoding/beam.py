"""Beam search over the trie of the catalogue's semantic IDs: only valid items, no duplicates, filters in the beam.

B users, W beams, n prefixes, P of the users with R prefixes each, C children, M signals, N codes, I items, S excluded
items, K results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from bbqrec_cli.decoding.trie import Trie

Step = Callable[[int, Tensor, Tensor], "tuple[Tensor, Tensor | None]"]
"""(level, parent (B, W), codes (B, W, M)) -> logits (B, W, M, N) of the level's codes, and at level 0 logits (B, C)
of the C tuples of the first level, which then count, or None.

Beam w extends beam parent[w] of the previous step by codes[w]; at level 0 there is one beam, and both are zero."""

Expand = Callable[[int, Tensor, Tensor, Tensor], "tuple[Tensor, Tensor | None]"]
"""(level, users (n,), parent (n,), nodes (n,)) -> logits (n, M, N) and tuples (n, C) as of `Step`, for n prefixes.

users: rows of the users, ascending, all of them at level 0; nodes: those of the prefixes in the trie, at depth `level`;
parent: numbers of the prefixes that they extend, counted from 0 over all calls at the level before, 0 at level 0.
"""


@dataclass(frozen=True, eq=False)
class Permitted:
    """The nodes below which a user has an item that may be recommended."""

    trie: Trie
    allowed: Tensor | None
    """(I,) bool, in item rows; None: all."""
    excluded: Tensor
    """(B, S) places of the excluded items in the trie's order, sorted, filled with I."""
    before: Tensor
    """(I + 1,) number of allowed items before each place of the trie's order."""

    @classmethod
    def of(cls, trie: Trie, allowed: Tensor | None, exclude: Tensor | None, users: int) -> Permitted:
        """From `Wanted.allowed` (I,) and `Wanted.exclude` (B, S), rows of items, PAD = none."""
        if allowed is None:
            before = torch.arange(trie.items + 1, device=trie.order.device)
        else:
            before = pad(allowed[trie.order].cumsum(0), (1, 0))
        if exclude is None:
            exclude = trie.order.new_zeros(users, 0)
        rows = exclude.clamp(min=0)
        counted = exclude >= 0
        if allowed is not None:
            counted &= allowed[rows]
        places = torch.where(counted, trie.place[rows], trie.items).sort(dim=1).values
        again = torch.zeros_like(counted)
        again[:, 1:] = places[:, 1:] == places[:, :-1]
        return cls(trie, allowed, torch.where(again, trie.items, places).sort(dim=1).values, before)

    def users(self, users: Tensor) -> Permitted:
        """The same of some users, rows (U,) of the B."""
        return replace(self, excluded=self.excluded[users])

    def count(self, depth: int, nodes: Tensor) -> Tensor:
        """(B, n) for nodes (B, n) at `depth`: the number of permitted items below."""
        bounds = self.trie.bounds(depth)
        start, stop = bounds[nodes], bounds[nodes + 1]
        count = self.before[stop] - self.before[start]
        if not self.excluded.shape[1]:
            return count
        return count - (torch.searchsorted(self.excluded, stop) - torch.searchsorted(self.excluded, start))

    def only(self, scores: Tensor, depth: int, nodes: Tensor) -> Tensor:
        """The scores of nodes (B, n) at `depth`, -inf where no permitted item is below."""
        if self.allowed is None and not self.excluded.shape[1]:
            return scores
        return scores.masked_fill(self.count(depth, nodes) <= 0, -torch.inf)

    def places(self, places: Tensor) -> Tensor:
        """(B, n) bool for places (B, n) in the trie's order: whether the item is permitted."""
        allowed = torch.ones_like(places, dtype=torch.bool)
        if self.allowed is not None:
            allowed = self.allowed[self.trie.order[places]]
        if not self.excluded.shape[1]:
            return allowed
        found = torch.searchsorted(self.excluded, places.contiguous()).clamp(max=self.excluded.shape[1] - 1)
        return allowed & (self.excluded.gather(1, found) != places)


@dataclass(eq=False)
class Trace:
    """A record of a beam search.

    dropped: (B,) the highest score of a dropped node (-inf at first): all items with a higher score were found.
    nodes, scores: (B, W) per level, the beams that were kept.
    """

    dropped: Tensor
    nodes: list[Tensor] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)

    def record(self, nodes: Tensor, kept: Tensor, total: Tensor, best: Tensor) -> None:
        """Record a level: nodes and scores (B, W) of the beams, which are the columns `best` of `total` (B, n)."""
        self.nodes.append(nodes)
        self.scores.append(kept)
        self.dropped = self.dropped.maximum(total.scatter(1, best, -torch.inf).amax(1))

    def proven(self, depth: int) -> Tensor:
        """(B,) bool: whether the first `depth` items found are certainly the best of all."""
        last = self.scores[-1][:, :depth]
        better = (last[:, -1] > self.dropped) & (last.shape[1] == depth)
        return better | (self.dropped == -torch.inf)


def beam_search(
    trie: Trie, step: Step, *, width: int, k: int, permitted: Permitted, over_children: bool, trace: Trace | None = None
) -> tuple[Tensor, Tensor]:
    """The K most probable items of each user; equal scores in the order of the codes.

    Args:
        step: logits of a level given the codes so far.
        width: beams W; at least k are kept.
        k: K.
        over_children: normalise each level over the existing children (else: a softmax over N per signal).
        trace: records the search.

    Returns:
        items (B, K) rows, best first, -1 where fewer are permitted; scores (B, K) log-probabilities, -inf there. Items
        that share an ID are adjacent, in the order of their rows.
    """
    width, users = max(width, k), len(permitted.excluded)
    nodes = parent = torch.zeros(users, 1, dtype=torch.int64, device=trie.order.device)
    codes = nodes.unsqueeze(2).expand(-1, -1, trie.signals)
    score = torch.zeros_like(nodes, dtype=torch.float32)
    for level in range(trie.levels):
        logits, tuples = step(level, parent, codes)
        children, found = child_log_probabilities(trie, level, nodes, logits, over_children, tuples)
        flat, total = children.flatten(1), (score.unsqueeze(2) + found).flatten(1)
        total = permitted.only(total, level + 1, flat)
        best = sort_keys(total, flat).topk(min(width, total.shape[1]), dim=1).indices
        nodes, score, parent = flat.gather(1, best), total.gather(1, best), best // children.shape[2]
        codes = trie.codes(level)[nodes]
        if trace is not None:
            trace.record(nodes, score, total, best)
    return leaf_items(trie, nodes, score, permitted, k)


@dataclass(frozen=True, eq=False)
class PathLevel:
    """One level of the paths to given items (B, A): the possible children and the chosen one. X is 1 at level 0, else
    A."""

    logits: Tensor
    """(B, X, M, N) of the level's codes."""
    children: Tensor
    """(B, X, C) nodes of the next depth."""
    found: Tensor
    """(B, X, C) their log-probabilities, -inf where there are fewer."""
    chosen: Tensor
    """(B, A) index of the child that leads to the item."""

    @property
    def log_probability(self) -> Tensor:
        """log P of the item's code tuple at this level, (B, A)."""
        return self.found.expand(-1, self.chosen.shape[1], -1).gather(2, self.chosen.unsqueeze(2)).squeeze(2)


def follow_path(trie: Trie, step: Step, items: Tensor, *, over_children: bool) -> Iterator[PathLevel]:
    """Yield the levels of the paths to items (B, A), with the step function of a search (teacher forcing)."""
    users, count = items.shape
    nodes = parent = items.new_zeros(users, 1)
    codes = nodes.unsqueeze(2).expand(-1, -1, trie.signals)
    for level in range(trie.levels):
        logits, tuples = step(level, parent, codes)
        children, found = child_log_probabilities(trie, level, nodes, logits, over_children, tuples)
        below = trie.node(level + 1)[items]
        yield PathLevel(logits, children, found, below - trie.child_bounds(level)[nodes])
        parent = nodes.expand(-1, count) if not level else torch.arange(count, device=items.device).expand(users, -1)
        nodes, codes = below, trie.codes(level)[below]


def item_log_probabilities(trie: Trie, step: Step, items: Tensor, *, over_children: bool) -> Tensor:
    """log P of items (B, A): (B, A) float32, as a beam search scores them."""
    places = follow_path(trie, step, items, over_children=over_children)
    return torch.stack([place.log_probability for place in places]).sum(0)


def best_items(trie: Trie, items: Tensor, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The K best of items (B, n), PAD = none, by scores (B, n); returns as `beam_search`."""
    scores = scores.masked_fill(items < 0, -torch.inf)
    at = sort_keys(scores, trie.place[items.clamp(min=0)]).topk(min(k, items.shape[1]), dim=1).indices
    best = scores.gather(1, at)
    return pad_answer(items.gather(1, at).masked_fill(best == -torch.inf, -1), best, k)


def pad_answer(items: Tensor, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Items and scores (B, n), n ≤ K, padded to (B, K) with -1 and -inf."""
    missing = (0, k - items.shape[1])
    return pad(items, missing, value=-1), pad(scores, missing, value=-torch.inf)


def sort_keys(scores: Tensor, nodes: Tensor) -> Tensor:
    """Integers that sort by float32 scores, then by nodes, the lowest node highest."""
    bits = (scores + 0.0).view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered.long() << 32) - nodes


def sums_of_codes(logits: Tensor, codes: Tensor) -> Tensor:
    """(n, C) for code tuples (C, M): the sums of their codes' logits (n, M, N)."""
    return torch.stack([logits[:, m].index_select(1, codes[:, m]) for m in range(codes.shape[1])]).sum(0)


def child_log_probabilities(
    trie: Trie, level: int, nodes: Tensor, logits: Tensor, over_children: bool, tuples: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Children (B, W, C) of the nodes (B, W), and their log-probabilities, -inf where a node has fewer than C.

    tuples (B, C): the children's logits at level 0, where W is 1; None: the sums of those of their codes.
    """
    logits = logits.float() if over_children else logits.float().log_softmax(3)
    if not level:  # all are below the root
        codes = trie.codes(0)
        children = torch.arange(len(codes), device=nodes.device).expand(*nodes.shape, -1)
        found = (sums_of_codes(logits[:, 0], codes) if tuples is None else tuples).unsqueeze(1)
        return children, found - found.logsumexp(2, keepdim=True) if over_children else found
    bounds = trie.child_bounds(level)
    first, count = bounds[nodes], bounds[nodes + 1] - bounds[nodes]
    offset = torch.arange(int(count.max()), device=nodes.device)
    real = offset < count.unsqueeze(2)
    children = torch.where(real, first.unsqueeze(2) + offset, 0)
    codes = trie.codes(level)[children]
    found = torch.stack([logits[:, :, m].gather(2, codes[..., m]) for m in range(trie.signals)]).sum(0)
    found = found.masked_fill(~real, -torch.inf)
    return children, found - found.logsumexp(2, keepdim=True) if over_children else found


def decode_below(
    trie: Trie,
    expand: Expand,
    level: int,
    users: Tensor,
    nodes: Tensor,
    rows: Tensor,
    scores: Tensor,
    real: Tensor,
    over_children: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Decode a level after those of the prefixes (P, R) of users (P,) that are `real`.

    rows: see `Expand`; scores: log-probabilities.

    Returns:
        children (P, R, C) of the prefixes, their log-probabilities, -inf where there is none, and which one in this
        call each prefix is, (P, R).
    """
    shape, at = real.shape, real.flatten().nonzero()[:, 0]
    if not len(at):
        nothing = nodes.unsqueeze(2)[:, :, :0]
        return nothing, nothing.to(scores.dtype), torch.zeros_like(nodes)
    node = nodes.flatten()[at]
    logits, tuples = expand(level, users[at // shape[1]], rows.flatten()[at], node)
    children, found = child_log_probabilities(
        trie, level, node.unsqueeze(1), logits.unsqueeze(1), over_children, tuples
    )
    found = scores.flatten()[at].view(-1, 1, 1) + found
    number = torch.arange(len(at), device=at.device)
    if len(at) < shape.numel():
        children = children.new_zeros(shape.numel(), 1, children.shape[2]).index_copy_(0, at, children)
        found = found.new_full(children.shape, -torch.inf).index_copy_(0, at, found)
        number = torch.zeros_like(real, dtype=torch.int64).flatten().index_copy_(0, at, number)
    return children.view(*shape, -1), found.view(*shape, -1), number.view(shape)


def leaf_items(trie: Trie, leaves: Tensor, score: Tensor, permitted: Permitted, k: int) -> tuple[Tensor, Tensor]:
    """The first K permitted items (B, K) of the leaves (B, W), in their order, with scores (B, K)."""
    places, real = places_below(trie, leaves, score)
    real &= permitted.places(places)
    scores = score.unsqueeze(2).expand(-1, -1, places.shape[1] // leaves.shape[1]).flatten(1)
    keep = (~real).to(torch.uint8).argsort(dim=1, stable=True)[:, :k]
    items = torch.where(real, trie.order[places], -1).gather(1, keep)
    best = torch.where(real, scores, -torch.inf).gather(1, keep)
    return pad_answer(items, best, k)


def places_below(trie: Trie, leaves: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """Places (B, W · X) in the trie's order of the items of leaves (B, W), X for each, and which of them exist.

    The leaves with a score of -inf have none.
    """
    bounds = trie.bounds(trie.levels)
    start, count = bounds[leaves], bounds[leaves + 1] - bounds[leaves]
    offset = torch.arange(int(count.max()), device=leaves.device)
    real = (offset < count.unsqueeze(2)) & (score > -torch.inf).unsqueeze(2)
    return torch.where(real, start.unsqueeze(2) + offset, 0).flatten(1), real.flatten(1)
