"""What a page shows beside tables of metrics: groups of users, and what they are recommended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Sliced:
    """A metric of systems over groups of users.

    by: what the groups differ in; groups: their names; rows: system -> per group the mean over its users (and
    seeds), None where there are none; users: per group, 0 where they differ from system to system.
    """

    data: str
    metric: str
    by: str
    groups: Sequence[str]
    users: Sequence[int]
    rows: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Shelf:
    """Items in a row: titles, and pictures as data URIs ('' for none). hit: the place of the target, -1 if it is not
    there."""

    titles: Sequence[str]
    pictures: Sequence[str]
    hit: int = -1


@dataclass(frozen=True)
class Example:
    """A user: the end of the history, oldest first, the target, and each system's list."""

    user: str
    history: Shelf
    target: Shelf
    lists: Mapping[str, Shelf]


@dataclass(frozen=True)
class SideBySide:
    """Of a data set and a seed. lacking: why there are no examples, '' if there are."""

    data: str
    systems: tuple[str, ...]
    seed: int
    examples: Sequence[Example]
    lacking: str = ""
