"""Policies for items that share a whole semantic ID. I items, L levels, M signals, N codes, D width of a code."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from bbqrec_cli.errors import UsageError
from bbqrec_cli.grouping import count_colliding_items, group_codes, shared_groups
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import Codes
from bbqrec_cli.tokenizers.base import Tokenized
from bbqrec_cli.tokenizers.quantization.sinkhorn import assign_by_share, chosen_again

LARGEST_GROUP = 1 << 16
"""Codes are 16 bits wide."""
MOVING_POLICIES = ("nearest", "sinkhorn", "regroup")
"""The policies that move items, for which they need latents."""
ROUNDS = 20
"""Rounds of `sinkhorn`, of which there are usually two or three, and of `regroup`, at most."""


def resolve_collisions(made: Tokenized, policy: str, *, frozen: int = 0) -> Codes:
    """The final codes. No policy but `regroup` can increase the number of collisions.

    `nearest`: see `nearest_free`. `sinkhorn`: see `sinkhorn_free`. `regroup`: see `regrouped`. `suffix` (TIGER): see
    `with_suffix`.

    `share`: codes stay; ranking orders such items by their rows.

    Args:
        made: its latents are those of the items that may move, the rows from `frozen` on; they may be None if the
            policy is none of `MOVING_POLICIES`.
        policy: one of the above.
        frozen: number of first items that keep their IDs in any case.

    Raises:
        UsageError: more items share an ID than a code can count; a level would be added to frozen IDs.
    """
    if policy == "share" or not (count_colliding_items(made.codes.codes) or (frozen and policy == "suffix")):
        return made.codes
    if policy == "suffix":
        return with_suffix(made.codes, frozen)
    if made.latents is None or made.codes.codebooks is None:
        return made.codes
    ids = MovableIDs(made, frozen)
    {"nearest": nearest_free, "sinkhorn": sinkhorn_free, "regroup": regrouped}[policy](ids)
    return dataclasses.replace(made.codes, codes=ids.values, item_vectors=ids.vectors)


def with_suffix(codes: Codes, frozen: int) -> Codes:
    """Add a level that counts the items of each group from 0, in the order of their rows; its other signals hold 0.

    No level is added if nothing collides. Codebooks and item vectors do not change. With `frozen` items the level may
    exist already (without a codebook); they keep their numbers, also shared ones, and the other items continue from the
    highest of their group.
    """
    there = codes.quantised_levels < codes.levels
    plain = codes.codes[:, : codes.quantised_levels]
    token, sharing = group_codes(plain)
    if frozen and not there and (sharing[token] > 1)[frozen:].any():
        raise UsageError(
            "--on-collision suffix: new items share IDs, and the old IDs have no suffix level; "
            "adding one would change all of them",
            "--on-collision nearest",
        )
    if frozen and not there:
        return codes
    following = np.zeros(len(sharing), dtype=np.int64)  # the next number of each group
    np.maximum.at(following, token[:frozen], codes.codes[:frozen, -1, 0] + np.int64(1))
    number = following[token[frozen:]] + _place_in_group(token[frozen:], len(sharing))
    count = int(number.max(initial=-1)) + 1
    if frozen and count > codes.codebook_size:
        raise UsageError(
            f"--on-collision suffix: the new items need {count:,} numbers for one ID, and the old IDs have codes for "
            f"{codes.codebook_size:,}; a model that was trained on them could not tell the others apart",
            "--on-collision nearest",
        )
    if count > LARGEST_GROUP:
        raise UsageError(
            f"{count:,} items share one ID, and --on-collision suffix counts up to {LARGEST_GROUP:,}",
            "--on-collision share, more --levels or a larger --codebook-size",
        )
    suffix = np.zeros((len(token), 1, plain.shape[2]), dtype=np.uint16)
    suffix[:frozen], suffix[frozen:, 0, 0] = codes.codes[:frozen, -1:], number
    size = max(codes.codebook_size, count)
    numbered = np.concatenate([plain, suffix], axis=1)
    return dataclasses.replace(codes, codes=numbered, codebook_size=size, suffix=True)


def _place_in_group(token: np.ndarray, groups: int) -> np.ndarray:
    """(n,) int64: how many items of its group precede each item. token (n,), the number of its group."""
    order, sizes = np.argsort(token, kind="stable"), np.bincount(token, minlength=groups)
    place = np.empty(len(token), dtype=np.int64)
    place[order] = np.arange(len(token)) - (np.cumsum(sizes) - sizes)[token[order]]
    return place


class MovableIDs:
    """The IDs of all items while a policy moves some: which IDs are in use, and what a move costs.

    A move changes one signal's code at the last level. Its cost is the increase in the squared distance between the
    residual and its code (eq. 5). `vectors` follow the codes.
    """

    def __init__(self, made: Tokenized, frozen: int) -> None:
        codes, latents, books = made.codes, made.latents, made.codes.codebooks
        assert latents is not None
        assert books is not None
        self.values, self.latents, self.books, self.frozen = codes.codes.copy(), latents, books, frozen
        self.level = books.shape[1] - 1
        self.vectors = None if codes.item_vectors is None else codes.item_vectors.copy()
        self.present = np.ones(self.values[:, 0].shape, dtype=bool) if codes.present is None else codes.present
        self.owners = Counter(map(bytes, self.values))

    def distances(self, row: int) -> np.ndarray:
        """Of an item's residuals from the last level's codes, (M, N); see `last_level_distances`."""
        return last_level_distances(
            self.latents[row - self.frozen], self.values[row, : self.level], self.books, self.present[row]
        )

    def costs(self, row: int) -> np.ndarray:
        """Costs of an item's moves, (M, N): what they add to the squared error; inf for an absent signal."""
        distances = self.distances(row)
        current = distances[np.arange(len(distances)), self.values[row, self.level]]
        return distances - np.where(self.present[row], current, 0)[:, None]

    def changed(self, row: int, signal: int, code: int) -> np.ndarray:
        """The item's ID (L, M) after a move."""
        wanted = self.values[row].copy()
        wanted[self.level, signal] = code
        return wanted

    def free(self, row: int, signal: int, code: int) -> bool:
        """Whether no item has the ID that the item would have after a move."""
        return not self.owners[self.changed(row, signal, code).tobytes()]

    def move(self, row: int, signal: int, code: int) -> None:
        """Move an item to another ID."""
        self.owners[self.values[row].tobytes()] -= 1
        self.values[row] = self.changed(row, signal, code)
        self.owners[self.values[row].tobytes()] += 1
        if self.vectors is not None:
            own, chosen = self.books[min(signal, len(self.books) - 1)], self.values[row, : self.level + 1, signal]
            # Recomputed, so that they equal the codes' sums to the last bit (eq. 7).
            parts = self.vectors[row].reshape(self.values.shape[2], -1)
            parts[signal] = own[np.arange(self.level + 1), chosen].sum(0)

    def groups(self) -> list[np.ndarray]:
        """The rows that share an ID, one array per ID, in the order of the IDs."""
        return shared_groups(self.values)


