from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import MethodConfig


@dataclass(frozen=True, kw_only=True)
class PopularityConfig(MethodConfig):
    """The items with the most training interactions, the same for all users: the baseline to beat."""

    implementation: ClassVar[str] = "bbqrec_cli.models.popularity:Popularity"
