"""Options of every model that scores items by a product with an item table."""

from __future__ import annotations

from dataclasses import dataclass

from bbqrec_cli.config import Range, option
from bbqrec_cli.models.options._training import GradientConfig, TrainingConfig

LOSSES = ("ce", "sampled", "gbce", "bce", "bpr")


@dataclass(frozen=True, kw_only=True)
class ItemLossConfig(GradientConfig):
    """What an item model without attention is trained on."""

    loss: str = option(
        "ce", "Loss: softmax over all items (ce), or over the target and sampled negatives (sampled); gBCE (gbce), "
        "binary cross-entropy (bce) or BPR (bpr).", role="model", choices=LOSSES, search=("ce", "sampled", "gbce"),
    )  # fmt: skip
    negatives: int = option(
        256, "Uniform negatives per position, of all losses but ce.", role="model", minimum=1, search=(64, 256, 1024)
    )
    gbce_t: float = option(
        0.75, "Calibration t of gBCE, from 0 (bce) to 1.", role="model", minimum=0, maximum=1, search=Range(0.5, 1.0)
    )
    features: tuple[str, ...] = option(
        (), "Features whose linear maps are added to the items' vectors, such as text,image; all: those of the input.",
        role="model",
    )  # fmt: skip

    @property
    def idle(self) -> dict[str, str]:
        """Not every loss draws negatives or is calibrated."""
        without = {"negatives": self.loss == "ce", "gbce_t": self.loss != "gbce"}
        return {name: "loss" for name, there in without.items() if there}

    @property
    def beyond_paper(self) -> tuple[str, ...]:
        """Features, where there are some."""
        return ("features",) if self.features else ()


@dataclass(frozen=True, kw_only=True)
class ItemModelConfig(ItemLossConfig, TrainingConfig):
    """The same for an item model with attention."""
