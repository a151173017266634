"""Data that are split already: which part each interaction belongs to. n interactions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bbqrec_cli.data.sources.base import Interactions
from bbqrec_cli.errors import UsageError
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import PARTS

NAMES = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2, "testing": 2}
"""How a column, or a file's name, names the parts; case does not count."""
NO_PART = 255
_EXAMPLE = "bbqrec prepare table train.csv valid.csv test.csv --split given"


def parts_of_names(names: Iterable[str]) -> np.ndarray:
    """The part that each name says, (names,) uint8; NO_PART for any other name."""
    return np.fromiter((NAMES.get(name.strip().casefold(), NO_PART) for name in names), np.uint8)


def parts_of_files(paths: Sequence[Path]) -> list[int] | None:
    """The parts that the names of files say, as train.csv or log.valid.parquet; None unless they are all three."""
    words = [re.split(r"[^a-z]+", path.name.casefold()) for path in paths]
    found = [next((NAMES[word] for word in each if word in NAMES), NO_PART) for each in words]
    return found if sorted(found) == list(range(len(PARTS))) else None


def check_order(paths: Sequence[Path]) -> None:
    """Raises: UsageError: they are not three, or their names say that they are not in the order of the parts."""
    if len(paths) != len(PARTS):
        count = f"there {'is' if len(paths) == 1 else 'are'} {len(paths)}"
        what = "three files are needed, the training, validation and test part, or a column that names the part"
        raise UsageError(f"--split given: {what}; {count}", f"{_EXAMPLE}; or --split-column NAME")
    said = parts_of_files(paths)
    if said and said != sorted(said):
        names = ", ".join(path.name for path in paths)
        what = "the first file is the training part, the second validation, the third test"
        raise UsageError(f"--split given: {what}; {names} are not in this order", _EXAMPLE)


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
