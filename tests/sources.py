"""What the tests of sources share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bbqrec_cli.data.sources.base import Interactions, Items, without_duplicates
from bbqrec_cli.data.sources.registry import open_source, source_options
from bbqrec_cli.progress import Progress


def read_source(name: str, paths: Path | list[Path], progress: Progress, **options: Any) -> tuple[Interactions, Items]:
    """What the source called `name` reads, of all its items."""
    given = paths if isinstance(paths, list) else [paths]
    chosen = source_options(name, options)
    source = open_source(name, given, chosen, seed=0, progress=progress)
    interactions = without_duplicates(source.interactions(), getattr(chosen, "duplicates", "keep"), progress)
    return interactions, source.items(interactions.item_ids)


def histories(made: Interactions) -> dict[str, list[str]]:
    """User -> items, in order."""
    found: dict[str, list[str]] = {name: [] for name in made.user_ids}
    for user, item in zip(made.users, made.items, strict=True):
        found[made.user_ids[user]].append(made.item_ids[item])
    return found
