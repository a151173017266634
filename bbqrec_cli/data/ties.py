"""Targets that hang on a tie: one of several items that a user took at the same time. n interactions."""

from __future__ import annotations

import numpy as np

from bbqrec_cli.data.splits import Split


def tied_targets(items: np.ndarray, moments: np.ndarray | None, split: Split) -> dict[str, int]:
    """Test and validation targets for which another item has the same time: "test" and "validation" -> targets.

    Args:
        items, moments: (n,), see `Interactions`, in the order of the sequences; without times no target is tied.
    """
    if moments is None or not len(items):
        return {"test": 0, "validation": 0}
    same = moments[1:] == moments[:-1]
    runs = np.concatenate([[0], np.cumsum(~same)])
    mixed = np.zeros(runs[-1] + 1, bool)
    mixed[runs[1:][same & (items[1:] != items[:-1])]] = True
    # A target stands right behind its history.
    return {name: int(mixed[runs[held.seen_stop]].sum())
            for name, held in (("test", split.test), ("validation", split.validation))}  # fmt: skip