def nearest_free(ids: MovableIDs) -> None:
    """Of items that share an ID, the first that cannot move keeps it, or else the one with the lowest row; each other
    one makes the cheapest move to a free ID. An item without a free ID keeps its own."""
    movable = ids.present.any(1) & (np.arange(len(ids.values)) >= ids.frozen)
    later = [np.delete(rows, np.argmin(movable[rows])) for rows in ids.groups()]
    for row in np.sort(np.concatenate([*later, np.empty(0, dtype=np.int64)])):
        if not movable[row]:
            continue
        costs = ids.costs(row)
        for place in np.argsort(costs, axis=None, kind="stable"):
            signal, code = divmod(int(place), costs.shape[1])
            if np.isfinite(costs[signal, code]) and ids.free(row, signal, code):
                ids.move(row, signal, code)
                break


def sinkhorn_free(ids: MovableIDs) -> None:
    """Reassign the last level's codes of all items that share an ID at once, by Sinkhorn–Knopp with uniform marginals
    on the free codes (`assign_by_share`).

    With several signals, a group changes one signal per round: the one that tells most of its items apart, and among
    these the cheapest. An item without a free code keeps its ID; the next round may try another signal. Rounds end when
    no ID is shared or no item moves.
    """
    for _ in range(ROUNDS):
        moved = [_move_group(ids, rows) for rows in ids.groups()]
        if not any(moved):
            break


