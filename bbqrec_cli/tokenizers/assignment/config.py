"""How items get their codes, all of them or new ones: options and result. No torch here: `--help` reads this."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.config import StageConfig, option

ON_COLLISION = ("nearest", "sinkhorn", "suffix", "share")


@dataclass(frozen=True, kw_only=True)
class AssignmentConfig(StageConfig):
    """What both ways of giving items codes take."""

    features: Path = option(
        Path("features.h5"), "Features file; for published and random any file with items.", role="input",
        positional=True, complete=".h5",
    )  # fmt: skip
    on_collision: str = option(
        "nearest",
        "Items with equal IDs move to free ones, one after the other (nearest) or all at once (sinkhorn), get one more "
        "level (suffix), or share.",
        agreed=False, paper="share", choices=ON_COLLISION,
    )  # fmt: skip
    id_signal: str = option(
        "neighbours",
        "ID signal of items without interactions, new ones too: the mean of similar items that have some (neighbours), "
        "or absent.",
        agreed=False, paper="absent", choices=("neighbours", "absent"),
    )  # fmt: skip
    neighbours: int = option(50, "Similar items of that mean.", agreed=False, minimum=1)

    @property
    def id_neighbours(self) -> int:
        """Of how many items with interactions the ID signal of another one is the mean; 0: it is absent."""
        return self.neighbours if self.id_signal == "neighbours" else 0


@dataclass(frozen=True, kw_only=True)
class AssignmentResult:
    """What `bbqrec tokenize --json` prints, and the last epoch's figures."""

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
