"""What every model that is trained by gradient takes."""

from __future__ import annotations

from dataclasses import dataclass

from bbqrec_cli.config import MethodConfig, option
from bbqrec_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(MethodConfig):
    """Options of every trained model; the defaults differ from model to model."""

    epochs: int = option(30, "Epochs at most; also the length of the learning rate's schedule.", minimum=1)
    batch_size: int = option(256, "Users per step (on average: batches hold like numbers of targets).", minimum=1)
    learning_rate: float = option(1e-3, "Highest learning rate of AdamW.", minimum=0)
    weight_decay: float = option(0.05, "Weight decay of AdamW.", minimum=0)
    warmup: float = option(0.05, "Share of the steps in which the learning rate rises.", minimum=0, maximum=1)
    patience: int = option(6, "Validations without a better NDCG@10 before stopping; 0: never stop.", minimum=0)
    width: int = option(128, "Width of the model.", role="model", minimum=1)
    layers: int = option(2, "Layers (of the encoder, where there is a decoder).", role="model", minimum=1)
    heads: int = option(4, "Attention heads.", role="model", minimum=1)
    dropout: float = option(0.2, "Dropout.", role="model", minimum=0, maximum=0.9)
    history: int = option(20, "Last items of a user that the model sees (the protocol: 20).", role="model", minimum=1)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UsageError(
                f"--width {self.width} is not a multiple of --heads {self.heads}", "the heads share the width"
            )
