"""Which signals and levels tell items apart. I items, L levels, M signals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bbqrec_cli.collisions.usage import having
from bbqrec_cli.grouping import count_colliding_items, in_groups, prefix_sizes


@dataclass(frozen=True, kw_only=True)
class Parting:
    """How a signal's code at a level tells apart items that share all levels before, among those with the signal.

    sharing: such items; pairs: their pairs; parted: pairs whose codes differ; resolved: items that this code alone
    tells from all others of the same prefix; needed: items that the level resolves, but not without this code.
    """

    level: int
    signal: str
    sharing: int
    pairs: int
    parted: int
    resolved: int
    needed: int


@dataclass(frozen=True, kw_only=True)
class Causes:
    """Colliding items if IDs had other parts.

    without_signal, without_level: without that signal or level; only_signal: with that signal alone, among the items
    that have it (only_items). Empty with a single signal or level.
    """

    without_signal: dict[str, int]
    only_signal: dict[str, int]
    only_items: dict[str, int]
    without_level: dict[str, int]
    partings: list[Parting]


def causes(codes: np.ndarray, signals: tuple[str, ...], present: np.ndarray | None = None) -> Causes:
    """The causes of collisions.

    Args:
        codes: (I, L, M), without a level that only tells items of equal IDs apart, which is no signal's.
        signals: M names.
        present: (I, M) bool; None: every item has every signal.
    """
    several = list(enumerate(signals)) if len(signals) > 1 else []
    levels = range(codes.shape[1]) if codes.shape[1] > 1 else []
    of_signal = {name: having(codes, present, number) for number, name in enumerate(signals)}
    return Causes(
        without_signal={name: count_colliding_items(np.delete(codes, number, axis=2)) for number, name in several},
        only_signal={name: count_colliding_items(of_signal[name][:, :, [number]]) for number, name in several},
        only_items={name: len(of_signal[name]) for _, name in several},
        without_level={str(level + 1): count_colliding_items(np.delete(codes, level, axis=1)) for level in levels},
        partings=[
            each for number, name in enumerate(signals)
            for each in _partings(of_signal[name], signal=name, number=number)
        ],
    )  # fmt: skip


def _partings(codes: np.ndarray, *, signal: str, number: int) -> list[Parting]:
    """One `Parting` per level for a signal, among the items that have it. codes (I', L, M)."""
    found = []
    above = np.array([len(codes)])
    for level, whole in enumerate(prefix_sizes(codes)):
        own, others = whole, above  # of a single signal
        if codes.shape[2] > 1:
            prefix = codes[:, :level].reshape(len(codes), level * codes.shape[2])
            own = _sizes(np.concatenate([prefix, codes[:, level, [number]]], axis=1))
            others = _sizes(np.concatenate([prefix, np.delete(codes[:, level], number, axis=1)], axis=1))
        found.append(
            Parting(
                level=level + 1, signal=signal, sharing=in_groups(above), pairs=_pairs(above),
                parted=_pairs(above) - _pairs(own), resolved=in_groups(above) - in_groups(own),
                needed=in_groups(others) - in_groups(whole),
            )
        )  # fmt: skip
        above = whole
    return found


def _sizes(rows: np.ndarray) -> np.ndarray:
    """Sizes of the groups of equal rows; rows (I, C)."""
    (sizes,) = prefix_sizes(rows[:, None, :])
    return sizes


def _pairs(sizes: np.ndarray) -> int:
    """Pairs of members of one group."""
    return int((sizes * (sizes - 1) // 2).sum())
