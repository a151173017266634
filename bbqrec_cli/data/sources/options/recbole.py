from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.data.sources.options.table import TableOptions


@dataclass(frozen=True, kw_only=True)
class RecBoleOptions(TableOptions):
    """RecBole's atomic files (X.inter, X.item) or its split X.train.inter, X.valid.inter, X.test.inter."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.recbole:RecBole"
