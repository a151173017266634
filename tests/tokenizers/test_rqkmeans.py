from __future__ import annotations

import numpy as np
import pytest
import torch

from bbqrec_cli.data.features import standardized
from bbqrec_cli.errors import UsageError
from bbqrec_cli.records import Feature
from bbqrec_cli.tokenizers.base import TokenizerInput
from bbqrec_cli.tokenizers.methods.rqkmeans import RQKMeans
from bbqrec_cli.tokenizers.options.rqkmeans import RQKMeansConfig
from bbqrec_cli.tokenizers.quantization.kmeans import residual_kmeans
from bbqrec_cli.training.trainer import RunSettings


@pytest.fixture
def inputs(correlated_text) -> TokenizerInput:
    """200 items with a text of width 10; item 5 has none."""
    return correlated_text(200, 10, rank=4, noise=0.3, lacking=5)


def fit(inputs: TokenizerInput, **options):
    return RQKMeans(RQKMeansConfig(**{"levels": 2, "codebook_size": 16, "dim": 0} | options)).fit(inputs, RunSettings())


def greedy(vectors: np.ndarray, books: np.ndarray) -> np.ndarray:
    """Eq. 5 and 6 as they stand."""
    residual, codes = vectors.astype(np.float64), []
    for book in books:
        codes.append(((residual[:, None] - book) ** 2).sum(2).argmin(1))
        residual = residual - book[codes[-1]]
    return np.stack(codes, axis=1)


def test_codes_are_the_nearest_by_residual_kmeans(inputs):
    made, values = fit(inputs), standardized(inputs.features["text"])
    books = residual_kmeans(values[np.arange(200) != 5], levels=2, codes=16, seed=0)
    np.testing.assert_array_equal(made.codes.codebooks[0], books)
    np.testing.assert_array_equal(made.codes.codes[:, :, 0], greedy(values, books))
    assert made.codes.item_vectors.shape == (200, 10)
    assert not made.codes.item_vectors[5].any()
    error = np.square(made.latents[:, 0] - made.codes.item_vectors).sum()
    assert error < 0.25 * np.square(values).sum()


def test_principal_directions(inputs):
    """The same subspace as numpy's SVD finds; new items are projected by what the file keeps."""
    made, values = fit(inputs, dim=3), standardized(inputs.features["text"])
    _, _, directions = np.linalg.svd(values.astype(np.float64), full_matrices=False)
    found = made.latents[:, 0]
    np.testing.assert_allclose(np.abs(found), np.abs(values @ directions[:3].T), atol=1e-3)
    again = RQKMeans(RQKMeansConfig(dim=3)).restore(made.codes, made.encoder, torch.device("cpu"))(inputs.features)
    np.testing.assert_array_equal(again.codes, made.codes.codes)
    np.testing.assert_array_equal(again.vectors, made.codes.item_vectors)


def test_equal_items_have_equal_codes_in_whatever_company(correlated_text):
    """Where codebooks go as deep as the last bits of a projection."""
    inputs = correlated_text(60, 64, rank=64, noise=1.0, lacking=-1)
    text = inputs.features["text"]
    text.values[45:] = text.values[:15]
    made = fit(inputs, dim=32, levels=4, codebook_size=32)
    np.testing.assert_array_equal(made.codes.codes[45:], made.codes.codes[:15])
    encode = RQKMeans(RQKMeansConfig(dim=32)).restore(made.codes, made.encoder, torch.device("cpu"))
    for some in (1, 5, 30):
        again = encode({"text": Feature(values=text.values[:some], present=text.present[:some])})
        np.testing.assert_array_equal(again.codes, made.codes.codes[:some])


def test_more_directions_than_there_are(inputs):
    with pytest.raises(UsageError, match="--dim is 11, but the features have 10 columns"):
        fit(inputs, dim=11)


def test_balanced(inputs):
    """Sizes by level over the items that have content; vectors are still the sums of the codes."""
    made = fit(inputs, balanced=True)
    having = np.arange(200) != 5
    for level in range(2):
        assert set(np.bincount(made.codes.codes[having, level, 0], minlength=16)) == {12, 13}
    books, codes = made.codes.codebooks[0], made.codes.codes[:, :, 0].astype(int)
    np.testing.assert_array_equal(
        made.codes.item_vectors[having], (books[0][codes[:, 0]] + books[1][codes[:, 1]])[having]
    )
    nearest = greedy(made.latents[:, 0], books)
    assert (nearest[having] != codes[having]).any(), "not always the nearest"
    again = RQKMeans(RQKMeansConfig(balanced=True)).restore(made.codes, made.encoder, torch.device("cpu"))
    np.testing.assert_array_equal(again(inputs.features).codes[having, :, 0], nearest[having])
    np.testing.assert_array_equal(made.codes.codes, fit(inputs, balanced=True).codes.codes)
