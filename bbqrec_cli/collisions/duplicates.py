"""Whether items that share an ID are duplicates, or victims of a coarse quantiser. I items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bbqrec_cli.collisions.neighbours import unit
from bbqrec_cli.grouping import shared_groups
from bbqrec_cli.records import Feature

THRESHOLD = 0.99
"""Features with a cosine above this count as equal."""
PORTION = 4096
"""Items of one group that are compared with each other; larger groups are compared in portions."""
NOT_COLLIDING, UNKNOWN, DUPLICATE, VICTIM = range(4)


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Counts of the items that share their whole ID. duplicates: items with the same title (same_title) or features
    (same_features, None without features) as another item of their group; victims: the others; unknown: items without
    title and features."""

    colliding_items: int
    duplicates: int
    victims: int
    unknown: int
    same_title: int
    same_features: int | None


def judge_duplicates(
    codes: np.ndarray, titles: Sequence[str], features: Mapping[str, Feature]
) -> tuple[Duplicates, np.ndarray]:
    """The counts, and the verdict on each item, (I,).

    Args:
        codes: (I, L, M).
        titles: I titles, '' = missing.
        features: name -> (I, d); two items have the same features if the cosine of every feature that both have is
            above 0.99.
    """
    groups = shared_groups(codes)
    rows = np.concatenate([*groups, np.empty(0, dtype=np.int64)])
    named, alike = np.zeros(len(codes), dtype=bool), np.zeros(len(codes), dtype=bool)
    for group in groups:
        named[group] = _same_title([titles[row] for row in group])
        alike[group] = _same_features({name: (f.values[group], f.present[group]) for name, f in features.items()})
    known = np.array([bool(title) for title in titles], dtype=bool)
    for feature in features.values():
        known |= feature.present
    found = np.full(len(codes), NOT_COLLIDING)
    found[rows] = np.where(named | alike, DUPLICATE, np.where(known, VICTIM, UNKNOWN))[rows]
    count = np.bincount(found, minlength=4)
    made = Duplicates(
        colliding_items=len(rows), duplicates=int(count[DUPLICATE]), victims=int(count[VICTIM]),
        unknown=int(count[UNKNOWN]), same_title=int(named.sum()),
        same_features=int(alike.sum()) if features else None,
    )  # fmt: skip
    return made, found


def _same_title(titles: Sequence[str]) -> np.ndarray:
    """(n,) bool: the titles that occur more than once, ignoring case and spaces."""
    plain = [" ".join(title.casefold().split()) for title in titles]
    count = Counter(plain)
    return np.array([bool(title) and count[title] > 1 for title in plain])


def _same_features(features: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray | bool:
    """(n,) bool: the items of a group with the same features as another item of their portion.

    Args:
        features: name -> values (n, d), present (n,).
    """
    if not features:
        return False
    found = []
    for start in range(0, len(next(iter(features.values()))[1]), PORTION):
        part = slice(start, start + PORTION)
        alike, compared = np.array(True), np.array(False)
        for values, present in features.values():
            x, here = unit(values[part]), present[part]
            both = here[:, None] & here
            alike, compared = alike & ((x @ x.T > THRESHOLD) | ~both), compared | both
        same = alike & compared
        np.fill_diagonal(same, False)
        found.append(same.any(axis=1))
    return np.concatenate(found)
