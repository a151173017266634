"""The catalogue's semantic IDs as a trie in arrays. I items, L levels, M signals, n_d nodes at depth d.

The items are sorted by their codes, so the items below a node are contiguous, and so are its children.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Trie(nn.Module):
    """Depth 0 is the root; the nodes at depth d > 0 are the distinct prefixes of d levels, in lexicographic order.

    Args:
        codes: (I, L, M) integers.
    """

    order: Tensor
    place: Tensor

    def __init__(self, codes: np.ndarray) -> None:
        super().__init__()
        items, self.levels, self.signals = codes.shape
        order = np.lexsort(codes.reshape(items, -1).T[::-1])
        ordered = codes[order].astype(np.int64)
        self._keep("order", order)  # (I,) item rows in sorted order
        self._keep("place", np.argsort(order))  # (I,) where each item stands in it
        fresh = np.zeros(items, dtype=bool)
        fresh[:1] = True
        starts = [np.flatnonzero(fresh)]
        for depth in range(self.levels):
            fresh[1:] |= (ordered[1:, depth] != ordered[:-1, depth]).any(axis=1)
            starts.append(np.flatnonzero(fresh))
            self._keep(f"codes{depth}", ordered[starts[-1], depth])  # (n_{depth+1}, M) codes of the depth's children
        for depth, start in enumerate(starts):
            self._keep(f"bounds{depth}", np.append(start, items))  # (n_d + 1,) runs of sorted items
            node = np.searchsorted(start, np.arange(items), side="right") - 1
            self._keep(f"node{depth}", node[np.argsort(order)])  # (I,) each item's node at this depth
            if depth < self.levels:
                children = np.searchsorted(starts[depth + 1], np.append(start, items))
                self._keep(f"children{depth}", children)  # (n_d + 1,) runs of nodes at the next depth
            self._keep(f"leaves{depth}", np.searchsorted(starts[-1], np.append(start, items)))  # (n_d + 1,) of leaves

    def _keep(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)), persistent=False)

    def codes(self, depth: int) -> Tensor:
        """Codes of level `depth` of the nodes at depth + 1, (n_{depth+1}, M)."""
        return self.get_buffer(f"codes{depth}")

    def bounds(self, depth: int) -> Tensor:
        """Node j at `depth` holds the sorted items bounds[j] … bounds[j+1], (n_d + 1,)."""
        return self.get_buffer(f"bounds{depth}")

    def child_bounds(self, depth: int) -> Tensor:
        """Node j at `depth` has the nodes bounds[j] … bounds[j+1] of the next depth, (n_d + 1,)."""
        return self.get_buffer(f"children{depth}")

    def leaf_bounds(self, depth: int) -> Tensor:
        """Node j at `depth` has the leaves (nodes at depth L) bounds[j] … bounds[j+1], (n_d + 1,)."""
        return self.get_buffer(f"leaves{depth}")

    def node(self, depth: int) -> Tensor:
        """The node of each item at `depth`, (I,)."""
        return self.get_buffer(f"node{depth}")

    @property
    def items(self) -> int:
        """I."""
        return len(self.order)
