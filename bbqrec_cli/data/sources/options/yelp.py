from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.data.sources.options._items import LogFiles


@dataclass(frozen=True, kw_only=True)
class YelpOptions(LogFiles):
    """Yelp's open dataset: reviews and businesses, as a folder, tar or zip."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.yelp:Yelp"
    example: ClassVar[str] = "bbqrec prepare yelp yelp_dataset.tar --since 2019-01-01 --until 2019-12-31"
    own_files: ClassVar[tuple[str, ...]] = (
        r"yelp_academic_dataset_review\.json(\.gz)?",
        r"yelp_dataset\.(tar|tgz|tar\.gz)",
        r"Yelp-JSON\.zip",
    )

    min_rating: float | None = option(None, "Leave out reviews with fewer stars.")
