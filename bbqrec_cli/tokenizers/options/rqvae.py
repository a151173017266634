from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.tokenizers.options._codebooks import WarmupConfig


@dataclass(frozen=True, kw_only=True)
class RQVAEConfig(WarmupConfig):
    """TIGER's RQ-VAE of the features: one modality or several concatenated (Rajput et al., NeurIPS 2023)."""

    implementation: ClassVar[str] = "bbqrec_cli.tokenizers.methods.rqvae:RQVAE"
    warmup_share: ClassVar[float] = 1 / 6

    dim: int = option(32, "Width D of a code.", role="model", minimum=2)
    signals: tuple[str, ...] = option((), "Features to concatenate; empty: text, or else all.", role="model")
    epochs: int = option(300, "Epochs over the items, including the warm-up.", minimum=1)
    warmup_epochs: int = option(-1, "Epochs without quantisation, before k-means; -1: a sixth of all.", minimum=-1)
    batch_size: int = option(1024, "Items per step.", minimum=2)
    learning_rate: float = option(1e-3, "Peak learning rate of AdamW.", minimum=0)
    alpha: float = option(0.25, "α, weight of the commitment term (eq. 9).", minimum=0)
    hidden: int = option(512, "Width of the encoder's first hidden layer.", role="model", minimum=1)
    hidden_layers: int = option(
        2, "Hidden layers of encoder and decoder, each half as wide as the one before.", role="model", minimum=1
    )
    restart_dead_codes: bool = option(
        True, "Between epochs, move unused codes to random residuals, until 80% of the epochs are over."
    )
    sinkhorn: float = option(
        0.0, "ε of Sinkhorn, which spreads each training batch evenly over the last level's codes; 0: off.",
        minimum=0, maximum=1,
    )  # fmt: skip
