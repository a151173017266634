"""Residual k-means on content features: nothing is trained. n vectors, L levels, N codes, D width."""

from __future__ import annotations

import numpy as np

from bbqrec_cli.seeds import derive
from bbqrec_cli.tokenizers.additive_quantizer import AdditiveQuantizer
from bbqrec_cli.tokenizers.balanced import balanced_assignment, balanced_kmeans
from bbqrec_cli.tokenizers.base import RunSettings
from bbqrec_cli.tokenizers.configs import RQKMeansConfig
from bbqrec_cli.tokenizers.kmeans import residual_codes, residual_kmeans


class RQKMeans(AdditiveQuantizer):
    """Level by level, k-means of what the levels above leave over; see `RQKMeansConfig` for its options.

    Balanced: `balanced.py` says how. Its codes are not always the nearest ones.
    """

    config: RQKMeansConfig

    def learn(self, vectors: np.ndarray, run: RunSettings) -> tuple[np.ndarray, np.ndarray]:
        """See `AdditiveQuantizer.learn`."""
        config = self.config
        learn = balanced_residual_kmeans if config.balanced else plain_residual_kmeans
        return learn(
            vectors, levels=config.levels, codes=config.codebook_size, seed=run.seed, sample=config.kmeans_sample
        )


def plain_residual_kmeans(
    vectors: np.ndarray, *, levels: int, codes: int, seed: int, sample: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codebooks (L, N, D) and codes (n, L) of vectors (n, D): the nearest at every level."""
    books = residual_kmeans(vectors, levels=levels, codes=codes, seed=seed, sample=sample)
    return books, residual_codes(vectors, books)


def balanced_residual_kmeans(
    vectors: np.ndarray, *, levels: int, codes: int, seed: int, sample: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same, but every code of a level is for ⌊n/N⌋ or ⌈n/N⌉ of the vectors."""
    residual, books = vectors.astype(np.float32, copy=True), []
    chosen = np.empty((len(vectors), levels), dtype=np.int64)
    for level in range(levels):
        books.append(balanced_kmeans(residual, codes=codes, seed=derive(seed, "level", level), sample=sample))
        chosen[:, level] = balanced_assignment(residual, books[-1])
        residual -= books[-1][chosen[:, level]]
    return np.stack(books), chosen