def _move_group(ids: MovableIDs, rows: np.ndarray) -> bool:
    """Move the items of one group; returns whether any moved."""
    costs = {int(row): ids.costs(row) for row in rows if row >= ids.frozen}
    best: tuple[tuple[int, float], int, dict[int, int]] | None = None  # (rank, signal, row -> code)
    for signal in range(ids.values.shape[2]):
        moving = [row for row, own in costs.items() if np.isfinite(own[signal, 0])]
        if not moving:
            continue
        current, keep = int(ids.values[moving[0], ids.level, signal]), len(moving) == len(rows)
        size = ids.books.shape[2]
        codes = [c for c in range(size) if (keep if c == current else ids.free(moving[0], signal, c))]
        table = np.stack([costs[row][signal, codes] for row in moving])
        given = assign_by_share(table)
        chosen = {row: codes[place] for row, place in zip(moving, given, strict=True) if place >= 0}
        rank = (-len(chosen), float(sum(costs[row][signal, code] for row, code in chosen.items())))
        if any(code != current for code in chosen.values()) and (best is None or rank < best[0]):
            best = (rank, signal, chosen)
    if best is None:
        return False
    _, signal, chosen = best
    for row, code in chosen.items():
        if code != ids.values[row, ids.level, signal]:
            ids.move(row, signal, code)
    return True


def regrouped(ids: MovableIDs) -> None:
    """Items that share an ID choose the code of their last level again, together (`chosen_again`), whichever items have
    it: what the published programs of LC-Rec and LETTER do (`generate_indices.py`), which have one signal. Of several
    signals each chooses on its own. An item that shares its ID with old ones alone keeps it.

    Rounds end when no ID is shared, no item moves, or after `ROUNDS`. Items can come to share an ID with others.
    """
    for _ in range(ROUNDS):
        before = ids.values.copy()
        for rows in ids.groups():
            distances = {int(row): ids.distances(row) for row in rows if row >= ids.frozen}
            for signal in range(ids.values.shape[2]):
                moving = [row for row in distances if ids.present[row, signal]]
                if len(moving) > 1:
                    codes = chosen_again(np.stack([distances[row][signal] for row in moving]))
                    for row, code in zip(moving, codes, strict=True):
                        ids.move(row, signal, int(code))
        if (ids.values == before).all():
            break


def last_level_distances(latent: np.ndarray, codes: np.ndarray, books: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(M, N): squared distances of the residuals from the codes of the last level; inf for an absent signal.

    latent (M, D), codes (L - 1, M) of the levels before, books (1 or M, L, N, D), present (M,) bool.
    """
    found = np.full((len(latent), books.shape[2]), np.inf)
    for signal in np.flatnonzero(present):
        own = books[min(int(signal), len(books) - 1)]
        residual = latent[signal] - own[np.arange(len(own) - 1), codes[:, signal]].sum(0)
        found[signal] = np.square(residual - own[-1]).sum(1)
    return found


def warn_of_shared(codes: Codes, policy: str, progress: Progress, *, frozen: int = 0) -> int:
    """The number of items that share an ID, with a warning if a policy that resolves collisions left some of those that
    it may move, the rows from `frozen` on."""
    token, sharing = group_codes(codes.codes)
    shared = sharing[token] > 1
    every, shared[:frozen] = int(shared.sum()), False
    left = int(shared.sum())
    if left and policy != "share":
        why = "does not tell all apart" if policy == "regroup" else "found no free ID for them"
        if policy in MOVING_POLICIES and codes.codebooks is None:
            why = f"needs codebooks, which IDs by {codes.method} lack; --on-collision suffix tells them apart"
        empty = 0 if codes.present is None else int((shared & ~codes.present.any(1)).sum())
        if empty:
            none = f"none of {', '.join(codes.modalities)}"
            some = f"{why}; {empty:,} of them have {none}, and no item without content is moved"
            why = f"moves no item without content, and they have {none}" if empty == left else some
            fixed = frozen and codes.quantised_levels == codes.levels  # the old IDs have no level that counts
            new = "all items tokenized again with --on-collision suffix have IDs of their own"
            tells = new if fixed else "--on-collision suffix tells them apart"
            why += "" if "suffix" in (policy, *why.split()) else f"; {tells}"
        items = f"{'new ' if frozen else ''}{'items still share' if left > 1 else 'item still shares'}"
        progress.warn(f"{left:,} {items} an ID: --on-collision {policy} {why}")
    return every
