"""Queries without padding. B users, Q queries of the user who has the most, P queries of all, D width."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Grid:
    """Where packed queries (P, D) stand among the (B, Q) of a batch. Only attention needs these.

    Args:
        real: (B, Q) bool, the places that hold a query.
    """

    def __init__(self, real: Tensor) -> None:
        self.shape, self.places = real.shape, real.flatten().nonzero().squeeze(1)

    def spread(self, packed: Tensor) -> Tensor:
        """(P, D) -> (B, Q, D), zeros elsewhere."""
        made: Tensor = _Spread.apply(packed, self.places, self.shape.numel())
        return made.unflatten(0, self.shape)

    def pack(self, spread: Tensor) -> Tensor:
        """(B, Q, D) -> (P, D)."""
        made: Tensor = _Pack.apply(spread.flatten(0, 1), self.places)
        return made


class _Spread(torch.autograd.Function):
    """Torch's own gradient would add up, though no two queries share a place."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, places: Tensor, cells: int) -> Tensor:
        ctx.save_for_backward(places)
        return _spread(packed, places, cells)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return grads[0].index_select(0, places), None, None


class _Pack(torch.autograd.Function):
    """The same the other way round."""

    @staticmethod
    def forward(ctx: Any, spread: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.cells = len(spread)
        return spread.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return _spread(grads[0], places, ctx.cells), None


def _spread(packed: Tensor, places: Tensor, cells: int) -> Tensor:
    return packed.new_zeros(cells, packed.shape[1]).index_copy_(0, places, packed)
