from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.tokenizers.options.rqvae import RQVAEConfig


@dataclass(frozen=True, kw_only=True)
class LETTERConfig(RQVAEConfig):
    """LETTER: an RQ-VAE aligned with a trained sequence model, with diverse codes (Wang et al., CIKM 2024)."""

    implementation: ClassVar[str] = "bbqrec_cli.tokenizers.methods.letter:LETTER"

    collaborative: str = option(
        "", "Model file (sasrec) with the item vectors to align with.", role="input", complete=".h5"
    )
    collaborative_weight: float = option(0.01, "LETTER's α, weight of that alignment; 0: needs no model.", minimum=0)
    diversity_weight: float = option(0.0001, "LETTER's β, weight of the diversity loss.", minimum=0)
    clusters: int = option(10, "Clusters of codes per codebook, for the diversity loss.", minimum=1)
    sinkhorn: float = 0.003

    @property
    def idle(self) -> dict[str, str]:
        """What belongs to a loss that has no weight."""
        without = {"collaborative": "collaborative_weight", "clusters": "diversity_weight"}
        return {name: weight for name, weight in without.items() if not getattr(self, weight)}
