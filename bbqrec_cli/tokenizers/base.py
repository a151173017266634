"""What every tokenizer gets and gives.

I items, d width of a feature, L levels, M signals, N codes, D width of a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from bbqrec_cli.data.splits import HeldOut
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.records import Codes, Feature, Sequences


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenizerInput:
    """features: modality -> (I, d); train: the training part of the sequences and nothing else.

    validation serves the figures that are reported; no gradient, k-means or choice of a checkpoint sees it.
    """

    item_ids: list[str]
    features: Mapping[str, Feature]
    train: Sequences
    validation: HeldOut | None = None

    @property
    def items(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How to compute, as opposed to what: nothing here changes what is learnt, but for the seed."""

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    progress: Progress = SILENT
    checkpoint: Path | None = None
    resume: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What a checkpoint must agree with: configuration and checksums of the inputs."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokenized:
    """codes, and one row of figures an epoch."""

    codes: Codes
    history: list[dict[str, Any]]


class Tokenizer(Protocol):
    """A tokenizer is made from its configuration (`configs.py`) and fitted once."""

    def fit(self, inputs: TokenizerInput, run: RunSettings) -> Tokenized:
        """Learn codebooks and give every item its codes.

        Raises:
            DataError: the features that the configuration asks for are not there.
        """


def standardized(feature: Feature) -> np.ndarray:
    """(I, d): mean 0 and variance 1 a column over the items that have the feature; zeros where it is absent."""
    here = feature.values[feature.present].astype(np.float64)
    mean, deviation = here.mean(0), here.std(0)
    # A column that never varies says nothing, and must not be blown up to noise.
    scale = np.where(deviation > 1e-6 * max(deviation.max(), 1e-12), deviation, np.inf)
    return np.where(feature.present[:, None], (feature.values - mean) / scale, 0).astype(np.float32)


def code_figures(codes: np.ndarray, modalities: tuple[str, ...], codebook_size: int) -> dict[str, float]:
    """Usage and perplexity per level and signal, and the items that share a whole ID. codes (I, L, M)."""
    from bbqrec_cli.hdf5 import group_codes

    figures: dict[str, float] = {}
    for signal, name in enumerate(modalities):
        for level in range(codes.shape[1]):
            counts = np.bincount(codes[:, level, signal], minlength=codebook_size)
            share = counts[counts > 0] / counts.sum()
            figures[f"usage/{name}/{level + 1}"] = int((counts > 0).sum())
            figures[f"perplexity/{name}/{level + 1}"] = round(float(np.exp(-(share * np.log(share)).sum())), 2)
    token, sharing = group_codes(codes)
    return figures | {"colliding_items": int((sharing[token] > 1).sum())}


COLLAPSE_SHARE = 0.1


def collapsed(figures: Mapping[str, float], codebook_size: int, items: int) -> list[str]:
    """A sentence a codebook whose perplexity fell below a tenth of what it could be."""
    possible = min(codebook_size, items)
    found = []
    for key, value in figures.items():
        if key.startswith("perplexity/") and value < COLLAPSE_SHARE * possible:
            _, name, level = key.split("/")
            used = figures[f"usage/{name}/{level}"]
            found.append(f"signal {name}, level {level}: {used} of {codebook_size} codes in use, perplexity {value}")
    return found
