from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.data.sources.options._items import LogFiles


@dataclass(frozen=True, kw_only=True)
class TableOptions(LogFiles):
    """Tables of user, item, time: CSV, any separator, JSON lines, Parquet, Arrow; several files; items likewise."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.table:InteractionTable"
    example: ClassVar[str] = "bbqrec prepare table interactions.csv --items items.csv --images pictures"

    user_column: str | None = option(None, "Column of the user id. [default: user, user_id, uid, customer, …]")
    item_column: str | None = option(
        None, "Column of the item id (also in --items). [default: item, item_id, movieId, product, …]"
    )
    time_column: str | None = option(None, "Column of the time. [default: timestamp, ts, date, …]")
    time_unit: str = option(
        "auto", "Unit of times that are numbers; auto: recognised and said.", choices=("auto", "s", "ms", "us", "ns")
    )
    separator: str | None = option(
        None, "What separates cells, in every file of interactions; tab: a tab. [default: told from the first line]"
    )
    order: str = option("time", "Order of a user's interactions: by time, or as in the file.", choices=("time", "file"))
    rating_column: str | None = option(None, "Column of the rating. [default: rating, stars, …]")
    min_rating: float | None = option(None, "Leave out interactions with a lower rating.")
