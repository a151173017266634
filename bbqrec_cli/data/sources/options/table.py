from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.data.sources.options._items import LogColumns


@dataclass(frozen=True, kw_only=True)
class TableOptions(LogColumns):
    """Tables of user, item, time: CSV, any separator, JSON lines, Parquet, Arrow; several files; items likewise."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.table:InteractionTable"
    example: ClassVar[str] = "bbqrec prepare table interactions.csv --items items.csv --images pictures"

    separator: str | None = option(
        None, "What separates cells, in every file of interactions; tab: a tab. [default: told from the first line]"
    )
    split_column: str | None = option(
        None, "Column that says of each row whether it is train, valid (validation, dev) or test; --split given."
    )
