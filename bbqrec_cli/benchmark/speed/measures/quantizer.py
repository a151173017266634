"""A training step of a residual quantiser: codes, losses and gradients. n vectors, L levels, N codes, D width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def own(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """`ResidualQuantizer`, which learns its codebooks by gradient; units are vectors."""
    from bbqrec_cli.tokenizers.quantization.residual import ResidualQuantizer

    vectors = made(job)
    quantizer = ResidualQuantizer(
        signals=1, levels=3, codebook_size=job["codes"], dim=vectors.shape[1], shared=True, commitment=0.25
    )

    def loss() -> Tensor:
        found = quantizer(vectors.unsqueeze(1))
        return found.loss.mean() + found.vectors.square().mean()

    return steps(loss, vectors, [vectors, *quantizer.parameters()], job), {}


def vector_quantize(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """ResidualVQ of vector-quantize-pytorch, with codebooks that learn by gradient, and gradients that pass straight
    through, as ours do."""
    from vector_quantize_pytorch import ResidualVQ

    vectors = made(job)
    quantizer = ResidualVQ(
        dim=vectors.shape[1],
        num_quantizers=3,
        codebook_size=job["codes"],
        learnable_codebook=True,
        ema_update=False,
        rotation_trick=False,
    )

    def loss() -> Tensor:
        found, _, losses = quantizer(vectors.unsqueeze(0))
        return losses.mean() + found.square().mean()

    return steps(loss, vectors, [vectors, *quantizer.parameters()], job), {}


def made(job: dict[str, Any]) -> Tensor:
    """(n, D), with a gradient."""
    torch.manual_seed(job["seed"])
    return torch.randn(job["batch"], 64, requires_grad=True)


def steps(loss: Callable[[], Tensor], vectors: Tensor, learnt: list[Any], job: dict[str, Any]) -> Callable[[], float]:
    """A round."""

    def run() -> float:
        for _ in range(job["steps"]):
            for each in learnt:
                each.grad = None
            loss().backward()
        return job["steps"] * len(vectors)

    return run
