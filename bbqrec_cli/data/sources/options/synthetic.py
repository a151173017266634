from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import MethodConfig, option


@dataclass(frozen=True, kw_only=True)
class SyntheticOptions(MethodConfig):
    """Interactions of any number, of clusters of items that follow each other."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.synthetic:Synthetic"
    example: ClassVar[str] = "bbqrec prepare synthetic --users 1000000 --items 100000"

    users: int = option(10_000, "Number of users.", minimum=1)
    items: int = option(1_000, "Number of items.", minimum=2)
    interactions_per_user: int = option(10, "Interactions of each user, on average.", minimum=1)
    cluster_size: int = option(20, "Items of a cluster.", minimum=1)
    follow: float = option(
        0.7, "How often the next item is of the cluster that follows the last item's.", minimum=0, maximum=1
    )
    zipf: float = option(1.0, "Exponent of popularity: the item of rank r has the weight 1 / r^zipf.", minimum=0)
    text: bool = option(False, "Give items a title and a category, which tell their cluster.")
