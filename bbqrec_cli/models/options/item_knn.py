from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import MethodConfig, option


@dataclass(frozen=True, kw_only=True)
class ItemKNNConfig(MethodConfig):
    """Item-based nearest neighbours by shared users (Sarwar et al., WWW 2001)."""

    implementation: ClassVar[str] = "bbqrec_cli.models.item_knn:ItemKNN"

    neighbours: int = option(100, "Neighbours that are kept per item.", role="model", minimum=1)
    shrinkage: float = option(
        40.0, "Added to the cosine's denominator: rare pairs count less.", role="model", minimum=0
    )
    decay: float = option(
        0.5, "Weight of an item relative to the next one of the history; 1: all the same.", role="model", minimum=0,
        maximum=1,
    )  # fmt: skip
