from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.models.options._item_model import ItemModelConfig


@dataclass(frozen=True, kw_only=True)
class SASRecConfig(ItemModelConfig):
    """SASRec (Kang and McAuley, ICDM 2018) with a softmax over all items or another loss."""

    implementation: ClassVar[str] = "bbqrec_cli.models.sasrec:SASRec"

    epochs: int = 40
    weight_decay: float = 0.0
    width: int = 64
    heads: int = 2
    inner: int = option(0, "Inner width of the feed-forward layers; 0: the width.", role="model", minimum=0)
    norm: str = option(
        "pre", "Layer norm before each part of a layer (pre), after it, as RecBole's SASRec (post), or as SASRec's own "
        "program, of the queries and of what is added to (query).", role="model", choices=("pre", "post", "query"),
    )  # fmt: skip
    dropout: float = 0.5
    item_dropout: float = option(
        0.0, "Dropout of the item vectors, the same for histories, targets and negatives of a step.", role="model",
        minimum=0, maximum=0.9,
    )  # fmt: skip
