"""The ID signal of new items, against loops over the definition."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bbqrec_cli.records import Catalogue, Codes, Sequences, Tokens
from bbqrec_cli.tokenizers.assignment import new_items
from bbqrec_cli.tokenizers.assignment.blocks import encode_blocks
from bbqrec_cli.tokenizers.assignment.new_items import (
    FIT_ITEMS,
    encode_new,
    fit_of,
    id_of_neighbours,
    with_id_signals_of_cold_items,
)
from bbqrec_cli.tokenizers.base import Encoded, Tokenized

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


def test_a_users_only_interaction_trains_nothing():
    train = Sequences.from_lists([[0, 1], [2], [], [1, 3, 3]])
    assert new_items.warm_items(train).tolist() == [0, 1, 3]


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
    monkeypatch.setattr(new_items, "CELLS", cells)
    found = id_of_neighbours(old.codes, np.array(TAKEN), neighbours=neighbours, device=torch.device("cpu"))(new)
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
    last = old.catalogue.items

    def encode(features):
        return Encoded(**{name: getattr(new, name)[features["rows"]] for name in vars(new)})

    device = torch.device("cpu")

    def grown(neighbours: int, latents: bool = True) -> Tokenized:
        every = encode_new(encode, old.codes, fit_of(old)[FIT_ITEMS], neighbours=neighbours, device=device)
        return encode_blocks(old.codes, every, blocks, keep=last, items=last + 5, latents=latents)

    assert not grown(0).codes.present[last:, 1].any()
    once, parts = id_of_neighbours(old.codes, np.array(TAKEN), neighbours=3, device=device)(new), grown(3)
    np.testing.assert_array_equal(parts.codes.codes[:last], old.codes.codes)
    np.testing.assert_array_equal(parts.codes.codes[last:], once.codes)
    np.testing.assert_array_equal(parts.codes.item_vectors[:last], old.codes.item_vectors)
    np.testing.assert_allclose(parts.codes.item_vectors[last:], once.vectors, rtol=1e-5)
    np.testing.assert_array_equal(parts.codes.present, np.concatenate([old.codes.present, once.present]))
    np.testing.assert_allclose(parts.latents, once.latents, rtol=1e-5)
    assert grown(3, latents=False).latents is None


def test_nobody_to_take_it_from(old):
    """No signal of that name, or no item that was taken."""
    names = dataclasses.replace(old.codes, modalities=("text", "sound", "image"))
    device, taken = torch.device("cpu"), np.array(TAKEN)
    assert id_of_neighbours(names, taken, neighbours=3, device=device) is None
    assert id_of_neighbours(old.codes, taken[:0], neighbours=3, device=device) is None


@pytest.fixture(scope="module")
def fitted(old) -> Tokenized:
    """The old items as a fit leaves them; item 26 has no content, item 27 no image."""
    present = old.codes.present.copy()
    present[26, [0, 2]], present[27, 2] = False, False
    latents = RNG.standard_normal((ITEMS, 3, WIDTH)).astype(np.float32) * present[:, :, None]
    return Tokenized(codes=dataclasses.replace(old.codes, present=present), history=[], latents=latents)


def test_untaken_items_of_a_fit(fitted, old):
    """They get what they would get as new items; taken ones, and the one without content, stay as they are."""
    device, taken = torch.device("cpu"), np.array(TAKEN)
    rows = np.array([24, 25, 27, 28, 29])
    found = with_id_signals_of_cold_items(fitted, taken, neighbours=3, device=device)
    latents, present = fitted.latents[rows].copy(), fitted.codes.present[rows].copy()
    latents[:, 1], present[:, 1] = 0, False
    new = Encoded(codes=fitted.codes.codes[rows], latents=latents, vectors=latents.reshape(5, -1), present=present)
    alone = id_of_neighbours(old.codes, taken, neighbours=3, device=device)(new)
    np.testing.assert_array_equal(found.codes.codes[rows], alone.codes)
    np.testing.assert_array_equal(found.codes.item_vectors[rows], alone.vectors)
    np.testing.assert_array_equal(found.latents[rows], alone.latents)
    assert found.codes.present[rows, 1].all()
    assert not np.array_equal(found.latents[rows, 1], fitted.latents[rows, 1])
    others = [*TAKEN, 26]
    for mine, before in (
        (found.codes.codes, fitted.codes.codes), (found.latents, fitted.latents),
        (found.codes.present, fitted.codes.present),
        (found.codes.item_vectors, fitted.codes.item_vectors),
    ):  # fmt: skip
        np.testing.assert_array_equal(mine[others], before[others])


def test_untaken_items_without_an_id_signal(fitted):
    found = with_id_signals_of_cold_items(fitted, np.array(TAKEN), neighbours=0, device=torch.device("cpu"))
    rows = [24, 25, 27, 28, 29]
    assert not found.codes.present[rows, 1].any()
    assert not found.codes.item_vectors.reshape(ITEMS, 3, WIDTH)[rows, 1].any()
    assert found.codes.present[26, 1]


def test_a_fit_without_ids_or_untaken_items_stays_as_it_is(fitted):
    names = dataclasses.replace(fitted.codes, modalities=("text", "sound", "image"))
    other, device = dataclasses.replace(fitted, codes=names), torch.device("cpu")
    assert with_id_signals_of_cold_items(other, np.array(TAKEN), neighbours=3, device=device) is other
    assert with_id_signals_of_cold_items(fitted, np.arange(ITEMS), neighbours=3, device=device) is fitted
