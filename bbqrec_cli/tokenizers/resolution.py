"""What to do with items that share a whole semantic ID. I items, L levels, M signals, N codes, D width."""

from __future__ import annotations

import dataclasses

import numpy as np

from bbqrec_cli.errors import UsageError
from bbqrec_cli.hdf5 import group_codes
from bbqrec_cli.records import Codes
from bbqrec_cli.tokenizers.base import Tokenized

LARGEST_GROUP = 1 << 16
"""Codes are 16 bits wide."""


def resolve(made: Tokenized, policy: str) -> Codes:
    """The codes that are written.

    `nearest`: see `nearest_free`.

    `share`: as they are; ranking keeps such items apart in the order of their rows.

    `suffix` (TIGER): one more level counts the items of each group from 0 in the order of their rows; its other signals
    hold 0, and no level is added where nothing collides. Codebooks and item vectors stay as they are.

    Raises:
        UsageError: more items share an ID than a code can count.
    """
    codes = made.codes
    token, sharing = group_codes(codes.codes)
    if policy == "share" or sharing.max(initial=0) <= 1:
        return codes
    if policy == "nearest":
        return nearest_free(made)
    if sharing.max() > LARGEST_GROUP:
        raise UsageError(
            f"{sharing.max():,} items share one ID, and --on-collision suffix counts up to {LARGEST_GROUP:,}",
            "--on-collision share, more --levels or a larger --codebook-size",
        )
    order = np.argsort(token, kind="stable")
    first = np.cumsum(sharing) - sharing
    place = np.empty(len(token), dtype=np.uint16)
    place[order] = np.arange(len(token)) - first[token[order]]
    suffix = np.zeros((len(token), 1, codes.codes.shape[2]), dtype=np.uint16)
    suffix[:, 0, 0] = place
    size = max(codes.codebook_size, int(sharing.max()))
    return dataclasses.replace(codes, codes=np.concatenate([codes.codes, suffix], axis=1), codebook_size=size)


def nearest_free(made: Tokenized) -> Codes:
    """Of items that share an ID, the first in the order of the rows keeps it; each other one changes one signal's code
    of the last level to the code that costs least and makes its ID its own.

    The cost of a change is what it adds to the squared distance between the residual and its code (eq. 5). An item for
    which no code is free keeps what it has, and so do all where codes did not come of vectors. `item_vectors` follow
    the codes.
    """
    codes, latents, books = made.codes, made.latents, made.codes.codebooks
    if latents is None or books is None:
        return codes
    values, level = codes.codes.copy(), books.shape[1] - 1
    vectors = None if codes.item_vectors is None else codes.item_vectors.copy()
    present = np.ones(latents.shape[:2], dtype=bool) if made.present is None else made.present
    taken = set(map(bytes, values))
    token, sharing = group_codes(values)
    seen: set[int] = set()
    for row in np.flatnonzero(sharing[token] > 1):
        if int(token[row]) not in seen:
            seen.add(int(token[row]))
            continue
        costs = last_level_costs(latents[row], values[row], books, present[row])
        for place in np.argsort(costs, axis=None, kind="stable"):
            signal, code = divmod(int(place), costs.shape[1])
            wanted = values[row].copy()
            wanted[level, signal] = code
            if np.isfinite(costs[signal, code]) and wanted.tobytes() not in taken:
                if vectors is not None:
                    own = books[min(signal, len(books) - 1)]
                    # Summed anew, so that they are the codes' sums to the last bit (eq. 7).
                    vectors[row].reshape(len(costs), -1)[signal] = own[np.arange(level + 1), wanted[:, signal]].sum(0)
                taken.add(wanted.tobytes())
                values[row] = wanted
                break
    return dataclasses.replace(codes, codes=values, item_vectors=vectors)


def last_level_costs(latent: np.ndarray, codes: np.ndarray, books: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(M, N): what each code of the last level would add to the squared error, inf for a signal that is not there.

    latent (M, D), codes (L, M), books (1 or M, L, N, D), present (M,) bool.
    """
    costs = np.full((len(latent), books.shape[2]), np.inf)
    for signal in np.flatnonzero(present):
        own = books[min(int(signal), len(books) - 1)]
        residual = latent[signal] - own[np.arange(len(own) - 1), codes[:-1, signal]].sum(0)
        distances = np.square(residual - own[-1]).sum(1)
        costs[signal] = distances - distances[codes[-1, signal]]
    return costs
