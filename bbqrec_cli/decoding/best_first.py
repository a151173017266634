"""Exact best-first search over the trie: the K best items of all, without a beam width.

log-probabilities never rise along a path, so the score of a prefix bounds those of all items below it. Prefixes are
expanded in the order of their bounds, until K items are better than every prefix that is left.

B users, P users of a step, R prefixes per user, C children, M signals, N codes, F prefixes that are kept, K results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from bbqrec_cli.decoding.beam import (
    Expand,
    Permitted,
    best_items,
    decode_below,
    leaf_items,
    places_below,
    sort_keys,
)
from bbqrec_cli.decoding.columns import Columns
from bbqrec_cli.decoding.trie import Trie

Start = Callable[[Tensor], Expand]
"""Users, rows (U,) of all -> the `Expand` of these U users, with nothing expanded yet."""

AT_ONCE = 12
"""Prefixes of a user that a round expands at most: more of them waste work, fewer need more rounds. Users who need
many rounds get larger ones: a quarter of what they have had."""
KEPT = 256
"""Prefixes of a user that are kept for later rounds, and that are expanded, before the user is searched for alone."""
GROWTH = 8
"""Factor by which that grows for users who need more."""


@dataclass(eq=False)
class OtherScores:
    """A second score of items: an item's is share · the generator's log-probability + this one.

    best: per depth 1 … L, (B, n_d): the highest second score of the permitted items below each node.
    items: (B, I) of all items, in the trie's order.
    share: (), above 0.
    """

    best: list[Tensor]
    items: Tensor
    share: Tensor

    @classmethod
    def of(cls, trie: Trie, scores: Tensor, permitted: Permitted, share: Tensor) -> OtherScores:
        """scores (B, I): of all items, in the order of their rows."""
        items = scores[:, trie.order]
        places = torch.arange(trie.items, device=scores.device).expand_as(items)
        below, best = items.masked_fill(~permitted.places(places), -torch.inf), list[Tensor]()
        for depth in range(trie.levels, 0, -1):
            # Each node of the depth below, or each item, belongs to one of this depth.
            size = (trie.bounds(depth) if depth == trie.levels else trie.child_bounds(depth)).diff()
            parent = torch.arange(len(size), device=scores.device).repeat_interleave(size).expand_as(below)
            low = below.new_full((len(below), len(size)), -torch.inf)
            below = low.scatter_reduce(1, parent, below, "amax")
            best.insert(0, below)
        return cls(best, items, share)

    def users(self, users: Tensor) -> OtherScores:
        """The same of some users, rows (U,) of the B."""
        return OtherScores([each[users] for each in self.best], self.items[users], self.share)

    def bound(self, trie: Trie, depth: int, users: Tensor, nodes: Tensor, scores: Tensor, single: Tensor) -> Tensor:
        """Bounds of items below nodes (P, n) with log-probabilities `scores`, for users (P,); single: see `_keep`.

        The items of a leaf share its probability, so there the bound is the best one's score.
        """
        sharing = torch.where(single, trie.bounds(depth).diff(), 1).log()
        return self.share * (scores - sharing[nodes]) + self.best[depth - 1][users].gather(1, nodes)


@dataclass(eq=False)
class _Prefixes(Columns):
    """Prefixes of users, (U, n) each, best first.

    bound: no item below scores higher, -inf: none is there; score: log-probability; row: the parent, see `Expand`.
    """

    bound: Tensor
    score: Tensor
    depth: Tensor
    node: Tensor
    row: Tensor

    def put(self, users: Tensor, rows: _Prefixes) -> None:
        for each in fields(self):
            getattr(self, each.name)[users] = getattr(rows, each.name)


def best_first(
    trie: Trie, start: Start, *, k: int, permitted: Permitted, over_children: bool, head: OtherScores | None = None
) -> tuple[Tensor, Tensor]:
    """The K best items of each user, exactly; equal scores in the order of the codes, then of the rows.

    Args:
        start: begins a search for some of the users. Users for whom `KEPT` prefixes do not suffice are searched for
            again, fewer at once.
        over_children: as in `beam_search`.
        head: a second score; the K best are those of both.

    Returns:
        As `beam_search`.
    """
    users, kept, device = len(permitted.excluded), KEPT, trie.order.device
    items = torch.full((users, k), -1, device=device)
    scores = torch.full((users, k), -torch.inf, device=device)
    left, at_once = torch.arange(users, device=device), max(1, users)
    while len(left):
        again = []
        for part in left.split(at_once):
            of_part = head if head is None or len(part) == users else head.users(part)
            search = _Search(trie, start(part), k, permitted.users(part), over_children, of_part, kept)
            proven = search.run()
            items[part], scores[part] = search.items()
            again.append(part[~proven])
        left, kept, at_once = torch.cat(again), kept * GROWTH, max(1, at_once // GROWTH)
    return items, scores


class _Search:
    """One search for U users, which keeps `kept` prefixes of each for later, and expands about as many."""

    def __init__(
        self, trie: Trie, expand: Expand, k: int, permitted: Permitted, over_children: bool, head: OtherScores | None,
        kept: int,
    ) -> None:  # fmt: skip
        self.trie, self.expand, self.k, self.permitted = trie, expand, k, permitted
        self.over_children, self.head, self.kept = over_children, head, kept
        users, device = len(permitted.excluded), trie.order.device
        self.rows = [0] * trie.levels
        nothing, whole = torch.full((users, k), -torch.inf, device=device), torch.zeros(users, k, device=device).long()
        # The best K leaves, and the prefixes to expand. The bound of a leaf is the score of its best item.
        self.found = _Prefixes(nothing, nothing, whole, whole, whole).map(torch.clone)
        nothing, whole = nothing[:, :1].expand(-1, kept), whole[:, :1].expand(-1, kept)
        self.open = _Prefixes(nothing, nothing, whole, whole, whole).map(torch.clone)
        # The highest bound of a prefix for which there was no place.
        self.dropped = nothing[:, 0].clone()

    def run(self) -> Tensor:
        """Search; (U,) bool: whether the answer is proven."""
        users = torch.arange(len(self.dropped), device=self.dropped.device)
        root = torch.zeros(len(users), 1, device=users.device)
        everyone = torch.ones_like(root, dtype=torch.bool)
        self._expand(0, users, _Prefixes(root, root, root.long(), root.long(), root.long()), everyone)
        expanded = 0
        while expanded < self.kept:
            least = self._least()
            active = _worth(self.open.bound[:, :1], least).nonzero()[:, 0]
            if not len(active):
                break
            at_once = min(max(AT_ONCE, expanded // 4), self.kept)
            self._round(active, least[active], at_once)
            expanded += at_once
        best_left = self.open.bound[:, 0].maximum(self.dropped).unsqueeze(1)
        return ~_worth(best_left, self._least()).squeeze(1)

    def items(self) -> tuple[Tensor, Tensor]:
        """The answer, see `best_first`."""
        if self.head is None:
            return leaf_items(self.trie, self.found.node, self.found.bound, self.permitted, self.k)
        places, real = places_below(self.trie, self.found.node, self.found.bound)
        real &= self.permitted.places(places)
        count = self.trie.bounds(self.trie.levels).diff()[self.found.node]
        score = (self.found.score - count.log()).unsqueeze(2).expand(-1, -1, places.shape[1] // self.k).flatten(1)
        score = self.head.share * score + self.head.items.gather(1, places)
        return best_items(self.trie, torch.where(real, self.trie.order[places], -1), score, self.k)

    def _least(self) -> Tensor:
        """(U, 1) the score of the K-th item found, -inf where there are fewer: what is worse is not looked for."""
        there = self.found.bound > -torch.inf
        count = there.long()
        if self.head is None:  # with one, the other items of a leaf may score anything
            count *= self.permitted.count(self.trie.levels, self.found.node)
        enough = count.cumsum(1) >= self.k
        return self.found.bound.masked_fill(~enough, -torch.inf).amax(1, keepdim=True)

    def _round(self, users: Tensor, least: Tensor, at_once: int) -> None:
        """Expand the best open prefixes of users (P,)."""
        mine = self.open.users(users)
        chosen = mine.map(lambda values: values[:, :at_once])
        # What is not worth it now never will be, nor what comes after it.
        live = _worth(chosen.bound, least)
        mine.bound[:, :at_once] = -torch.inf
        self.open.put(users, mine.map(lambda values: values.roll(-at_once, 1)))
        for depth in range(1, self.trie.levels):
            picked = live & (chosen.depth == depth)
            count = picked.sum(1)
            who = count.nonzero()[:, 0]
            if len(who):
                order = (~picked[who]).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(count.max())]
                real = picked[who].gather(1, order)
                self._expand(depth, users[who], chosen.users(who).take(order), real)

    def _expand(self, level: int, users: Tensor, prefixes: _Prefixes, real: Tensor) -> None:
        """Decode the level after prefixes (P, R) of users (P,), those `real`, all of that depth, and sort in what is
        below them."""
        trie = self.trie
        children, found, number = decode_below(
            trie, self.expand, level, users, prefixes.node, prefixes.row, prefixes.score, real, self.over_children
        )
        row = (number + self.rows[level]).unsqueeze(2).expand_as(children).flatten(1)
        self.rows[level] += int(real.sum())
        node, score = children.flatten(1), found.flatten(1)
        permitted = self.permitted if len(users) == len(self.dropped) else self.permitted.users(users)
        score = permitted.only(score, level + 1, node)
        leaves = trie.leaf_bounds(level + 1)
        single = leaves.diff() == 1 if self.over_children else torch.full_like(leaves[1:], level + 1 == trie.levels) > 0
        below = _Prefixes(score, score, torch.full_like(node, level + 1), node, row)
        if self.head is not None:
            below.bound = self.head.bound(trie, level + 1, users, node, score, single)
        self._keep(users, level + 1, below, single)

    def _keep(self, users: Tensor, depth: int, below: _Prefixes, single: Tensor) -> None:
        """Sort in nodes of one depth; single (n_depth,): a node has one leaf, and its score is the leaf's."""
        leaves = _first(below, depth, single, self.k)
        leaves.node = self.trie.leaf_bounds(depth)[leaves.node]
        leaves = leaves.with_(self.found.users(users))
        order = sort_keys(leaves.bound, leaves.node).topk(self.k, dim=1).indices
        self.found.put(users, leaves.take(order))
        if depth == self.trie.levels:
            return
        prefixes = _first(below, depth, ~single, self.kept + 1)
        prefixes = prefixes.with_(self.open.users(users))
        best = prefixes.bound.topk(min(self.kept + 1, prefixes.bound.shape[1]), dim=1)
        if best.values.shape[1] > self.kept:
            self.dropped[users] = self.dropped[users].maximum(best.values[:, self.kept])
        self.open.put(users, prefixes.take(best.indices[:, : self.kept]))


def _first(below: _Prefixes, depth: int, which: Tensor, n: int) -> _Prefixes:
    """The best n of nodes of one depth, those `which` (n_depth,), equal bounds in the order of the codes."""
    if depth == 1:
        # The same nodes for all users: columns.
        at = which.nonzero()[:, 0]
        bound = below.bound.index_select(1, at)
        places = sort_keys(bound, at).topk(min(n, len(at)), dim=1).indices
        return below.take(at[places])
    bound = below.bound.masked_fill(~which[below.node], -torch.inf)
    places = sort_keys(bound, below.node).topk(min(n, bound.shape[1]), dim=1).indices
    return replace(below, bound=bound).take(places)


def _worth(bound: Tensor, least: Tensor) -> Tensor:
    """Whether something below may be among the best; an equal score may come first by its codes."""
    return (bound >= least) & (bound > -torch.inf)
