from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import Range, option
from bbqrec_cli.models.options._training import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class MISSRecConfig(TrainingConfig):
    """MISSRec (Wang et al., ACM MM 2023): text, pictures and interests in an encoder-decoder over items."""

    implementation: ClassVar[str] = "bbqrec_cli.models.missrec:MISSRec"

    epochs: int = option(20, "Epochs, at most, after pre-training; also the length of the schedule.", minimum=0)
    pretrain_epochs: int = option(
        0, "Epochs of contrastive pre-training on the same training part, without item embeddings; 0: none.", minimum=0,
        search=(0, 10),
    )  # fmt: skip
    batch_size: int = option(1024, "Prefixes per step.", minimum=1)
    weight_decay: float = 0.0
    layers: int = option(1, "Layers of the encoder, and of the decoder.", role="model", minimum=1)
    temperature: float = option(
        0.07, "Temperature of the softmax over cosines.", role="model", minimum=0.001, search=Range(0.02, 0.2, log=True)
    )
    interest_ratio: float = option(
        0.5, "Interests (clusters) per feature vector.", role="model", minimum=0.0001, maximum=1,
        search=Range(0.1, 1.0),
    )  # fmt: skip
