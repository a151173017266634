"""Options of the commands that let a model recommend. No torch here: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.config import StageConfig, option
from bbqrec_cli.errors import UsageError


def beam_option() -> Any:
    """How a generative model searches: `Wanted.beam`, of type `int | None`."""
    return option(
        None, "Beam width of a generative model; 0: exact, the best of all items. "
        "[default: 50; 0 with heads and --normalisation catalogue]", minimum=0,
    )  # fmt: skip


def unite_option() -> Any:
    """Further models that recommend with the first one (`models/united.py`), of type `tuple[Path, ...]`."""
    return option(
        (), "Another model of the same data: what both recommend is united, by reciprocal ranks; may be repeated.",
        role="input", repeatable=True, complete=".h5",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ServingConfig(StageConfig):
    """What is recommended, of which items: by `recommend`, and by `export` to all users."""

    tokens: Path | None = option(
        None, "Extended tokens file (tokenize --append): recommend to its users, its new items too, without training.",
        role="input", complete=".h5",
    )  # fmt: skip
    unite: tuple[Path, ...] = unite_option()
    top: int = option(10, "Items to recommend per user.", minimum=1)
    beam: int | None = beam_option()
    include_seen: bool = option(False, "Recommend also what the user has interacted with already.")
    exclude_seen: bool | None = option(None, "The default: leave out what the user has interacted with.", hidden=True)
    filter: tuple[str, ...] = option(
        (),
        "attribute=value: only items that have it (attribute=: lack it); case is ignored; repeated: all must hold.",
        repeatable=True,
    )
    allow: Path | None = option(None, "File of item ids, one per line: recommend only these.", role="input")
    deny: Path | None = option(None, "File of item ids, one per line: recommend none of these.", role="input")
    batch_size: int = option(
        64, "Users per batch; `recommend --stdin` reads this many lines before it answers.", minimum=1
    )

    def __post_init__(self) -> None:
        if self.include_seen and self.exclude_seen:
            raise UsageError("--include-seen and --exclude-seen exclude each other", "give one of them")

    @property
    def without_seen(self) -> bool:
        """Whether items of the user's history are left out."""
        return not self.include_seen and self.exclude_seen is not False
