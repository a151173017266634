"""Product quantisation (Jégou et al. 2011), plain or after a learnt rotation (OPQ, Ge et al. 2013), which is VQ-Rec's.

I items, n of them with content, D width of a vector, L parts of it, which are the levels of an ID, N codes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np

from bbqrec_cli.errors import UsageError, import_faiss
from bbqrec_cli.seeds import derive
from bbqrec_cli.tokenizers.methods.additive import AdditiveQuantizer
from bbqrec_cli.tokenizers.options._codebooks import KMeansConfig
from bbqrec_cli.tokenizers.quantization.kmeans import SAMPLE_PER_CODE, kmeans, residual_codes
from bbqrec_cli.training.trainer import RunSettings

LARGEST_BITS = 10
"""Of the codebooks with which the rotation is learnt: more would cost much and say little."""


class ProductQuantizer(AdditiveQuantizer):
    """Level l of an ID is the code of the l-th part of the (rotated) vector; PQ and OPQ differ in the rotation.

    The file's codebooks are written as for residual codes: each code as a vector of the full width, zero outside its
    part and turned back, so that an item's vector, the sum of its codes, is the reconstruction of its features, and the
    nearest code to what the levels above leave over is the nearest one in that part.
    """

    config: KMeansConfig
    rotated: ClassVar[bool]

    def learn(self, vectors: np.ndarray, run: RunSettings) -> tuple[np.ndarray, np.ndarray]:
        """See `AdditiveQuantizer.learn`. Raises: UsageError: there are more parts than columns."""
        config, width = self.config, vectors.shape[1]
        if width < config.levels:
            raise UsageError(
                f"--levels is {config.levels}, and the vectors have {width} columns: no part may be empty",
                "a larger --dim, or fewer --levels",
            )
        turn = np.eye(width, dtype=np.float32)
        if self.rotated:
            turn = rotation(vectors, config)
        books = product_codebooks(vectors, turn, config, seed=run.seed)
        return books, residual_codes(vectors, books)


class PQ(ProductQuantizer):
    """Without a rotation; see `PQConfig`."""

    rotated = False


class OPQ(ProductQuantizer):
    """With a learnt rotation; see `OPQConfig`."""

    rotated = True


def rotation(vectors: np.ndarray, config: KMeansConfig) -> np.ndarray:
    """faiss's OPQ: (D', D) with orthonormal rows. vectors (n, D).

    It starts from no rotation, which is plain PQ of what PCA has made; from a random one, as faiss would by itself, it
    ended with larger errors. D' is the largest multiple of L up to D. faiss learns with codebooks of a power of two,
    here the largest that is no more than N and n.
    """
    faiss = import_faiss()
    width, parts = vectors.shape[1], config.levels
    kept = width - width % parts
    bits = min(config.codebook_size, len(vectors)).bit_length() - 1
    if bits < 1:  # a single vector: any rotation serves
        return np.eye(kept, width, dtype=np.float32)
    inner = faiss.ProductQuantizer(kept, parts, min(bits, LARGEST_BITS))
    inner.cp.min_points_per_centroid, inner.cp.max_points_per_centroid = 1, SAMPLE_PER_CODE
    learner = faiss.OPQMatrix(width, parts, kept)
    learner.pq, learner.max_train_points = inner, SAMPLE_PER_CODE * config.codebook_size
    faiss.copy_array_to_vector(np.eye(kept, width, dtype=np.float32).ravel(), learner.A)
    # With fewer vectors than columns faiss writes beyond its buffers: each is taken as many times as it needs.
    learner.train(np.tile(vectors, (-(-width // len(vectors)), 1)) if len(vectors) < width else vectors)
    return faiss.vector_to_array(learner.A).reshape(kept, width).copy()


def product_codebooks(vectors: np.ndarray, turn: np.ndarray, config: KMeansConfig, *, seed: int) -> np.ndarray:
    """(L, N, D): k-means of each part of the turned vectors, its codes turned back. vectors (n, D), turn (D', D)."""
    turned = vectors @ turn.T
    bounds = np.linspace(0, len(turn), config.levels + 1).astype(int)
    books = np.empty((config.levels, config.codebook_size, vectors.shape[1]), dtype=np.float32)
    for level, (start, stop) in enumerate(pairwise(bounds)):
        part = kmeans(
            turned[:, start:stop], codes=config.codebook_size, seed=derive(seed, "part", level),
        )  # fmt: skip
        books[level] = part @ turn[start:stop]
    return books
