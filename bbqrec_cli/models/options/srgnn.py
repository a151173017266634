from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.models.options._item_model import ItemLossConfig


@dataclass(frozen=True, kw_only=True)
class SRGNNConfig(ItemLossConfig):
    """SR-GNN: a gated graph network over the history's items and steps (Wu et al., AAAI 2019)."""

    implementation: ClassVar[str] = "bbqrec_cli.models.srgnn:SRGNN"

    epochs: int = 40
    weight_decay: float = 0.0
    width: int = 64
    layers: int = option(1, "Steps of message passing: how far a node sees along the edges.", role="model", minimum=1)
    dropout: float = 0.3
