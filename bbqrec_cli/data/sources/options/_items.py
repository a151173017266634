"""Options that sources of the user's own files share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bbqrec_cli.config import MethodConfig, option
from bbqrec_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ItemFiles(MethodConfig):
    """Files that describe the items."""

    items: Path | None = option(
        None, "Items file: CSV, TSV, JSON lines, Parquet, Arrow, or a JSON object from id to fields.", role="input"
    )
    images: Path | None = option(None, "Folder of pictures, each named by its item's id.", role="input")


@dataclass(frozen=True, kw_only=True)
class LogFiles(ItemFiles):
    """Interactions with times."""

    duplicates: str = option(
        "keep",
        "Interactions that repeat user, item and time: keep all, or drop all but one; or keep the first or the last "
        "interaction per user and item.",
        choices=("keep", "drop", "first", "last"),
    )
    ties: str = option(
        "file",
        "Order of a user's interactions of equal time: as in the file, by item id, or at random (by --seed).",
        choices=("file", "item", "random"),
    )


@dataclass(frozen=True, kw_only=True)
class LogColumns(LogFiles):
    """Interactions whose columns have names."""

    user_column: str | None = option(None, "Column of the user id. [default: user, user_id, uid, customer, …]")
    item_column: str | None = option(
        None, "Column of the item id (also in --items). [default: item, item_id, movieId, product, …]"
    )
    time_column: str | None = option(None, "Column of the time. [default: timestamp, ts, date, …]")
    time_unit: str = option(
        "auto", "Unit of times that are numbers; auto: recognised and said.", choices=("auto", "s", "ms", "us", "ns")
    )
    order: str = option("time", "Order of a user's interactions: by time, or as in the file.", choices=("time", "file"))
    rating_column: str | None = option(None, "Column of the rating. [default: rating, stars, …]")
    min_rating: float | None = option(None, "Leave out interactions with a lower rating.")

    def __post_init__(self) -> None:
        if self.order == "file" and (self.time_column is not None or self.time_unit != "auto"):
            given = "--time-unit" if self.time_column is None else "--time-column"
            raise UsageError(f"{given} has no effect: --order file reads no times", "leave one of them out")
        if self.order == "file" and self.duplicates == "drop":
            raise UsageError("--duplicates drop compares times, and --order file reads none", "--duplicates first")
        if self.order == "file" and self.ties != "file":
            raise UsageError(f"--ties {self.ties} orders equal times, and --order file reads none", "leave --ties out")
