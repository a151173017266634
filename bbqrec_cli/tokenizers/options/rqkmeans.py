from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.tokenizers.options._codebooks import KMeansConfig


@dataclass(frozen=True, kw_only=True)
class RQKMeansConfig(KMeansConfig):
    """Residual k-means of the features: no network, no training."""

    implementation: ClassVar[str] = "bbqrec_cli.tokenizers.methods.rqkmeans:RQKMeans"

    balanced: bool = option(False, "Give every code of a level the same number of items, ±1.", role="model")
