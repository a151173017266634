"""Which items can not be told apart by their semantic IDs, and how much of the codebooks is used.

Shapes: I items, L levels, M signals. Everything is sorted once a level, so millions of items are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bbqrec_cli.hdf5 import group_codes


@dataclass(frozen=True, kw_only=True)
class Depth:
    """The first `depth` levels of all IDs.

    distinct: different prefixes; colliding_items: items that share theirs with another one; largest: the most items
    that share one; usage, perplexity: signal -> codes in use and their perplexity at level `depth` alone.
    """

    depth: int
    distinct: int
    colliding_items: int
    largest: int
    usage: dict[str, int]
    perplexity: dict[str, float]


def prefixes(codes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every depth from 1 to L: token (I,) of each item's prefix, and how many items share it (distinct,).

    A prefix is that of the level above and one level more, so each level sorts M + 1 columns and no more.

    Args:
        codes: (I, L, M) integers.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    token = np.zeros(len(codes), dtype=np.int64)
    for level in range(codes.shape[1]):
        token, sharing = group_codes(np.column_stack([token, codes[:, level].astype(np.int64)]))
        found.append((token, sharing))
    return found


def perplexity(codes: np.ndarray) -> float:
    """exp(entropy) of the codes (I,) in use: as many codes as would, used alike, say as much. 0 without items."""
    counts = np.bincount(codes)
    share = counts[counts > 0] / max(1, len(codes))
    return float(np.exp(-(share * np.log(share)).sum())) if len(codes) else 0.0


def depths(codes: np.ndarray, modalities: tuple[str, ...]) -> list[Depth]:
    """The figures of every depth. codes (I, L, M), modalities: M names."""
    found = []
    for level, (_, sharing) in enumerate(prefixes(codes)):
        signals = {name: codes[:, level, signal] for signal, name in enumerate(modalities)}
        found.append(
            Depth(
                depth=level + 1,
                distinct=len(sharing),
                colliding_items=int(sharing[sharing > 1].sum()),
                largest=int(sharing.max(initial=0)),
                usage={name: len(np.unique(values)) for name, values in signals.items()},
                perplexity={name: perplexity(values) for name, values in signals.items()},
            )
        )
    return found


def largest_groups(codes: np.ndarray, count: int) -> list[np.ndarray]:
    """Item rows of the `count` largest groups that share a whole ID, largest first, then by code. codes (I, L, M)."""
    token, sharing = group_codes(codes)
    order = np.argsort(-sharing, kind="stable")[:count]
    return [np.flatnonzero(token == group) for group in order if sharing[group] > 1]
