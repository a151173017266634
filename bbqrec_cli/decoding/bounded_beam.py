"""Beam search that decodes only the beams that may lead to the answer; what it finds is what `beam_search` finds.

log-probabilities never rise along a path. So with K items at hand, of which the worst scores `least`, no beam below
`least` matters, and which beams there are at or above it depends on no beam below it: if the search that follows those
alone ends with K items that score at least `least`, a search that follows all beams ends with the same. The first K
items come from a narrow beam. Where the search ends with fewer, because the wide beam drops what the narrow one kept,
all beams are followed after all.

U users, W beams, R prefixes of the narrow beam, C children, K results.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from bbqrec_cli.decoding.beam import Expand, Permitted, decode_below, leaf_items, sort_keys
from bbqrec_cli.decoding.trie import Trie

WORTH = 3
"""A beam is searched after a narrow one if it is at least so many times as wide."""


@dataclass(frozen=True, eq=False)
class _Nodes:
    """Nodes of a depth and their log-probabilities, -inf: none; row: the number of the parent, see `Expand`. (U, n)."""

    node: Tensor
    score: Tensor
    row: Tensor

    def users(self, users: Tensor) -> _Nodes:
        return _Nodes(*(getattr(self, each.name)[users] for each in fields(self)))

    def best(self, n: int) -> _Nodes:
        """The best n in the order of a beam."""
        at = sort_keys(self.score, self.node).topk(min(n, self.node.shape[1]), dim=1).indices
        return _Nodes(*(getattr(self, each.name).gather(1, at) for each in fields(self)))

    def with_(self, *others: _Nodes) -> _Nodes:
        every = (self, *others)
        return _Nodes(*(torch.cat([getattr(nodes, each.name) for nodes in every], dim=1) for each in fields(self)))


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
    return _Search(trie, expand, max(width, k), k, permitted, over_children).run()


class _Search:
    def __init__(
        self, trie: Trie, expand: Expand, width: int, k: int, permitted: Permitted, over_children: bool
    ) -> None:
        self.trie, self.expand, self.width, self.k = trie, expand, width, k
        self.permitted, self.over_children, self.rows = permitted, over_children, [0] * trie.levels

    def run(self) -> tuple[Tensor, Tensor]:
        users = torch.arange(len(self.permitted.excluded), device=self.trie.order.device)
        nothing = torch.zeros(len(users), 1, device=users.device)
        root = _Nodes(nothing.long(), nothing, nothing.long())
        first = self._below(0, users, root, torch.ones_like(nothing, dtype=torch.bool)).best(self.width)
        if self.width < WORTH * self.k or self.trie.levels == 1:
            return self._follow(users, first, torch.full_like(nothing, -torch.inf), [])
        decoded, least = self._narrow(users, first)
        items, scores = self._follow(users, first, least, decoded)
        left = (scores[:, -1:] < least).squeeze(1).nonzero()[:, 0]
        if len(left):
            items[left], scores[left] = self._follow(users[left], first.users(left), nothing[left] - torch.inf, [])
        return items, scores

    def _narrow(self, users: Tensor, nodes: _Nodes) -> tuple[list[_Decoded], Tensor]:
        """A beam of K from the nodes of depth 1: what it decodes per level, and (U, 1) the score of its K-th item."""
        decoded = list[_Decoded]()
        for level in range(1, self.trie.levels):
            nodes = nodes.best(self.k)
            real = ~self._certain(level, nodes) & (nodes.score > -torch.inf)
            below = self._below(level, users, nodes, real)
            decoded.append(_Decoded(nodes, real, below))
            nodes = below.with_(self._carried(level, nodes))
        _, scores = leaf_items(self.trie, *self._leaves(nodes), self.permitted.users(users), self.k)
        return decoded, scores[:, -1:]

    def _follow(self, users: Tensor, nodes: _Nodes, least: Tensor, decoded: list[_Decoded]) -> tuple[Tensor, Tensor]:
        """The K best items below nodes (U, W) of depth 1, whose score is `least` (U, 1) or more, of the beam.

        decoded: per level from 1, what is known already.
        """
        for level in range(1, self.trie.levels):
            real = ~self._certain(level, nodes) & (nodes.score > -torch.inf) & (nodes.score >= least)
            parts = [self._carried(level, nodes)]
            if decoded:
                before = decoded[level - 1]
                same = (nodes.node.unsqueeze(2) == before.prefixes.node.unsqueeze(1)) & before.real.unsqueeze(1)
                same &= (nodes.score > -torch.inf).unsqueeze(2)
                real &= ~same.any(2)
                # Of what the narrow beam kept, the wide one may have dropped some.
                there = same.any(1).repeat_interleave(before.below.node.shape[1] // same.shape[2], 1)
                score = before.below.score.masked_fill(~there, -torch.inf)
                parts.append(_Nodes(before.below.node, score, before.below.row))
            parts.append(self._below(level, users, nodes, real))
            nodes = parts[0].with_(*parts[1:]).best(self.width)
        return leaf_items(self.trie, *self._leaves(nodes), self.permitted.users(users), self.k)

    def _certain(self, level: int, nodes: _Nodes) -> Tensor:
        """(U, n) bool: nodes of depth `level` with one ID below, whose probability is their own."""
        if not self.over_children:
            return torch.zeros_like(nodes.node, dtype=torch.bool)
        return (self.trie.leaf_bounds(level).diff() == 1)[nodes.node]

    def _carried(self, level: int, nodes: _Nodes) -> _Nodes:
        """The children of the nodes for which they are certain; the others' with a score of -inf."""
        score = nodes.score.masked_fill(~self._certain(level, nodes), -torch.inf)
        return _Nodes(self.trie.child_bounds(level)[nodes.node], score, nodes.row)

    def _leaves(self, nodes: _Nodes) -> tuple[Tensor, Tensor]:
        best = nodes.best(self.width)
        return best.node, best.score

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
