"""The k-core: users and items with too few interactions are removed until none is left."""

from __future__ import annotations

import numpy as np

_PART = 1 << 24


def k_core(users: np.ndarray, items: np.ndarray, *, min_user: int, min_item: int) -> np.ndarray:
    """The largest set of interactions in which every user has at least `min_user` and every item at least `min_item`.

    Repeated interactions of a user with an item count each time.

    Args:
        users, items: (n,) integers, rows from 0, one per interaction.

    Returns:
        (n,) bool: the interactions that are kept. The largest such set is unique.
    """
    keep = np.ones(len(users), dtype=bool)
    by_user, by_item = _counts(users), _counts(items)
    while True:
        gone = keep & ~((by_user >= min_user)[users] & (by_item >= min_item)[items])
        if not gone.any():
            return keep
        keep &= ~gone
        by_user -= np.bincount(users[gone], minlength=len(by_user))
        by_item -= np.bincount(items[gone], minlength=len(by_item))


def _counts(rows: np.ndarray) -> np.ndarray:
    """(rows,) int64: how often each row from 0 occurs. In parts, since np.bincount makes int64 of all of them."""
    made = np.zeros(rows.max(initial=-1) + 1, np.int64)
    for start in range(0, len(rows), _PART):
        made += np.bincount(rows[start : start + _PART], minlength=len(made))
    return made
