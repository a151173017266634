"""Options of models that are trained on masked items."""

from __future__ import annotations

from dataclasses import dataclass

from bbqrec_cli.config import Range, option
from bbqrec_cli.models.options._training import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class ClozeConfig(TrainingConfig):
    """An epoch asks for a fraction of the items, so that training is long (Petrov and Macdonald, RecSys 2022)."""

    epochs: int = option(
        200, "Epochs, at most; also the length of the learning rate schedule. Masked items need many.", minimum=0
    )
    weight_decay: float = 0.0
    patience: int = 20
    width: int = 64
    heads: int = 2
    mask_share: float = option(
        0.2, "Share of a window's items that are masked.", minimum=0, maximum=1, search=Range(0.1, 0.6)
    )
    last_only: float = option(
        0.5, "Share of the windows in which only the last item is masked, as when recommending.", minimum=0, maximum=1,
        search=Range(0.0, 0.8),
    )  # fmt: skip
