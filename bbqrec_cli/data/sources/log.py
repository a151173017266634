"""A log in memory: one reference and one number per interaction, however many there are."""

from __future__ import annotations

from array import array
from dataclasses import replace

from bbqrec_cli.data.sources.base import Interactions, by_user


class Log:
    """users, items: an id per interaction, each id kept once; times: whole numbers; low: those rated below
    `min_rating`, which are only counted."""

    def __init__(self, min_rating: float | None = None) -> None:
        self.users: list[str] = []
        self.items: list[str] = []
        self.times = array("q")
        self.low = 0
        self._least = float("-inf") if min_rating is None else min_rating
        self._ids: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.times)

    def add(self, user: str, item: str, time: int, rating: float = float("inf")) -> None:
        """One interaction."""
        if rating < self._least:
            self.low += 1
            return
        self.users.append(self._ids.setdefault(user, user))
        self.items.append(self._ids.setdefault(item, item))
        self.times.append(time)

    def by_user(self, *, per_second: int, ties: str, seed: int) -> Interactions:
        """See `base.by_user`."""
        made = by_user(self.users, self.items, self.times, per_second=per_second, ties=ties, seed=seed)
        return replace(made, left_out={"ratings": self.low} if self.low else {})
