from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.tokenizers.options._codebooks import ProductConfig


@dataclass(frozen=True, kw_only=True)
class OPQConfig(ProductConfig):
    """Product quantisation after a learnt rotation (Ge et al., CVPR 2013), as in VQ-Rec (Hou et al., WWW 2023)."""

    implementation: ClassVar[str] = "bbqrec_cli.tokenizers.methods.pq:OPQ"
