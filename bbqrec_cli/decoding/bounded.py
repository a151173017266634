"""Searches that decode only what may lead to the answer: a beam's, equal to that of `beam_search`, or the best of all.

log-probabilities never rise along a path. So with K items at hand, of which the worst scores `least`, no prefix below
`least` matters. The first K items come from a narrow beam. Then the prefixes at or above `least` are followed, all of a
level at once; items found on the way raise it.

With a beam, which prefixes there are at or above `least` depends on none below it: if the search ends with K items that
score at least `least`, it is as if all beams had been followed. Where it ends with fewer, because the wide beam drops
what the narrow one kept, all are followed after all.

U users, W prefixes kept, R prefixes of the narrow beam, C children, K results.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bbqrec_cli.decoding.beam import Expand, Permitted, decode_below, leaf_items, sort_keys
from bbqrec_cli.decoding.columns import Columns
from bbqrec_cli.decoding.trie import Trie

NARROW, WORTH = 2, 3
"""The narrow beam is of NARROW · K, and comes before those of WORTH · K and more: its answer is the better the wider it
is, and must leave something to be saved."""
ROOM = 512
"""Prefixes of a user and a level that an exact search may follow at once."""
SORTED = 64
"""The best first prefixes of an exact search; they mostly are all that may lead to the answer."""


@dataclass(eq=False)
class _Nodes(Columns):
    """Nodes of a depth and their log-probabilities, -inf: none; row: the number of the parent, see `Expand`. (U, n)."""

    node: Tensor
    score: Tensor
    row: Tensor

    def best(self, n: int) -> _Nodes:
        """The best n in the order of a beam."""
        return self.take(sort_keys(self.score, self.node).topk(min(n, self.node.shape[1]), dim=1).indices)

    def only(self, which: Tensor) -> tuple[_Nodes, Tensor]:
        """Those `which` (U, n), in fewer columns, and where there is one, bool."""
        at = (~which).to(torch.uint8).argsort(dim=1, stable=True)[:, : max(1, int(which.sum(1).max()))]
        return self.take(at), which.gather(1, at)


@dataclass(frozen=True, eq=False)
class _Decoded:
    """Prefixes (U, R) of the narrow beam, those that were decoded, and the children (U, R · C) of all."""

    prefixes: _Nodes
    real: Tensor
    below: _Nodes


def bounded_beam_search(
    trie: Trie, expand: Expand, *, width: int, k: int, permitted: Permitted, over_children: bool
) -> tuple[Tensor, Tensor]:
    """The K most probable items of a beam of W; arguments and answer as of `beam_search`."""
    return _Search(trie, expand, max(width, k), k, permitted, over_children, exact=False).run()[:2]


def bounded_search(
    trie: Trie, expand: Expand, *, k: int, permitted: Permitted, over_children: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The K most probable items of all, as of `best_first`, and for which users they are that, (B,) bool: not for those
    with more than ROOM prefixes of a level to follow."""
    return _Search(trie, expand, max(ROOM, k), k, permitted, over_children, exact=True).run()


