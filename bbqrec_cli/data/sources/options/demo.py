from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import MethodConfig, option


@dataclass(frozen=True, kw_only=True)
class DemoOptions(MethodConfig):
    """A synthetic shop with texts, pictures and planted preferences."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.demo:Demo"
    example: ClassVar[str] = "bbqrec prepare demo"

    size: str = option("full", "1,200 items and 2,500 users (full), or 200 and 300 (small).", choices=("full", "small"))
