"""Synthetic interactions of any number, whose structure is known. U users, I items, C clusters.

The items are in C = I / cluster_size clusters, in a circle. Item j of popularity rank r has the weight w_j = r^-zipf. A
user's first item is drawn by weight; after an item of cluster c, the next one is drawn

    with the probability `follow` from the cluster c + 1 (after the last one comes the first), by weight within it;
    else from all items, by weight.

So all that can be known of the next item is its transition, p(j | c) = (1 - follow) w_j / W + follow [j in c + 1] w_j /
W_{c+1}, where W and W_{c+1} are sums of weights. Users may interact with an item again. Lengths are 1 + Poisson.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.data.sources.base import Interactions, Items, smallest
from bbqrec_cli.data.sources.options.synthetic import SyntheticOptions
from bbqrec_cli.data.sources.paths import check_no_path
from bbqrec_cli.data.splits import EVALUATED
from bbqrec_cli.errors import UsageError
from bbqrec_cli.progress import Progress
from bbqrec_cli.seeds import numpy_generator

DEPTHS = 5, 10
"""The k of the Recall@k and NDCG@k that a perfect model reaches."""
_USERS = 1 << 17
"""Users that are drawn at a time, each time from a random stream of their own."""
_SYLLABLES = tuple(first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou")


class Synthetic:
    """See the module. No path is taken.

    about: what a perfect model reaches, for the dataset file's configuration; after `interactions`.

    Raises:
        UsageError: a path was given; fewer than two clusters.
    """

    minimum = 0
    own_order = True

    def __init__(self, paths: list[Path], options: SyntheticOptions, *, seed: int, progress: Progress) -> None:
        check_no_path(paths, "synthetic")
        self._clusters = options.items // options.cluster_size
        if self._clusters < 2:
            what = f"{options.items:,} items make fewer than two clusters of {options.cluster_size:,}"
            raise UsageError(what, "lower --cluster-size, or raise --items")
        self.files: list[Path] = []
        self.about: dict[str, Any] = {}
        self._options, self._seed, self._progress = options, seed, progress
        rng = numpy_generator(seed, "synthetic", "items")
        # Items are numbered from cluster to cluster; ranks of popularity are spread over them at random.
        self._cluster = np.arange(options.items, dtype=np.int64) * self._clusters // options.items
        # Rounded, so that machines whose power differs in the last bit make the same file.
        weights = np.round((rng.permutation(options.items) + 1.0) ** -options.zipf, 12)
        self._upto = np.concatenate([[0.0], np.cumsum(np.maximum(weights, 1e-12))])
        self._start = np.searchsorted(self._cluster, np.arange(self._clusters + 1))

    def interactions(self) -> Interactions:
        """All users' interactions; items without any are left out."""
        options = self._options
        mean, count = options.interactions_per_user, options.users
        lengths = numpy_generator(self._seed, "synthetic", "lengths").poisson(mean - 1, count) + 1
        items = np.empty(int(lengths.sum()), smallest(options.items))
        before = np.zeros(self._clusters, np.int64)
        done = 0
        with self._progress.task("drawing interactions", len(items)) as task:
            for start in range(0, count, _USERS):
                part = lengths[start : start + _USERS]
                made = self._drawn(part, numpy_generator(self._seed, "synthetic", "users", start))
                items[done : done + len(made)] = made
                targets = done + np.cumsum(part)[part >= EVALUATED] - 1
                before += np.bincount(self._cluster[items[targets - 1]], minlength=self._clusters)
                done += len(made)
                task.advance(len(made))
        self.about = {"planted": self._reached(before)}
        said = ", ".join(f"{name} {value:.4f}" for name, value in self.about["planted"].items())
        self._progress.log(f"a model that knows the planted transitions reaches on average: {said}")
        used = np.zeros(options.items, bool)
        used[items] = True
        if left := int((~used).sum()):
            self._progress.log(f"{left:,} of {options.items:,} items are left out: they have no interactions")
        row_of = np.cumsum(used) - 1
        return Interactions(
            user_ids=[f"u{user + 1}" for user in range(count)],
            item_ids=[f"i{item + 1}" for item in np.flatnonzero(used)],
            users=np.repeat(np.arange(count, dtype=smallest(count)), lengths),
            items=row_of.astype(items.dtype)[items],
        )

    def _drawn(self, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The items of some users one after the other, (sum of lengths,) int64. One step draws an item per user."""
        begin = np.cumsum(lengths) - lengths
        made = np.empty(int(lengths.sum()), np.int64)
        active, last = np.arange(len(lengths)), np.zeros(len(lengths), np.int64)
        for step in range(int(lengths.max(initial=0))):
            keep = lengths[active] > step
            active, last = active[keep], last[keep]
            low, high = np.zeros(len(active), np.int64), np.full(len(active), len(self._cluster))
            if step:
                follow = rng.random(len(active)) < self._options.follow
                following = (self._cluster[last] + 1) % self._clusters
                low = np.where(follow, self._start[following], low)
                high = np.where(follow, self._start[following + 1], high)
            first, end = self._upto[low], self._upto[high]
            last = np.searchsorted(self._upto, first + rng.random(len(active)) * (end - first), side="right") - 1
            last = np.clip(last, low, high - 1)  # rounding may reach the end
            made[begin[active] + step] = last
        return made

    def _reached(self, before: np.ndarray) -> dict[str, float]:
        """Expected Recall@k and NDCG@k of ranking by p(j | c), over the clusters c of the items before the test items.

        before: (C,) int64: test items after an item of the cluster.
        """
        found = {f"{name}@{k}": 0.0 for k in DEPTHS for name in ("recall", "ndcg")}
        weights, deepest = np.diff(self._upto), max(DEPTHS)
        popular = np.argsort(-weights, kind="stable")[:deepest]
        discounts = 1 / np.log2(np.arange(deepest) + 2)
        for cluster in np.flatnonzero(before):
            following = (cluster + 1) % self._clusters
            members = np.arange(self._start[following], self._start[following + 1])
            # The best items are among those of the cluster and the most popular ones.
            candidates = np.concatenate([members, popular[self._cluster[popular] != following]])
            chances = (1 - self._options.follow) * weights[candidates] / self._upto[-1]
            chances[: len(members)] += self._options.follow * weights[members] / weights[members].sum()
            best = np.sort(chances)[::-1][:deepest]
            for k in DEPTHS:
                found[f"recall@{k}"] += float(best[:k].sum() * before[cluster])
                found[f"ndcg@{k}"] += float((best * discounts[: len(best)])[:k].sum() * before[cluster])
        return {name: round(value / max(1, int(before.sum())), 6) for name, value in found.items()}

    def items(self, item_ids: list[str]) -> Items:
        """With --text, a title of made-up words and the cluster's as the category; else nothing."""
        if not self._options.text:
            return Items()
        numbers = [int(name[1:]) - 1 for name in item_ids]
        clusters = [word(int(self._cluster[number])) for number in numbers]
        own = [word(self._clusters + number) for number in numbers]
        titles = [f"{cluster.capitalize()} {name}" for cluster, name in zip(clusters, own, strict=True)]
        return Items(fields={"title": titles, "category": clusters})


def word(number: int) -> str:
    """A made-up word, another one for each number from 0."""
    made, base = "", len(_SYLLABLES)
    number += base  # two syllables at least
    while number:
        number, rest = divmod(number, base)
        made = _SYLLABLES[rest] + made
    return made