class _Search:
    """exact: W is the room there is, not the width of a beam."""

    def __init__(
        self, trie: Trie, expand: Expand, width: int, k: int, permitted: Permitted, over_children: bool, *, exact: bool
    ) -> None:
        self.trie, self.expand, self.width, self.k, self.exact = trie, expand, width, k, exact
        self.permitted, self.over_children, self.rows = permitted, over_children, [0] * trie.levels

    def run(self) -> tuple[Tensor, Tensor, Tensor]:
        """Items and scores (U, K), and whether they are the answer, (U,) bool: always those of a beam."""
        users = torch.arange(len(self.permitted.excluded), device=self.trie.order.device)
        nothing = torch.zeros(len(users), 1, device=users.device)
        root = _Nodes(nothing.long(), nothing, nothing.long())
        first = self._below(0, users, root, torch.ones_like(nothing, dtype=torch.bool))
        if self.trie.levels == 1 or self.width < WORTH * self.k:
            return self._follow(users, first, nothing - torch.inf, [])
        best = first.best(SORTED if self.exact else self.width)
        decoded, least = self._narrow(users, best)
        if self.exact and not (best.score[:, -1:] < least).all():
            best = first
        items, scores, right = self._follow(users, best, least, decoded)
        left = (~right).nonzero()[:, 0]
        if len(left) and not self.exact:
            every = self._follow(users[left], best.users(left), nothing[left] - torch.inf, [])
            items[left], scores[left], right[left] = every
        return items, scores, right

    def _narrow(self, users: Tensor, nodes: _Nodes) -> tuple[list[_Decoded], Tensor]:
        """A beam of NARROW · K from the nodes of depth 1: what it decodes per level, and (U, 1) the score of its K-th
        item. It ends where K nodes of each user are as good as items, with the score of the worst of these."""
        decoded, nodes = list[_Decoded](), nodes.best(NARROW * self.k)
        least = self._least(1, nodes)
        for level in range(1, self.trie.levels):
            worth = (nodes.score > -torch.inf) & (nodes.score >= least)
            chosen, real = nodes.only(~self._certain(level, nodes) & worth)
            below = self._below(level, users, chosen, real)
            decoded.append(_Decoded(chosen, real, below))
            nodes = below.with_(self._carried(level, nodes))
            least, last = least.maximum(self._least(level + 1, nodes)), level + 1 == self.trie.levels
            if not last and (least > -torch.inf).all():
                return decoded, least
            nodes = nodes.best(self.k if last else NARROW * self.k)
        _, scores = leaf_items(self.trie, nodes.node, nodes.score, self.permitted.users(users), self.k)
        return decoded, least.maximum(scores[:, -1:])

    def _follow(
        self, users: Tensor, nodes: _Nodes, least: Tensor, decoded: list[_Decoded]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The K best items below nodes (U, n) of depth 1, and whether they are the answer, (U,) bool.

        least: (U, 1) the score below which nothing is followed; decoded: per level from 1, what is known already.
        """
        right = torch.ones_like(users, dtype=torch.bool)
        for level in range(1, self.trie.levels + 1):
            count = ((nodes.score >= least) & (nodes.score > -torch.inf)).sum(1)
            nodes = nodes.best(min(self.width, max(self.k, int(count.max()))))
            if self.exact:
                right &= count <= self.width
            if level == self.trie.levels:
                break
            if decoded:
                least = least.maximum(self._least(level, nodes))
            real = ~self._certain(level, nodes) & (nodes.score > -torch.inf) & (nodes.score >= least)
            parts = [self._carried(level, nodes)]
            if level <= len(decoded):
                before = decoded[level - 1]
                same = (nodes.node.unsqueeze(2) == before.prefixes.node.unsqueeze(1)) & before.real.unsqueeze(1)
                same &= (nodes.score > -torch.inf).unsqueeze(2)
                real &= ~same.any(2)
                # Of what the narrow beam kept, the wide one may have dropped some.
                below = before.below.score.unflatten(1, (same.shape[2], -1))
                score = below.masked_fill(~same.any(1).unsqueeze(2), -torch.inf).flatten(1)
                parts.append(_Nodes(before.below.node, score, before.below.row))
            parts.append(self._below(level, users, *nodes.only(real)))
            nodes = parts[0].with_(*parts[1:])
        items, scores = leaf_items(self.trie, nodes.node, nodes.score, self.permitted.users(users), self.k)
        return items, scores, right & (scores[:, -1:] >= least).squeeze(1)

    def _least(self, level: int, nodes: _Nodes) -> Tensor:
        """(U, 1) the K-th best score of the nodes (U, n) of depth `level` that are as good as items; -inf: fewer."""
        ends = nodes.score.masked_fill(~self._certain(level, nodes), -torch.inf)
        if ends.shape[1] < self.k:
            return torch.full_like(ends[:, :1], -torch.inf)
        return ends.topk(self.k, dim=1).values[:, -1:]

    def _certain(self, level: int, nodes: _Nodes) -> Tensor:
        """(U, n) bool: nodes of depth `level` with one ID below, whose probability is their own."""
        if not self.over_children:
            return torch.zeros_like(nodes.node, dtype=torch.bool)
        return (self.trie.leaf_bounds(level).diff() == 1)[nodes.node]

    def _carried(self, level: int, nodes: _Nodes) -> _Nodes:
        """The children of the nodes for which they are certain; the others' with a score of -inf."""
        score = nodes.score.masked_fill(~self._certain(level, nodes), -torch.inf)
        return _Nodes(self.trie.child_bounds(level)[nodes.node], score, nodes.row)

    def _below(self, level: int, users: Tensor, nodes: _Nodes, real: Tensor) -> _Nodes:
        """Decode a level after the `real` of the nodes (U, n) of that depth: the children (U, n · C) of all."""
        children, score, number = decode_below(
            self.trie, self.expand, level, users, nodes.node, nodes.row, nodes.score, real, self.over_children
        )
        row = (number + self.rows[level]).unsqueeze(2).expand_as(children)
        self.rows[level] += int(real.sum())
        node = children.flatten(1)
        score = self.permitted.users(users).only(score.flatten(1), level + 1, node)
        return _Nodes(node, score, row.flatten(1))
