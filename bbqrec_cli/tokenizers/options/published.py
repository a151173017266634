from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import MethodConfig, option


@dataclass(frozen=True, kw_only=True)
class PublishedConfig(MethodConfig):
    """Published semantic IDs, read from index.json files."""

    implementation: ClassVar[str] = "bbqrec_cli.tokenizers.methods.published:Published"

    index: tuple[str, ...] = option(
        (), 'Index file (LETTER, MQL4GRec, MiniOneRec: item id -> ["<a_1>", …]); several: one per signal.',
        role="input", complete=".json",
    )  # fmt: skip
