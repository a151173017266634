from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.models.options._item_model import ItemLossConfig


@dataclass(frozen=True, kw_only=True)
class SRGNNConfig(ItemLossConfig):
    """SR-GNN: a gated graph network over the history's items and steps (Wu et al., AAAI 2019)."""

    implementation: ClassVar[str] = "bbqrec_cli.models.srgnn:SRGNN"

    epochs: int = option(40, "Epochs, at most; also the length of the learning rate schedule.", minimum=0)
    weight_decay: float = option(0.0, "Weight decay of AdamW.", minimum=0)
    width: int = option(64, "Width D of the model.", role="model", minimum=1)
    layers: int = option(1, "Steps of message passing: how far a node sees along the edges.", role="model", minimum=1)
    dropout: float = option(0.3, "Dropout.", role="model", minimum=0, maximum=0.9)
