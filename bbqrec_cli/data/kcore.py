"""Filtering users and items with too few interactions, until nothing more falls away (the k-core)."""

from __future__ import annotations

import numpy as np


def k_core(users: np.ndarray, items: np.ndarray, *, min_user: int, min_item: int) -> np.ndarray:
    """Which interactions are left when every user has `min_user` and every item `min_item` of them.

    Interactions are counted, not distinct partners: who takes an item five times has five.

    Args:
        users, items: (n,) int64, rows from 0.

    Returns:
        (n,) bool; the largest such set, which is unique.
    """
    keep = np.ones(len(users), dtype=bool)
    while True:
        by_user = np.bincount(users[keep], minlength=users.max(initial=-1) + 1)
        by_item = np.bincount(items[keep], minlength=items.max(initial=-1) + 1)
        again = keep & (by_user[users] >= min_user) & (by_item[items] >= min_item)
        if again.sum() == keep.sum():
            return keep
        keep = again
