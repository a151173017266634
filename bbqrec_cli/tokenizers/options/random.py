from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.tokenizers.options._codebooks import CodebookConfig


@dataclass(frozen=True, kw_only=True)
class RandomConfig(CodebookConfig):
    """Random codes without information: the baseline that a tokenizer must beat."""

    implementation: ClassVar[str] = "bbqrec_cli.tokenizers.methods.random:Random"
