from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.models.options._item_model import ItemLossConfig


@dataclass(frozen=True, kw_only=True)
class GRU4RecConfig(ItemLossConfig):
    """GRU4Rec: a gated recurrent network over the history (Hidasi et al., ICLR 2016)."""

    implementation: ClassVar[str] = "bbqrec_cli.models.gru4rec:GRU4Rec"

    epochs: int = 40
    weight_decay: float = 0.0
    width: int = option(64, "Width D of the item table.", role="model", minimum=1)
    hidden: int = option(128, "Width of the recurrent layers.", role="model", minimum=1, search=(32, 64, 128, 256))
    layers: int = option(1, "Recurrent layers.", role="model", minimum=1)
    dropout: float = option(0.3, "Dropout of the item vectors.", role="model", minimum=0, maximum=0.9)
