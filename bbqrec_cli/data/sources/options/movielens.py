from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.data.sources.options._published import Downloads


@dataclass(frozen=True, kw_only=True)
class MovieLensOptions(Downloads):
    """MovieLens 100K, 1M, 10M, 20M, 25M, 32M and latest, as a folder or as the zip."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.movielens:MovieLens"
    example: ClassVar[str] = "bbqrec prepare movielens --download 1m"
    own_files: ClassVar[tuple[str, ...]] = (r"u\.data", r"ratings\.dat", r"ratings\.csv movies\.csv", r"ml-.+\.zip")

    download: str | None = option(
        None,
        "Download this set first, into the folder PATHS (default: here).",
        role="runtime",
        choices=("100k", "1m", "10m", "20m", "25m", "32m", "latest-small", "latest"),
    )
    min_rating: float | None = option(None, "Leave out lower ratings.")
