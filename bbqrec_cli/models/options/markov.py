from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import MethodConfig, Range, option


@dataclass(frozen=True, kw_only=True)
class MarkovConfig(MethodConfig):
    """What follows the last items: a first-order Markov chain, smoothed by popularity."""

    implementation: ClassVar[str] = "bbqrec_cli.models.markov:Markov"

    successors: int = option(
        100, "Successors that are kept per item.", role="model", minimum=1, search=(20, 50, 100, 200, 500)
    )
    smoothing: float = option(
        20.0, "Weight of an item's popularity, in transitions.", role="model", minimum=0, search=Range(0.0, 100.0)
    )
    decay: float = option(
        0.3, "Weight of an item relative to the next one of the history; 0: the last item only.", role="model",
        minimum=0, maximum=1, search=Range(0.0, 1.0),
    )  # fmt: skip
