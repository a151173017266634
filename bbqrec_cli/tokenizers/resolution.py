"""What to do with items that share a whole semantic ID. I items, L levels, M signals."""

from __future__ import annotations

import dataclasses

import numpy as np

from bbqrec_cli.errors import UsageError
from bbqrec_cli.hdf5 import group_codes
from bbqrec_cli.records import Codes

LARGEST_GROUP = 1 << 16
"""Codes are 16 bits wide."""


def resolve(codes: Codes, policy: str) -> Codes:
    """`share`: as they are; ranking keeps such items apart in the order of their rows.

    `suffix` (TIGER): one more level counts the items of each group from 0 in the order of their rows; its other signals
    hold 0, and no level is added where nothing collides. Codebooks and item vectors stay as they are.

    Raises:
        UsageError: more items share an ID than a code can count.
    """
    token, sharing = group_codes(codes.codes)
    if policy == "share" or sharing.max(initial=0) <= 1:
        return codes
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
