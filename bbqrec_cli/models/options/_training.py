"""Options of every model that is trained by gradient."""

from __future__ import annotations

from dataclasses import dataclass

from bbqrec_cli.config import MethodConfig, Range, option
from bbqrec_cli.errors import UsageError

SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True, kw_only=True)
class GradientConfig(MethodConfig):
    """Options of every model that is trained by gradient; models override the defaults."""

    epochs: int = option(30, "Epochs, at most; also the length of the learning rate schedule.", minimum=0)
    batch_size: int = option(
        256, "Users per step, on average; one with more items than the history counts several times.", minimum=1
    )
    learning_rate: float = option(1e-3, "Peak learning rate of AdamW.", minimum=0, search=Range(1e-4, 1e-2, log=True))
    weight_decay: float = option(0.05, "Weight decay of AdamW.", minimum=0, search=(0.0, 0.01, 0.05, 0.2))
    beta2: float = option(0.999, "Decay β2 of AdamW's second moment.", minimum=0, maximum=0.9999)
    schedule: str = option(
        "cosine", "Learning rate after the warm-up: falling to a hundredth (cosine) or constant.", choices=SCHEDULES
    )
    warmup: float = option(0.05, "Share of the steps in which the learning rate rises linearly.", minimum=0, maximum=1)
    patience: int = option(6, "Stop after this many validations without a better NDCG@10; 0: never.", minimum=0)
    width: int = option(128, "Width D of the model.", role="model", minimum=1, search=(32, 64, 128, 256))
    layers: int = option(
        2, "Layers (of the encoder, if there is a decoder).", role="model", minimum=1, search=(1, 2, 3, 4)
    )
    dropout: float = option(0.2, "Dropout.", role="model", minimum=0, maximum=0.9, search=Range(0.0, 0.7))
    history: int = option(20, "Length of the history: a user's last items (the protocol: 20).", role="model", minimum=1)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(GradientConfig):
    """Options of every model with attention that is trained by gradient."""

    heads: int = option(4, "Attention heads.", role="model", minimum=1, search=(1, 2, 4))

    def __post_init__(self) -> None:
        if self.width % self.heads:
            near = -(-self.width // self.heads) * self.heads
            what = f"--width {self.width} is not a multiple of --heads {self.heads}"
            raise UsageError(what, f"--width {near}, or other --heads")
