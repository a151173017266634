from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.models.options._cloze import ClozeConfig


@dataclass(frozen=True, kw_only=True)
class NovaBERTConfig(ClozeConfig):
    """NOVA-BERT (Liu et al., AAAI 2021): BERT4Rec whose attention sees item features, its states only items."""

    implementation: ClassVar[str] = "bbqrec_cli.models.nova_bert:NovaBERT"

    fusion: str = option(
        "gate", "Fusion of items, positions and features: their sum (add), a linear layer (concat) or a learnt "
        "weighted mean (gate).",
        role="model", choices=("add", "concat", "gate"), search=("add", "concat", "gate"),
    )  # fmt: skip
    features: tuple[str, ...] = option(
        ("all",), "Features to use, such as text,image; all: those of the input.", role="model"
    )
