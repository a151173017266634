"""Paired significance tests of two systems on the same users. n users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from bbqrec_cli.errors import DataError
from bbqrec_cli.records import Metrics, Vocabulary


class Rows(NamedTuple):
    """What the rows of a metrics file are about; see `Metrics`, which has the same fields."""

    user_ids: list[str]
    targets: list[str] | None
    history_length: np.ndarray | None
    items: int = 0


def row_names(rows: Rows | Metrics) -> list[str]:
    """A name for every row, by which rows of two files are matched."""
    assert rows.targets is not None
    assert rows.history_length is not None
    every = zip(rows.user_ids, rows.targets, rows.history_length, strict=True)
    return [f"{user}: {target} after {length} items" for user, target, length in every]


def paired(one: Rows | Metrics, a: np.ndarray, other: Rows | Metrics, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both systems' values per user (n,), matched by user and target; of several targets of a user the mean.

    Args:
        a, b: a value for each row of `one` and of `other`.

    Raises:
        DataError: the users or the targets differ.
    """
    if not _same(one, other):
        full = all(each.targets is not None and each.history_length is not None for each in (one, other))
        names = [row_names(each) if full else each.user_ids for each in (one, other)]
        a, b = aligned(names[0], a, names[1], b)
    if len(set(one.user_ids)) == len(one.user_ids):
        return a, b
    _, who = np.unique(np.asarray(one.user_ids), return_inverse=True)
    a, b = (np.bincount(who, each) / np.bincount(who) for each in (a, b))
    return a, b


def _same(one: Rows | Metrics, other: Rows | Metrics) -> bool:
    """Whether the rows are the same in the same order, for which they need no names."""
    lengths = np.array_equal(one.history_length, other.history_length)  # type: ignore[arg-type]
    return lengths and one.user_ids == other.user_ids and one.targets == other.targets


def aligned(
    users_a: Sequence[str], a: np.ndarray, users_b: Sequence[str], b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both systems' values (n,) in the order of the first system's users.

    Raises:
        DataError: the users differ.
    """
    if list(users_a) == list(users_b):
        return a, b
    rows = Vocabulary(users_b).rows(users_a)
    missing = np.flatnonzero(rows < 0)
    if len(missing) or len(users_a) != len(users_b):
        what = f"{len(users_a)} and {len(users_b)}"
        what += f"; {users_a[missing[0]]!r} is in one only" if len(missing) else ""
        raise DataError(f"different users or targets ({what})", "evaluate both on the same split")
    return a, b[rows]


EXACT = 100
"""Users up to whom Wilcoxon's test is computed exactly."""


def paired_t_test(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p-value of the paired t-test; 1 if all users are equal or there is only one. a, b (n,)."""
    difference = _differences(a, b)
    if len(difference) < 2 or not difference.any():
        return 1.0
    if np.ptp(difference) < 1e-12:  # t is infinite, however few they are: the sign test's
        return 2.0 ** (1 - len(difference))
    return float(stats.ttest_1samp(difference, 0.0).pvalue)


def wilcoxon(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test, without users who are equal; 1 if all are. a, b (n,).

    It is exact, ties included, for at most `EXACT` users, and where all differ by as much, as hits do: it is the sign
    test then. Otherwise it is the normal approximation.
    """
    difference = _differences(a, b)
    difference = difference[difference != 0]
    if not len(difference):
        return 1.0
    ranks, above = stats.rankdata(np.abs(difference)), difference > 0
    if np.ptp(ranks) == 0:
        return float(stats.binomtest(int(above.sum()), len(ranks)).pvalue)
    if len(ranks) > EXACT:
        return float(stats.wilcoxon(difference, method="approx").pvalue)
    weights = (2 * ranks).astype(np.int64)  # ranks of ties may end in a half
    ways = np.zeros(weights.sum() + 1)
    ways[0] = 1
    for weight in weights:  # the probability of each sum of ranks above, if signs are drawn
        ways[weight:] += ways[:-weight]
        ways /= 2
    found = weights[above].sum()
    return float(min(1.0, 2 * min(ways[: found + 1].sum(), ways[found:].sum())))


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b (n,), rounded to what float32 keeps of values up to 1: 1 - 2/3 and 1/3 - 0, means over three seeds, are a
    tie that the last bit would break, as is 1/6 of float32 and of float64."""
    return np.round(a.astype(np.float64) - b, 6)
