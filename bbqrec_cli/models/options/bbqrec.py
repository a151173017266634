from __future__ import annotations

from dataclasses import dataclass

from bbqrec_cli.models.options._generator import GeneratorConfig


@dataclass(frozen=True, kw_only=True)
class BBQRecConfig(GeneratorConfig):
    """BBQRec's generator: similarity-enhanced self-attention over semantic IDs (paper, section 4.2)."""
