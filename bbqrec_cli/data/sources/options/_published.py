"""Options that sources of published sets share."""

from __future__ import annotations

from dataclasses import dataclass

from bbqrec_cli.config import option
from bbqrec_cli.data.sources.options._items import LogFiles


@dataclass(frozen=True, kw_only=True)
class Downloads(LogFiles):
    """A set that can be downloaded."""

    mirror: str | None = option(
        None, "With --download: the address (http or https) that stands in for the publisher's.", role="runtime"
    )
