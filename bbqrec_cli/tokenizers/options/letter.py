from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.tokenizers.options.rqvae import RQVAEConfig


@dataclass(frozen=True, kw_only=True)
class LETTERConfig(RQVAEConfig):
    """LETTER: an RQ-VAE that follows a trained sequence model and spreads its codes (Wang et al., CIKM 2024)."""

    implementation: ClassVar[str] = "bbqrec_cli.tokenizers.methods.letter:LETTER"

    collaborative: str = option(
        "", "A sasrec's model file: its item vectors are followed.", role="input", complete=".h5"
    )
    collaborative_weight: float = option(0.01, "LETTER's α, weight of following them; 0 needs no model.", minimum=0)
    diversity_weight: float = option(0.0001, "LETTER's β, weight of the codes' diversity.", minimum=0)
    clusters: int = option(10, "Clusters of a codebook's codes, for the diversity.", minimum=1)
    sinkhorn: float = option(
        0.003, "While training, spread each batch evenly over the last level's codes, with this ε; 0: do not.",
        minimum=0, maximum=1,
    )  # fmt: skip
