"""Which metrics files may stand beside each other, and where their users differ. U users."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bbqrec_cli.errors import DataError
from bbqrec_cli.evaluation.metrics import per_user
from bbqrec_cli.evaluation.significance import Rows, aligned, row_names
from bbqrec_cli.records import Metrics

PROTOCOLS = {True: "seen items left out of the ranking", False: "seen items in the ranking"}
OF_USERS = {"history_length": "items in the history", "target_interactions": "training interactions of the target"}
"""Arrays of a metrics file that say something of a user. The second is of what the model was trained on."""


def range_name(low: int, high: int | None) -> str:
    """'0', '1 to 5', 'over 20'."""
    return f"over {low - 1}" if high is None else str(high) if low == high else f"{low} to {high}"


def check_comparable(every: Mapping[str, Metrics]) -> list[int]:
    """The depths k that all have; name -> metrics, at least one.

    Raises:
        DataError: another split, protocol, other users, other data or no k in common, with the name that does not fit.
    """
    (name, first), *others = every.items()
    for other_name, other in others:
        if other.split != first.split:
            raise DataError(f"{other_name}: of the {other.split} split; {name} is of the {first.split} split")
        if other.exclude_seen != first.exclude_seen:
            said = f"made with {PROTOCOLS[other.exclude_seen]}; {name} has {PROTOCOLS[first.exclude_seen]}"
            raise DataError(f"{other_name}: {said}", "compare files of one protocol")
        if other.splitting != first.splitting:
            said = f"{other_name}: the interactions are split otherwise ({other.splitting}) than those of {name}"
            raise DataError(f"{said} ({first.splitting})", "evaluate models of the same dataset file")
        check_same_data(name, first, other_name, other)
    shared = sorted(set.intersection(*(set(each.recall) for each in every.values())))
    if not shared:
        depths = "; ".join(f"{each}: {','.join(map(str, sorted(of.recall)))}" for each, of in every.items())
        raise DataError(f"no k in common ({depths})", "bbqrec evaluate --k")
    return shared


def check_same_data(name: str, first: Rows | Metrics, other_name: str, other: Metrics) -> None:
    """Raises: DataError: the users, their targets, their histories or the numbers of items that were ranked differ."""
    try:
        in_order_of(first, other, other.ranks)
    except DataError as error:
        raise DataError(f"{other_name}: of other data than {name}: {error.message}", error.hint) from None
    if first.items and other.items and first.items != other.items:
        said = f"{other_name}: of other data than {name}: {other.items:,} items were ranked, not {first.items:,}"
        raise DataError(said, "evaluate models of the same dataset file")
    named = first.targets is not None and other.targets is not None
    # Old files do not name the targets; their interactions tell most of them apart.
    same = {"history_length": OF_USERS["history_length"], "targets": "the target"}
    for which, what in (same if named else OF_USERS).items():
        own, theirs = getattr(first, which, None), getattr(other, which)
        if own is None or theirs is None:
            continue
        a, b = np.asarray(own), in_order_of(first, other, np.asarray(theirs))
        if len(wrong := np.flatnonzero(a != b)):
            user = first.user_ids[wrong[0]]
            said = f"{other_name}: of other data than {name}: {what} of user {user!r}: {b[wrong[0]]}, not"
            raise DataError(f"{said} {a[wrong[0]]}", "evaluate models of the same dataset file")


def trained_otherwise(every: Mapping[str, Metrics]) -> list[str]:
    """The names of comparable metrics whose models had other training interactions of the targets than the first's."""
    (_, first), *others = every.items()
    own = first.target_interactions
    return [
        name for name, each in others
        if own is not None and each.target_interactions is not None
        and not np.array_equal(own, in_order_of(first, each, each.target_interactions))
    ]  # fmt: skip


def rows_of(first: Rows | Metrics, other: Metrics) -> tuple[list[str], list[str]]:
    """The names by which the rows of two files are matched: users, or where a user has several targets, these, too."""
    if len(set(first.user_ids)) == len(first.user_ids) or first.targets is None or other.targets is None:
        return first.user_ids, other.user_ids
    return row_names(first), row_names(other)


def in_order_of(first: Rows | Metrics, other: Metrics, values: np.ndarray) -> np.ndarray:
    """`values` (U,) of `other`'s rows in the order of `first`'s."""
    mine, others_rows = rows_of(first, other)
    return aligned(mine, np.empty(len(mine)), others_rows, values)[1]


def cut(ranks: np.ndarray, depth: int) -> np.ndarray:
    """Ranks (U,) with 0 for those below a depth."""
    return np.where(ranks <= depth, ranks, 0)


def most_different(ranks: np.ndarray, metric: str, most: int) -> np.ndarray:
    """The users (at most `most`) whose value of a metric differs most between systems, of equal ones the first.

    ranks: (S, U) of S systems. Users for whom all are equal are left out.
    """
    values = np.stack([per_user(each, metric) for each in ranks])
    spread = values.max(0) - values.min(0)
    order = np.argsort(-spread, kind="stable")[:most]
    return order[spread[order] > 0]


def user_by_user(one: np.ndarray, other: np.ndarray) -> dict[str, int]:
    """For how many users `one` is better, equal and worse; values (U,)."""
    return {"better": int((one > other).sum()), "equal": int((one == other).sum()), "worse": int((one < other).sum())}
