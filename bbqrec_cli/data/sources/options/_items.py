"""Options that sources of the user's own files share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bbqrec_cli.config import MethodConfig, option


@dataclass(frozen=True, kw_only=True)
class ItemFiles(MethodConfig):
    """Files that describe the items."""

    items: Path | None = option(
        None, "Items file: CSV, TSV, JSON lines, or a JSON object from id to fields.", role="input"
    )
    images: Path | None = option(None, "Folder of pictures, each named by its item's id.", role="input")
