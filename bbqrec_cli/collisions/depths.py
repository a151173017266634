"""Which items the first levels of their IDs cannot tell apart. I items, L levels, M signals, N codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bbqrec_cli.collisions.usage import Codebook, code_counts, codebook, entropy, gini, having
from bbqrec_cli.grouping import group_codes, in_groups, prefix_sizes


@dataclass(frozen=True, kw_only=True)
class Depth:
    """The first `depth` levels of all IDs: a depth of the trie.

    distinct: number of prefixes; colliding_items: items that share their prefix with another item; largest: items of
    the most frequent prefix; entropy (bits), gini: of the prefixes' counts; mean_children, max_children: prefixes of
    this depth per prefix of the depth above; usage, perplexity: signal -> of the codes at level `depth` alone.
    """

    depth: int
    distinct: int
    colliding_items: int
    largest: int
    entropy: float
    gini: float
    mean_children: float
    max_children: int
    usage: dict[str, int] = field(default_factory=dict)
    perplexity: dict[str, float] = field(default_factory=dict)


def codebooks(
    codes: np.ndarray, signals: tuple[str, ...], sizes: Sequence[int], present: np.ndarray | None = None
) -> dict[tuple[str, int], np.ndarray]:
    """(signal, level from 1) -> number of items with each code, (N,), over the items that have the signal.

    Args:
        codes: (I, L, M).
        signals: M names.
        sizes: N of each level.
        present: (I, M) bool; None: every item has every signal.
    """
    found = {}
    for number, signal in enumerate(signals):
        here = having(codes, present, number)
        for level in range(codes.shape[1]):
            found[signal, level + 1] = code_counts(here[:, level, number], sizes[level])
    return found


def depths(codes: np.ndarray, counts: dict[tuple[str, int], np.ndarray]) -> list[Depth]:
    """The figures of every depth. codes (I, L, M); counts: of `codebooks`."""
    found, above, books = [], np.array([len(codes)]), codebook_figures(counts)
    for depth, sizes in enumerate(prefix_sizes(codes), 1):
        times = np.bincount(sizes)
        children = _children(above, sizes)
        found.append(
            Depth(
                depth=depth, distinct=len(sizes), colliding_items=in_groups(sizes), largest=int(sizes.max(initial=0)),
                entropy=entropy(np.arange(len(times)), times), gini=gini(np.arange(1, len(times)), times[1:]),
                mean_children=float(children.mean()) if len(children) else 0.0,
                max_children=int(children.max(initial=0)),
                usage={book.signal: book.in_use for book in books if book.level == depth},
                perplexity={book.signal: book.perplexity for book in books if book.level == depth},
            )
        )  # fmt: skip
        above = sizes
    return found


def codebook_figures(counts: dict[tuple[str, int], np.ndarray]) -> list[Codebook]:
    """The figures of every codebook. counts: of `codebooks`."""
    return [codebook(each, signal=signal, level=level) for (signal, level), each in counts.items()]


def _children(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Number of groups of `below` in each group of `above`; both are sizes of groups of the same sorted items."""
    return np.diff(np.searchsorted(np.cumsum(below), np.cumsum(above)) + 1, prepend=0)


def largest_groups(codes: np.ndarray, count: int) -> list[np.ndarray]:
    """Item rows of the `count` largest groups that share an ID; largest first, then by code. codes (I, L, M)."""
    token, sharing = group_codes(codes)
    order = np.argsort(-sharing, kind="stable")[:count]
    return [np.flatnonzero(token == group) for group in order if sharing[group] > 1]
