from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.data.sources.options._items import LogFiles


@dataclass(frozen=True, kw_only=True)
class AmazonOptions(LogFiles):
    """Amazon's 2014 release: reviews, metadata, visual features."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.amazon:Amazon"
