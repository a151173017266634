from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import MethodConfig, Range, option


@dataclass(frozen=True, kw_only=True)
class EASEConfig(MethodConfig):
    """A linear model of every item by all others, in closed form (Steck, WWW 2019); at most 25,000 items."""

    implementation: ClassVar[str] = "bbqrec_cli.models.ease:EASE"

    l2: float = option(500.0, "L2 regularisation λ.", role="model", minimum=1e-6, search=Range(10, 10_000, log=True))
