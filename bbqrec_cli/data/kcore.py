"""The k-core: users and items with too few interactions are removed until none is left."""

from __future__ import annotations

import numpy as np


def k_core(users: np.ndarray, items: np.ndarray, *, min_user: int, min_item: int) -> np.ndarray:
    """The largest set of interactions in which every user has at least `min_user` and every item at least `min_item`.

    Repeated interactions of a user with an item count each time.

    Args:
        users, items: (n,) int64, rows from 0, one per interaction.

    Returns:
        (n,) bool: the interactions that are kept. The largest such set is unique.
    """
    keep = np.ones(len(users), dtype=bool)
    while True:
        by_user = np.bincount(users[keep], minlength=users.max(initial=-1) + 1)
        by_item = np.bincount(items[keep], minlength=items.max(initial=-1) + 1)
        again = keep & (by_user[users] >= min_user) & (by_item[items] >= min_item)
        if again.sum() == keep.sum():
            return keep
        keep = again
