from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.data.sources.options._published import Downloads


@dataclass(frozen=True, kw_only=True)
class AmazonOptions(Downloads):
    """Amazon's reviews and metadata: the releases of 2014, 2018 and 2023."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.amazon:Amazon"
    example: ClassVar[str] = "bbqrec prepare amazon --download 2014 --category Beauty"
    own_files: ClassVar[tuple[str, ...]] = (r"reviews_.+\.json(\.gz)?", r"[A-Z]\w*(_5\.json|\.jsonl)(\.gz)?")

    items: Path | None = option(
        None, "Metadata of the release, such as meta_Beauty.json.gz. [default: the one beside the reviews]",
        role="input",
    )  # fmt: skip
    download: str | None = option(
        None,
        "Download reviews and metadata of this release first, into the folder PATHS (default: here).",
        role="runtime",
        choices=("2014", "2018", "2023"),
    )
    category: str | None = option(
        None, "With --download: the category as the release writes it, such as Beauty or All_Beauty.", role="runtime"
    )
    unfiltered: bool = option(
        False, "With --download: all reviews, which then go through the 5-core, instead of the 5-core.", role="runtime"
    )
    download_pictures: bool = option(
        False,
        "Download the pictures of the kept items by the addresses in the metadata, into --images or the folder images "
        "beside the reviews.",
        role="runtime",
    )
