from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import MethodConfig, Range, option


@dataclass(frozen=True, kw_only=True)
class ItemKNNConfig(MethodConfig):
    """Item-based nearest neighbours by shared users (Sarwar et al., WWW 2001)."""

    implementation: ClassVar[str] = "bbqrec_cli.models.item_knn:ItemKNN"

    neighbours: int = option(
        100, "Neighbours that are kept per item.", role="model", minimum=1, search=(20, 50, 100, 200, 500)
    )
    shrinkage: float = option(
        40.0, "Added to the cosine's denominator: rare pairs count less.", role="model", minimum=0,
        search=Range(0.0, 200.0),
    )  # fmt: skip
    decay: float = option(
        0.5, "Weight of an item relative to the next one of the history; 1: all the same.", role="model", minimum=0,
        maximum=1, search=Range(0.0, 1.0),
    )  # fmt: skip
