from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.tokenizers.options._codebooks import ProductConfig


@dataclass(frozen=True, kw_only=True)
class PQConfig(ProductConfig):
    """Product quantisation of the features: k-means of each of L parts (Jégou et al., TPAMI 2011)."""

    implementation: ClassVar[str] = "bbqrec_cli.tokenizers.methods.pq:PQ"
