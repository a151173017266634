from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.data.sources.options._items import ItemFiles


@dataclass(frozen=True, kw_only=True)
class AmazonOptions(ItemFiles):
    """The 2014 Amazon release: reviews, metadata, visual features."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.amazon:Amazon"
