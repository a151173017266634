from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import Range, option
from bbqrec_cli.models.options._training import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class VQRecConfig(TrainingConfig):
    """VQ-Rec: items as means of code embeddings, pre-trained by contrast (Hou et al., WWW 2023)."""

    implementation: ClassVar[str] = "bbqrec_cli.models.vq_rec:VQRec"

    epochs: int = option(40, "Epochs of fine-tuning, at most; also the length of its schedule.", minimum=0)
    pretrain_epochs: int = option(
        10, "Epochs of contrastive pre-training before them; 0: none.", minimum=0, search=(0, 10)
    )
    weight_decay: float = 0.0
    width: int = 300
    heads: int = 2
    dropout: float = 0.5
    temperature: float = option(
        0.07, "Temperature of the cosines in both losses.", role="model", minimum=1e-3,
        search=Range(0.02, 0.2, log=True),
    )  # fmt: skip
