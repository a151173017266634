"""Targets that hang on a tie: the protocol's last item is one of several of equal time. n interactions, U users."""

from __future__ import annotations

import numpy as np

from bbqrec_cli.data.splits import EVALUATED


def tied_targets(users: np.ndarray, items: np.ndarray, moments: np.ndarray | None) -> dict[str, int]:
    """Test and validation targets for which another item has the same time: "test" and "validation" -> users.

    Args:
        users, items, moments: (n,), see `Interactions`; without times no target is tied.
    """
    if moments is None or not len(users):
        return {"test": 0, "validation": 0}
    same = moments[1:] == moments[:-1]
    runs = np.concatenate([[0], np.cumsum(~same)])
    mixed = np.zeros(runs[-1] + 1, bool)
    mixed[runs[1:][same & (items[1:] != items[:-1])]] = True
    lengths = np.bincount(users)
    last = np.cumsum(lengths)[lengths >= EVALUATED] - 1
    return {"test": int(mixed[runs[last]].sum()), "validation": int(mixed[runs[last - 1]].sum())}
