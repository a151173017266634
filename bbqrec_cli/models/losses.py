"""Losses of models that score items by a product. P positions with a target, N negatives, I items, D width.

The losses with negatives are functions of scores: own (P,) of the targets, others (P, N) of their negatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from bbqrec_cli.models.softmax import catalogue_cross_entropy

CELLS = {"cpu": 1 << 20}
"""Numbers of item vectors in memory at once: on a CPU few enough to stay in its caches."""
ELSEWHERE = 1 << 26


def uniform_negatives(targets: Tensor, *, items: int, count: int) -> Tensor:
    """Draw `count` rows for each target, uniformly from all items but the target. targets (P,) -> (P, N) int64."""
    drawn = torch.randint(max(1, items - 1), (len(targets), count), device=targets.device)
    return (drawn + (drawn >= targets.unsqueeze(1))).remainder(items)


class _Scores(torch.autograd.Function):
    """Item vectors are gathered part by part, once per pass, so that (P, N, D) never is."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(states, table, rows)
        parts = zip(*_parts(table, states, rows), strict=True)
        return torch.cat([torch.bmm(table[own], part.unsqueeze(2)).squeeze(2) for part, own in parts])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, table, rows = ctx.saved_tensors
        of_states, of_table = [], torch.zeros_like(table)
        for gradient, part, own in zip(*_parts(table, gradients[0], states, rows), strict=True):
            of_states.append(torch.bmm(gradient.unsqueeze(1), table[own]).squeeze(1))
            of_table.index_add_(0, own.flatten(), (gradient.unsqueeze(2) * part.unsqueeze(1)).flatten(0, 1))
        return torch.cat(of_states), of_table, None


def _parts(table: Tensor, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Each tensor, the last of which is (P, N), in parts of so many positions that their item vectors fit."""
    cells = CELLS.get(table.device.type, ELSEWHERE)
    size = max(1, cells // max(1, tensors[-1].shape[1] * table.shape[1]))
    return [each.split(size) for each in tensors]


def scores_of(states: Tensor, table: Tensor, rows: Tensor) -> Tensor:
    """The products of each state with its own items' vectors, without the (P, N, D) vectors in memory.

    Args:
        states: (P, D).
        table: (I, D).
        rows: (P, N) int64, rows of the table.

    Returns:
        (P, N) in the table's type, under autocast too.
    """
    with torch.autocast(table.device.type, enabled=False):
        made: Tensor = _Scores.apply(states.to(table.dtype), table, rows)
    return made


def sampled_softmax(own: Tensor, others: Tensor) -> Tensor:
    """-log softmax over the target and its negatives: own (P,), others (P, N) -> (P,).

    As RecTools (Tikhonovich et al., RecSys 2025, eSASRec) trains it, without a correction for the sampling. With
    uniform negatives the correction of Bengio and Senécal (2008) is one constant, log((I - 1) / N) on all negatives: it
    makes the denominator that of the softmax over all items in expectation, but never tells two negatives apart.
    """
    return torch.cat([own.unsqueeze(1), others], dim=1).logsumexp(1) - own


def binary_cross_entropy(own: Tensor, others: Tensor, *, beta: float = 1.0) -> Tensor:
    """-(log σ(own)^β + Σ log(1 - σ(others))) / (N + 1): own (P,), others (P, N) -> (P,).

    gBCE (Petrov and Macdonald, RecSys 2023) is that with β of `gbce_beta`; β = 1 is SASRec's loss with N negatives.
    """
    return (beta * softplus(-own) + softplus(others).sum(1)) / (1 + others.shape[1])


def gbce_beta(*, items: int, negatives: int, t: float) -> float:
    """β = α (t (1 - 1/α) + 1/α) of gBCE, with the sampling rate α = N / (I - 1): 1 for t = 0, α for t = 1."""
    alpha = negatives / max(1, items - 1)
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)


def bpr(own: Tensor, others: Tensor) -> Tensor:
    """-log σ(own - others) (Rendle et al., UAI 2009), the mean over negatives: own (P,), others (P, N) -> (P,)."""
    return softplus(others - own.unsqueeze(1)).mean(1)


def item_losses(
    states: Tensor, table: Tensor, targets: Tensor, *, loss: str, negatives: int, gbce_t: float
) -> Tensor:  # fmt: skip
    """The losses that `--loss` names, for the scores states · tableᵀ.

    Args:
        states: (P, D).
        table: (I, D).
        targets: (P,) rows of the table.
        loss: 'ce' (`catalogue_cross_entropy`, with what it asks of the backward pass), 'sampled', 'gbce', 'bce' or
            'bpr'.
        negatives: N, drawn for each target anew; not for 'ce'.
        gbce_t: t of `gbce_beta`, for 'gbce'.

    Returns:
        (P,).
    """
    if loss == "ce":
        return catalogue_cross_entropy(states, table, targets)
    drawn = uniform_negatives(targets, items=len(table), count=negatives)
    scores = scores_of(states, table, torch.cat([targets.unsqueeze(1), drawn], dim=1))
    own, others = scores[:, 0], scores[:, 1:]
    if loss == "gbce":
        beta = gbce_beta(items=len(table), negatives=negatives, t=gbce_t)
        return binary_cross_entropy(own, others, beta=beta)
    return {"sampled": sampled_softmax, "bce": binary_cross_entropy, "bpr": bpr}[loss](own, others)
