"""The ID signal of new items, against loops over the definition."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bbqrec_cli.records import Catalogue, Codes, Sequences, Tokens
from bbqrec_cli.tokenizers import growth
from bbqrec_cli.tokenizers.base import Encoded
from bbqrec_cli.tokenizers.growth import encode_new, id_of_neighbours

RNG = np.random.default_rng(3)
ITEMS, WIDTH = 30, 4
TAKEN = tuple(range(0, 24))
"""Items with a training interaction; 24 to 26 are only validation and test items, nobody took the others."""


@pytest.fixture(scope="module")
def old() -> Tokens:
    """Signals text, id, image (the order does not matter); item 5 has no text, item 6 no image."""
    books = RNG.standard_normal((1, 2, 64, WIDTH)).astype(np.float32) * np.array([1, 0.3])[:, None, None]
    books = books.astype(np.float32)
    values = RNG.integers(64, size=(ITEMS, 2, 3)).astype(np.uint16)
    present = np.ones((ITEMS, 3), dtype=bool)
    present[5, 0], present[6, 2] = False, False
    vectors = (books[0, 0][values[:, 0]] + books[0, 1][values[:, 1]]) * present[:, :, None]
    catalogue = Catalogue(
        user_ids=["a"], item_ids=[f"i{i}" for i in range(ITEMS)], titles=[""] * ITEMS,
        sequences=Sequences.from_lists([[*TAKEN, 24, 25]]),
    )  # fmt: skip
    codes = Codes(
        codes=values, modalities=("text", "id", "image"), method="bbqrec", codebook_size=64, codebooks=books,
        item_vectors=vectors.reshape(ITEMS, -1), present=present,
    )  # fmt: skip
    return Tokens(catalogue=catalogue, codes=codes)


@pytest.fixture(scope="module")
def new() -> Encoded:
    """Five items: all there, no image, no text, neither, all there. The ID is absent."""
    present = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0], [1, 0, 1]], dtype=bool)
    latents = (RNG.standard_normal((5, 3, WIDTH)) * present[:, :, None]).astype(np.float32)
    return Encoded(
        codes=np.zeros((5, 2, 3), dtype=np.uint16), latents=latents, vectors=np.zeros((5, 12), dtype=np.float32),
        present=present,
    )  # fmt: skip


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths else 0.0


def expected(old: Tokens, item: np.ndarray, neighbours: int) -> np.ndarray:
    """The mean ID vector of the old items that were taken and are most alike in text and image."""
    vectors = old.codes.item_vectors.reshape(ITEMS, 3, WIDTH)
    likeness = {row: cosine(item[0], vectors[row, 0]) + cosine(item[2], vectors[row, 2]) for row in TAKEN}
    nearest = sorted(likeness, key=likeness.__getitem__, reverse=True)[:neighbours]
    return np.mean([vectors[row, 1] for row in nearest], axis=0)


@pytest.mark.parametrize("neighbours", [1, 3, 24, 100])
@pytest.mark.parametrize("cells", [1, 1 << 26])
def test_the_mean_of_the_nearest(old, new, neighbours, cells, monkeypatch):
    monkeypatch.setattr(growth, "CELLS", cells)
    found = id_of_neighbours(old, neighbours=neighbours, device=torch.device("cpu"))(new)
    length = np.mean([np.linalg.norm(v) for v in old.codes.item_vectors.reshape(ITEMS, 3, WIDTH)[list(TAKEN), 1]])
    for row in (0, 1, 2, 4):
        mean = expected(old, new.latents[row], neighbours)
        np.testing.assert_allclose(found.latents[row, 1], mean / np.linalg.norm(mean) * length, rtol=1e-4, atol=1e-6)
        first = np.square(old.codes.codebooks[0, 0] - found.latents[row, 1]).sum(1).argmin()
        assert found.codes[row, 0, 1] == first
    assert found.present[:, 1].tolist() == [True, True, True, False, True], "nothing is like an item without content"
    assert not found.latents[3].any()
    assert not found.vectors[3].any()
    assert not new.latents[:, 1].any(), "the input stays as it is"
    np.testing.assert_array_equal(found.latents[:, [0, 2]], new.latents[:, [0, 2]])


def test_absent_and_in_blocks(old, new):
    cut = [slice(0, 2), slice(2, 5)]
    blocks = [{"rows": part} for part in cut]

    def encode(features):
        return Encoded(**{name: getattr(new, name)[features["rows"]] for name in vars(new)})

    device = torch.device("cpu")
    assert not encode_new(encode, blocks, old, neighbours=0, device=device).present[:, 1].any()
    once = id_of_neighbours(old, neighbours=3, device=device)(new)
    parts = encode_new(encode, blocks, old, neighbours=3, device=device)
    for name in ("codes", "present"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(once, name))


def test_nobody_to_take_it_from(old):
    """No signal of that name, or no item that was taken."""
    names = dataclasses.replace(old.codes, modalities=("text", "sound", "image"))
    device = torch.device("cpu")
    assert id_of_neighbours(dataclasses.replace(old, codes=names), neighbours=3, device=device) is None
    idle = dataclasses.replace(old.catalogue, sequences=Sequences.from_lists([[]]))
    assert id_of_neighbours(dataclasses.replace(old, catalogue=idle), neighbours=3, device=device) is None
