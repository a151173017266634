"""Product quantisation (Jégou et al. 2011), plain or after a learnt rotation (OPQ, Ge et al. 2013), as in VQ-Rec.

I items, n of them with content, D width of a vector, L its parts, which are the levels of an ID, N codes.
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
"""Bits of the codebooks with which the rotation is learnt, at most: more cost time and hardly change it."""


class ProductQuantizer(AdditiveQuantizer):
    """Level l of an ID is the code of the l-th part of the (rotated) vector; PQ and OPQ differ in the rotation.

    The codebooks are stored as for residual codes: each code is a vector of full width, zero outside its part and
    rotated back. So an item's vector, the sum of its codes, is the reconstruction of its features, and the nearest code
    to a level's residual is the nearest one in that part; with a rotation nearly so where L does not divide D.
    """

    config: KMeansConfig
    rotated: ClassVar[bool]

    def learn(self, vectors: np.ndarray, run: RunSettings) -> tuple[np.ndarray, np.ndarray]:
        """See `AdditiveQuantizer.learn`. Raises: UsageError: more levels than columns."""
        config, width = self.config, vectors.shape[1]
        if width < config.levels:
            raise UsageError(
                f"--levels is {config.levels}, but the vectors have only {width} columns to divide among the levels",
                "a larger --dim, or fewer --levels" if config.dim else "fewer --levels",
            )
        turn = np.eye(width, dtype=np.float32)
        if self.rotated:
            turn = rotation(vectors, config, seed=run.seed)
        books = product_codebooks(vectors, turn, config, seed=run.seed)
        return books, residual_codes(vectors, books)


class PQ(ProductQuantizer):
    """Without a rotation; see `PQConfig`."""

    rotated = False


class OPQ(ProductQuantizer):
    """With a learnt rotation; see `OPQConfig`."""

    rotated = True


def rotation(vectors: np.ndarray, config: KMeansConfig, *, seed: int) -> np.ndarray:
    """The rotation of faiss's OPQ: (D', D) with orthonormal columns. vectors (n, D).

    It starts from the identity, that is plain PQ after PCA; faiss's default, a random rotation, gave larger errors. D'
    is the smallest multiple of L from D on, since faiss's parts are of one width: columns of zeros fill up those that
    have fewer in pq. faiss learns with codebook sizes that are powers of two, here the largest up to N and n.
    """
    faiss = import_faiss()
    width, parts = vectors.shape[1], config.levels
    each = -(-width // parts)
    wide, bounds = each * parts, part_bounds(width, parts)
    places = np.concatenate([each * part + np.arange(bounds[part + 1] - bounds[part]) for part in range(parts)])
    bits = min(config.codebook_size, len(vectors)).bit_length() - 1
    if bits < 1:  # a single vector: any rotation will do
        return np.eye(wide, dtype=np.float32)[:, places]
    vectors, narrow = np.zeros((len(vectors), wide), dtype=np.float32), vectors
    vectors[:, places] = narrow
    inner = faiss.ProductQuantizer(wide, parts, min(bits, LARGEST_BITS))
    inner.cp.seed = derive(seed, "rotation") % (1 << 31)
    inner.cp.min_points_per_centroid, inner.cp.max_points_per_centroid = 1, SAMPLE_PER_CODE
    learner = faiss.OPQMatrix(wide, parts, wide)
    learner.pq, learner.max_train_points = inner, SAMPLE_PER_CODE * config.codebook_size
    faiss.copy_array_to_vector(np.eye(wide, dtype=np.float32).ravel(), learner.A)
    # With fewer vectors than columns, faiss writes beyond its buffers: the vectors are repeated.
    learner.train(np.tile(vectors, (-(-wide // len(vectors)), 1)) if len(vectors) < wide else vectors)
    return faiss.vector_to_array(learner.A).reshape(wide, wide)[:, places]


def part_bounds(width: int, parts: int) -> np.ndarray:
    """(L + 1,) int: where each part begins, and the last one ends."""
    return np.linspace(0, width, parts + 1).astype(int)


def product_codebooks(vectors: np.ndarray, turn: np.ndarray, config: KMeansConfig, *, seed: int) -> np.ndarray:
    """(L, N, D): k-means of each part of the rotated vectors, rotated back. vectors (n, D), turn (D', D)."""
    turned = vectors @ turn.T
    bounds = part_bounds(len(turn), config.levels)
    books = np.empty((config.levels, config.codebook_size, vectors.shape[1]), dtype=np.float32)
    for level, (start, stop) in enumerate(pairwise(bounds)):
        part = kmeans(
            turned[:, start:stop], codes=config.codebook_size, seed=derive(seed, "part", level),
        )  # fmt: skip
        books[level] = part @ turn[start:stop]
    return books
