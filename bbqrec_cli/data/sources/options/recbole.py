from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.data.sources.options._items import LogColumns


@dataclass(frozen=True, kw_only=True)
class RecBoleOptions(LogColumns):
    """RecBole's atomic files (X.inter, X.item) or its split X.train.inter, X.valid.inter, X.test.inter."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.recbole:RecBole"
    example: ClassVar[str] = "bbqrec prepare recbole FOLDER"
