"""The softmax over a whole catalogue, in parts that fit the cache. P positions, C classes, D width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CELLS = {"cpu": 1 << 21}
"""Logits in memory at once: on a CPU few enough to stay in its caches."""
ELSEWHERE = 1 << 26
LINE = 64
"""Bytes of a cache line: where rows of logits start at its multiples, a CPU multiplies up to twice as fast."""


class _Losses(torch.autograd.Function):
    """Gradients are computed part by part while the logits of a part are there, so that (P, C) never is."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, table: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype
    ) -> Tensor:
        of_states, of_table = torch.empty_like(states), torch.zeros_like(table)
        of_bias = None if bias is None else torch.zeros_like(bias)
        losses = []
        of_parts = iter(of_states.split(_rows(states, table)))
        for part, wanted, exponentials, total, loss in _parts(states, table, bias, targets, dtype):
            losses.append(loss)
            # softmax - one-hot of the target. The small factors are divided by the total, not the (P, C) one.
            share = (1 / total).unsqueeze(1)
            narrow = exponentials.to(dtype)
            next(of_parts).copy_((narrow @ table.to(dtype)) * share).sub_(table[wanted])
            of_table += narrow.T @ (part * share).to(dtype)
            of_table.index_add_(0, wanted, part.to(of_table.dtype), alpha=-1)
            if of_bias is not None:
                of_bias += (share.T @ exponentials).squeeze(0)
                of_bias.index_add_(0, wanted, torch.ones_like(loss, dtype=of_bias.dtype), alpha=-1)
        ctx.save_for_backward(of_states, of_table, of_bias)
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        share = gradients[0][:1].sum()
        if not bool((gradients[0] == share).all()):
            raise ValueError("the losses must weigh the same, as in a mean: their gradients are summed in advance")
        return *(None if x is None else x * share.to(x.dtype) for x in ctx.saved_tensors), None, None


def _rows(states: Tensor, table: Tensor) -> int:
    """How many states at once."""
    return max(1, CELLS.get(states.device.type, ELSEWHERE) // len(table))


def _parts(
    states: Tensor, table: Tensor, bias: Tensor | None, targets: Tensor, dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """For each part: states, targets, exp(logits - the highest) (p, C), its sum (p,) and losses (p,), >= float32."""
    rows = _rows(states, table)
    narrow, table, bias = states.to(dtype), table.to(dtype), None if bias is None else bias.to(dtype)
    line = LINE // table.element_size() if table.device.type != "mps" else 1
    room = table.new_empty(min(rows, len(states)), -(-len(table) // line) * line)[:, : len(table)]
    for part, wanted in zip(narrow.split(rows), targets.split(rows), strict=True):
        here = room[: len(part)]
        logits = torch.mm(part, table.T, out=here) if bias is None else torch.addmm(bias, part, table.T, out=here)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        logits -= logits.amax(1, keepdim=True)
        own = logits.gather(1, wanted.unsqueeze(1)).squeeze(1)
        exponentials = logits.exp_()
        total = exponentials.sum(1)
        yield part, wanted, exponentials, total, total.log() - own


def catalogue_cross_entropy(states: Tensor, table: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    """-log softmax(states · tableᵀ + bias) at the targets, without the (P, C) logits in memory.

    Args:
        states: (P, D).
        table: (C, D), one row per class.
        targets: (P,) rows of the table.
        bias: (C,).

    Returns:
        (P,) float32 (float64 of float64).

    Raises:
        ValueError: in the backward pass, unless all losses weigh the same, as in a mean.
    """
    kind = states.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
    with torch.autocast(kind, enabled=False):
        if torch.is_grad_enabled():
            return _Losses.apply(states, table, bias, targets, dtype)
        return torch.cat([part[4] for part in _parts(states, table, bias, targets, dtype)])
