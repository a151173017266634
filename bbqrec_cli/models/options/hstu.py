from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import Range, option
from bbqrec_cli.models.options._item_model import ItemModelConfig


@dataclass(frozen=True, kw_only=True)
class HSTUConfig(ItemModelConfig):
    """HSTU: attention without a softmax, and gates (Zhai et al., ICML 2024)."""

    implementation: ClassVar[str] = "bbqrec_cli.models.hstu:HSTU"

    epochs: int = 40
    weight_decay: float = 0.0
    width: int = 64
    layers: int = option(4, "Layers.", role="model", minimum=1)
    dropout: float = 0.5
    temperature: float = option(
        0.05, "Temperature of the cosines that score items.", role="model", minimum=1e-6,
        search=Range(0.02, 0.2, log=True),
    )  # fmt: skip
