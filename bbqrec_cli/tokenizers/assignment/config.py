"""Assigning codes to all items or to new ones: options and result. No torch here: `--help` reads this."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.config import StageConfig, option

ON_COLLISION = ("nearest", "sinkhorn", "regroup", "suffix", "share")


@dataclass(frozen=True, kw_only=True)
class AssignmentConfig(StageConfig):
    """Options of `tokenize`, with or without --append."""

    features: Path = option(
        Path("features.h5"), "Features file; for published and random any file with items.", role="input",
        positional=True, complete=".h5",
    )  # fmt: skip
    on_collision: str = option(
        "nearest",
        "Items with equal IDs move to free ones, one by one (nearest) or all at once (sinkhorn); choose their last "
        "codes again, as LETTER's program has it, and may go on sharing (regroup); get one more level (suffix); or "
        "keep them (share).",
        agreed=False, paper="share", choices=ON_COLLISION,
    )  # fmt: skip
    id_signal: str = option(
        "neighbours",
        "ID signal of items without training interactions, new ones too: the mean over similar items that have some "
        "(neighbours), or absent.",
        agreed=False, paper="absent", choices=("neighbours", "absent"),
    )  # fmt: skip
    neighbours: int = option(50, "Similar items in the mean of --id-signal neighbours.", agreed=False, minimum=1)

    @property
    def id_neighbours(self) -> int:
        """Number of similar items whose mean is the ID signal of an item without interactions; 0: it is absent."""
        return self.neighbours if self.id_signal == "neighbours" else 0


@dataclass(frozen=True, kw_only=True)
class AssignmentResult:
    """What `bbqrec tokenize --json` prints, with usage and perplexity of the final codes.

    seconds: from the reading of the inputs to the written file; where the run was resumed, also those of the epochs
    before.
    """

    output: Path
    method: str
    levels: int
    codebook_size: int
    signals: tuple[str, ...]
    items: int
    colliding_items: int
    epochs: int
    seconds: float
    figures: dict[str, float]
    new_items: int = 0

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        return dataclasses.asdict(self) | {"output": str(self.output), "signals": list(self.signals)}
