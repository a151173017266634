"""Softmax over the code tuples that exist below a prefix: the exact likelihood of what the trie's beam searches.

P samples, C classes or children, M signals, N codes, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

CELLS = {"cpu": 1 << 21}
"""Logits in memory at once: on a CPU few enough to stay in its caches, twice as fast as all at once."""


class LinearCrossEntropy(torch.autograd.Function):
    """Cross-entropy of `states @ table.T + bias`, a few rows at a time; backward computes the (P, C) logits again."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        """states (P, D), table (C, D), bias (C,), targets (P,) -> losses (P,) float32."""
        ctx.rows = max(1, CELLS.get(states.device.type, 1 << 26) // len(table))
        losses = []
        for some, wanted in zip(states.split(ctx.rows), targets.split(ctx.rows), strict=True):
            logits = _exact(linear(some, table, bias))
            losses.append(logits.logsumexp(1) - logits.gather(1, wanted.unsqueeze(1)).squeeze(1))
        ctx.save_for_backward(states, table, bias, targets)
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of states, table and bias."""
        states, table, bias, targets = ctx.saved_tensors
        by_states = torch.empty_like(states)
        by_table, by_bias = (torch.zeros_like(x, dtype=gradient.dtype) for x in (table, bias))
        for start in range(0, len(states), ctx.rows):
            part = slice(start, start + ctx.rows)
            some, scale = states[part], gradient[part].unsqueeze(1)
            slope = _exact(linear(some, table, bias)).softmax(1).mul_(scale)
            slope.scatter_add_(1, targets[part].unsqueeze(1), -scale)
            by_bias += slope.sum(0)
            slope = slope.to(states.dtype)
            by_states[part] = slope @ table
            by_table += slope.T @ some
        return by_states, by_table.to(table.dtype), by_bias.to(bias.dtype), None


def _exact(logits: Tensor) -> Tensor:
    """At least float32."""
    return logits if logits.dtype == torch.float64 else logits.float()


def linear_cross_entropy(states: Tensor, table: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(states @ table.T + bias)[target]. states (P, D), table (C, D), bias (C,), targets (P,) -> (P,)."""
    kind = states.device.type
    if torch.is_autocast_enabled(kind):
        states, table, bias = (x.to(torch.get_autocast_dtype(kind)) for x in (states, table, bias))
    with torch.autocast(kind, enabled=False):
        return LinearCrossEntropy.apply(states, table, bias, targets)


def children_cross_entropy(logits: Tensor, codes: Tensor, first: Tensor, count: Tensor, chosen: Tensor) -> Tensor:
    """-log P of one child among its siblings, where a child's logit is the sum of its M codes' logits.

    Args:
        logits: (P, M, N) of the codes.
        codes: (C, M) of all children.
        first, count: (P,) the run of children of each sample's prefix.
        chosen: (P,) the child that is the target.

    Returns:
        (P,) float32; 0 for an only child.
    """
    samples, signals, size = logits.shape
    owner = torch.repeat_interleave(torch.arange(samples, device=logits.device), count)
    begin = count.cumsum(0) - count
    children = torch.arange(len(owner), device=logits.device) - (begin - first)[owner]
    at = (owner.unsqueeze(1) * signals + torch.arange(signals, device=logits.device)) * size + codes[children]
    scores = _exact(logits.flatten()[at]).sum(1)
    highest = scores.new_full((samples,), -torch.inf).scatter_reduce(0, owner, scores.detach(), "amax")
    total = torch.zeros_like(highest).index_add(0, owner, (scores - highest[owner]).exp())
    return total.log() + highest - scores[chosen - first + begin]
