"""The softmax over the code tuples that exist below a prefix of the trie. P samples, C children, M signals, N codes."""

from __future__ import annotations

import torch
from torch import Tensor


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
    scores = logits.flatten()[at]
    scores = (scores if scores.dtype == torch.float64 else scores.float()).sum(1)
    highest = scores.new_full((samples,), -torch.inf).scatter_reduce(0, owner, scores.detach(), "amax")
    total = torch.zeros_like(highest).index_add(0, owner, (scores - highest[owner]).exp())
    return total.log() + highest - scores[chosen - first + begin]
