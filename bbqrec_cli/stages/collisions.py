"""collisions: which items share a semantic ID, at every depth, and how much of the codebooks is used."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import StageConfig, option
from bbqrec_cli.errors import CollisionError
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from bbqrec_cli.records import Codes
    from bbqrec_cli.tokenizers.collisions import Depth

SHOWN = 20
"""Items of a group that are listed."""


@dataclass(frozen=True, kw_only=True)
class CollisionsConfig(StageConfig):
    """Options of `bbqrec collisions`."""

    input: Path = option(Path("tokens.h5"), "Tokens file, model file or a published index (.json).", positional=True)
    max_collisions: int = option(-1, "Exit with status 3 if more items are in collisions; -1: never.", minimum=-1)
    groups: int = option(10, "Largest groups to list.", minimum=0)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Items that share a whole ID: levels × signals of codes, how many there are, ids and titles of the first."""

    code: list[list[int]]
    size: int
    items: list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class CollisionsResult:
    """What `bbqrec collisions --json` prints."""

    input: Path
    method: str
    signals: tuple[str, ...]
    codebook_size: int
    items: int
    depths: list[Depth]
    groups: list[Group]

    @property
    def colliding_items(self) -> int:
        """Items that share their whole ID with another one (the paper's Table 5)."""
        return self.depths[-1].colliding_items

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        counts = {"distinct": self.depths[-1].distinct, "colliding_items": self.colliding_items}
        return dataclasses.asdict(self) | counts | {"input": str(self.input), "signals": list(self.signals)}

    def check(self, limit: int) -> None:
        """Raises: CollisionError: more than `limit` items are in collisions (-1: no limit)."""
        if 0 <= limit < self.colliding_items:
            raise CollisionError(
                f"{self.input}: {self.colliding_items:,} items are in collisions; --max-collisions allows {limit:,}",
                "bbqrec tokenize with more --levels, a larger --codebook-size or --on-collision suffix",
            )


def run(config: CollisionsConfig, progress: Progress = SILENT) -> CollisionsResult:
    """Analyse the semantic IDs of `config.input`.

    Raises:
        MissingFileError, BrokenFileError, WrongKindError, NewerVersionError, DataError: not the file it should be.
    """
    from bbqrec_cli.tokenizers.collisions import depths, largest_groups

    item_ids, titles, codes = read_ids(config.input)
    groups = [
        Group(
            code=codes.codes[rows[0]].tolist(),
            size=len(rows),
            items=[{"id": item_ids[row], "title": titles[row]} for row in rows[:SHOWN]],
        )
        for rows in largest_groups(codes.codes, config.groups)
    ]
    return CollisionsResult(
        input=config.input, method=codes.method, signals=codes.modalities, codebook_size=codes.codebook_size,
        items=len(item_ids), depths=depths(codes.codes, codes.modalities), groups=groups,
    )  # fmt: skip


def read_ids(path: Path) -> tuple[list[str], list[str], Codes]:
    """Item ids, titles ('' in a published index) and semantic IDs of a tokens file, a model file or an index."""
    from bbqrec_cli.hdf5 import read_codes
    from bbqrec_cli.records import Codes
    from bbqrec_cli.tokenizers.published import SIGNAL, read_index

    if path.suffix.lower() != ".json":
        catalogue, codes = read_codes(path)
        return catalogue.item_ids, catalogue.titles, codes
    item_ids, values = read_index(path)
    codes = Codes(codes=values, modalities=(SIGNAL,), method="published", codebook_size=int(values.max()) + 1)
    return item_ids, [""] * len(item_ids), codes
