"""What sources of a person's own files share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bbqrec_cli.config import MethodConfig, option


@dataclass(frozen=True, kw_only=True)
class ItemFiles(MethodConfig):
    """Where the items are described."""

    items: Path | None = option(
        None, "Items file: CSV, TSV, JSON lines, or a JSON object of id to fields.", role="input"
    )
    images: Path | None = option(None, "Folder of pictures named by item id.", role="input")
