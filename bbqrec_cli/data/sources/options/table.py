from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.data.sources.options._items import ItemFiles


@dataclass(frozen=True, kw_only=True)
class TableOptions(ItemFiles):
    """CSV or TSV of user, item, timestamp; items as CSV, TSV or JSON."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.table:InteractionTable"

    user_column: str = option("user", "Column of the user id.")
    item_column: str = option("item", "Column of the item id (also in --items).")
    time_column: str = option("timestamp", "Column of the timestamp, in seconds since 1970.")
    rating_column: str = option("rating", "Column of the rating.")
    min_rating: float | None = option(None, "Leave out interactions with a lower rating.")
