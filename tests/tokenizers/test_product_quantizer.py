from __future__ import annotations

import faiss
import numpy as np
import pytest

from bbqrec_cli.data.features import standardized
from bbqrec_cli.errors import UsageError
from bbqrec_cli.records import Feature
from bbqrec_cli.tokenizers.base import TokenizerInput
from bbqrec_cli.tokenizers.methods.pq import OPQ, PQ, rotation
from bbqrec_cli.tokenizers.options.opq import OPQConfig
from bbqrec_cli.tokenizers.options.pq import PQConfig
from bbqrec_cli.tokenizers.registry import tokenizer_config
from bbqrec_cli.training.trainer import RunSettings


@pytest.fixture
def inputs(correlated_text) -> TokenizerInput:
    """300 items with a text of width 12 whose columns hang together across the parts; item 7 has none."""
    return correlated_text(300, 12, rank=5, noise=0.2, lacking=7)


def fit(config, inputs: TokenizerInput):
    return (OPQ if isinstance(config, OPQConfig) else PQ)(config).fit(inputs, RunSettings())


def config(cls=PQConfig, **options):
    return cls(**{"levels": 3, "codebook_size": 16, "dim": 0} | options)


def faiss_codes(books: np.ndarray, turn: np.ndarray, values: np.ndarray) -> np.ndarray:
    """faiss's own product quantiser with our centroids. books (L, N, D), turn (D', D)."""
    levels, size, _ = books.shape
    theirs = faiss.ProductQuantizer(len(turn), levels, int(np.log2(size)))
    parts = (books @ turn.T).reshape(levels, size, levels, -1)
    centroids = np.stack([parts[level, :, level] for level in range(levels)])
    faiss.copy_array_to_vector(np.ascontiguousarray(centroids, dtype=np.float32).ravel(), theirs.centroids)
    packed = theirs.compute_codes(np.ascontiguousarray(values @ turn.T, dtype=np.float32))
    bits = np.unpackbits(packed, axis=1, bitorder="little")[:, : levels * 4].reshape(len(values), levels, 4)
    return bits @ (1 << np.arange(4))


def error(made) -> float:
    return float(np.square(made.latents[:, 0] - made.codes.item_vectors)[np.arange(300) != 7].sum())


def test_pq_has_faiss_codes(inputs):
    made, values = fit(config(), inputs), standardized(inputs.features["text"])
    books = made.codes.codebooks[0]
    np.testing.assert_array_equal(made.codes.codes[:, :, 0], faiss_codes(books, np.eye(12, dtype=np.float32), values))
    for level in range(3):
        assert not np.delete(books[level], np.arange(4 * level, 4 * level + 4), axis=1).any(), "zero outside its part"


def test_pq_is_as_good_as_faiss(inputs):
    values = standardized(inputs.features["text"])
    theirs = faiss.ProductQuantizer(12, 3, 4)
    theirs.train(values)
    expected = np.square(values - theirs.decode(theirs.compute_codes(values))).sum()
    assert error(fit(config(), inputs)) == pytest.approx(expected, rel=0.1)


def test_opq_turns_and_has_faiss_codes(inputs):
    plain, made, values = fit(config(), inputs), fit(config(OPQConfig), inputs), standardized(inputs.features["text"])
    turn = rotation(np.ascontiguousarray(values[np.arange(300) != 7]), config(OPQConfig), seed=0)
    np.testing.assert_allclose(turn @ turn.T, np.eye(12), atol=1e-4)
    np.testing.assert_array_equal(made.codes.codes[:, :, 0], faiss_codes(made.codes.codebooks[0], turn, values))
    assert error(made) < 0.9 * error(plain), "what the rotation is for"
    np.testing.assert_array_equal(made.codes.codes, fit(config(OPQConfig), inputs).codes.codes)
    assert not np.allclose(turn, rotation(values, config(OPQConfig), seed=1)), "the seed counts"


@pytest.mark.parametrize("cls", [PQConfig, OPQConfig])
@pytest.mark.parametrize(("levels", "size"), [(5, 12), (1, 3), (8, 300)])
def test_parts_that_are_not_alike(inputs, cls, levels, size):
    """12 columns in 5 parts, codebooks of no power of two, more codes than items."""
    made = fit(config(cls, levels=levels, codebook_size=size), inputs)
    assert made.codes.codes.shape == (300, levels, 1)
    assert made.codes.codebooks.shape == (1, levels, size, 12)
    assert error(made) < np.square(made.latents).sum()


@pytest.mark.parametrize("levels", [5, 7, 8])
def test_the_rotation_loses_no_direction(inputs, levels):
    """Where the levels do not divide the 12 columns, too."""
    assert error(fit(config(OPQConfig, levels=levels), inputs)) < error(fit(config(levels=levels), inputs))


@pytest.mark.parametrize("name", ["pq", "opq"])
def test_many_parts_are_allowed(name, correlated_text):
    """VQ-Rec has 32."""
    wide = tokenizer_config(name, {"levels": 32, "codebook_size": 4, "dim": 0})
    assert fit(wide, correlated_text(300, 40, rank=5, noise=0.2, lacking=7)).codes.codes.shape == (300, 32, 1)
    with pytest.raises(UsageError, match="it must be 1 to 64"):
        tokenizer_config(name, {"levels": 65})


def test_parts_may_not_be_empty(inputs):
    with pytest.raises(UsageError, match="--levels is 3, but the vectors have only 2 columns"):
        fit(config(dim=2), inputs)


def test_a_single_item_with_content(inputs):
    feature = inputs.features["text"]
    one = Feature(values=feature.values, present=np.arange(300) == 7)
    lonely = TokenizerInput(item_ids=inputs.item_ids, features={"text": one}, train=inputs.train)
    assert fit(config(OPQConfig), lonely).codes.codes.shape == (300, 3, 1)


@pytest.mark.parametrize("count", [2, 5, 8])
def test_faiss_gets_as_many_vectors_as_columns(monkeypatch, count):
    """With fewer it writes where it must not. What is learnt is a rotation all the same."""
    vectors, seen = np.random.default_rng(0).standard_normal((count, 8)).astype(np.float32), []
    train = faiss.OPQMatrix.train

    def spy(self, x):
        seen.append(x)
        return train(self, x)

    monkeypatch.setattr(faiss.OPQMatrix, "train", spy)
    turn = rotation(vectors, config(OPQConfig), seed=0)
    np.testing.assert_allclose(turn.T @ turn, np.eye(8), atol=1e-5)
    assert len(seen[0]) >= 8
    _, times = np.unique(seen[0], axis=0, return_counts=True)
    assert len(times) == count
    assert len(set(times)) == 1, "none counts more than another"
