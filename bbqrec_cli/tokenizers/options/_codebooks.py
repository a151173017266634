"""Options that tokenizers share: the size of an ID, warm-up epochs, and the options of k-means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import MethodConfig, option
from bbqrec_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class CodebookConfig(MethodConfig):
    """Levels and codes of a semantic ID."""

    levels: int = option(3, "Levels L of a semantic ID.", role="model", minimum=1, maximum=8)
    codebook_size: int = option(
        0, "Codes N per codebook; 0: fitted to the catalogue, 256 from 513 items on.", role="model", minimum=0,
        maximum=65536,
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.codebook_size == 1:
            raise UsageError("--codebook-size is 1: all items would share their codes", "--codebook-size 2, or more")


LARGEST_SIZE = 256
"""Codes per codebook of large catalogues: what the papers have, whatever the catalogue."""


def fitting_size(items: int) -> int:
    """Codes per codebook for a catalogue: the lowest power of two of which a code has 4 items or fewer on average, but
    from 8 to 256."""
    return min(LARGEST_SIZE, max(8, 1 << (-(-items // 4) - 1).bit_length()))


@dataclass(frozen=True, kw_only=True)
class WarmupConfig(CodebookConfig):
    """Training that starts with epochs without quantisation (docs/tokenizer.md says why)."""

    warmup_share: ClassVar[float]

    epochs: int = option(40, "Epochs, including the warm-up.", minimum=1)
    warmup_epochs: int = option(-1, "Epochs without quantisation, before k-means; -1: a share of all.", minimum=-1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_epochs >= self.epochs:
            raise UsageError(
                f"--warmup-epochs is {self.warmup_epochs} and --epochs {self.epochs}: no epoch is left to learn the "
                "codebooks",
                f"--warmup-epochs {int(self.epochs * self.warmup_share)}, or leave it out",
            )

    @property
    def warmup(self) -> int:
        """Epochs before the codebooks are initialised, fewer than `epochs`."""
        return int(self.epochs * self.warmup_share) if self.warmup_epochs < 0 else self.warmup_epochs


@dataclass(frozen=True, kw_only=True)
class KMeansConfig(CodebookConfig):
    """Options of tokenizers that learn by k-means alone."""

    dim: int = option(
        32, "Width D of a code, by PCA of the features, whose width it is where they are narrower; 0: no PCA.",
        role="model", minimum=0,
    )  # fmt: skip
    signals: tuple[str, ...] = option((), "Features to concatenate; empty: text, or else all.", role="model")


@dataclass(frozen=True, kw_only=True)
class ProductConfig(KMeansConfig):
    """Options of product quantisers, whose levels are parts of the vector: many short ones are usual."""

    levels: int = option(3, "Levels L of a semantic ID: parts of the vector.", role="model", minimum=1, maximum=64)
