from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.models.options._item_model import ItemModelConfig


@dataclass(frozen=True, kw_only=True)
class BSARecConfig(ItemModelConfig):
    """BSARec: self-attention beside a filter of frequencies (Shin et al., AAAI 2024)."""

    implementation: ClassVar[str] = "bbqrec_cli.models.bsarec:BSARec"

    epochs: int = 40
    batch_size: int = option(256, "Prefixes per step.", minimum=1)
    weight_decay: float = 0.0
    width: int = 64
    heads: int = 1
    dropout: float = 0.5
    alpha: float = option(
        0.7, "α, share of the filter beside self-attention.", role="model", minimum=0, maximum=1,
        search=(0.1, 0.3, 0.5, 0.7, 0.9),
    )  # fmt: skip
    cutoff: int = option(
        5, "c: the c // 2 + 1 lowest frequencies are the low ones.", role="model", minimum=1, search=(1, 3, 5, 7, 9)
    )
