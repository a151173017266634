"""Data that are split already: which part each interaction belongs to. n interactions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bbqrec_cli.data.sources.base import Interactions
from bbqrec_cli.errors import DataError
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import PARTS

NAMES = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2, "testing": 2}
"""How a column names the parts; case does not count."""


def parts_of_names(names: Sequence[str], table: Path, column: str) -> np.ndarray:
    """The part of each interaction, (n,) uint8, from the cells of a column.

    Raises:
        DataError: a name that is no part's.
    """
    known = {name: NAMES.get(name.strip().casefold()) for name in dict.fromkeys(names)}
    if unknown := [name for name, part in known.items() if part is None]:
        count = sum(name in unknown for name in names)
        raise DataError(
            f"{table}: {column} is {unknown[0]!r} in the first of {count:,} rows that name no part of a split",
            "train, valid (validation, dev) or test is needed, in any case",
        )
    return np.fromiter((known[name] for name in names), np.uint8, len(names))


def say_order(made: Interactions, name: str, progress: Progress) -> None:
    """Warn of users with a row that is older than one of an earlier part: such a split is not by time.

    Args:
        name: the file, for the message.
    """
    if made.parts is None or made.timestamps is None:
        return
    for later in (2, 1):
        mine = made.parts == later
        newest = np.full(len(made.user_ids), np.iinfo(np.int64).min)
        np.maximum.at(newest, made.users[made.parts < later], made.timestamps[made.parts < later])
        older = np.unique(made.users[mine][made.timestamps[mine] < newest[made.users[mine]]])
        if len(older):
            before = "training" if later == 1 else "training or validation"
            progress.warn(
                f"{name}: {len(older):,} users have a {PARTS[later]} row that is older than a {before} row of theirs "
                f"(the first is {made.user_ids[older[0]]}): the split is not by time, and what was later is in the "
                "history"
            )
