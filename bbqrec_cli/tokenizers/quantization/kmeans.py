"""k-means with faiss, plain and level by level on residuals. n vectors, L levels, N codes, D width."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bbqrec_cli.errors import import_faiss
from bbqrec_cli.seeds import derive

SAMPLE_PER_CODE = 256
"""Vectors per centroid that k-means uses; more are sampled (faiss's default)."""
BLOCK = 1 << 16
"""Vectors per block."""


def kmeans(
    vectors: np.ndarray, *, codes: int, seed: int, iterations: int = 25, sample: int = SAMPLE_PER_CODE
) -> np.ndarray:
    """Centroids (N, D) of vectors (n, D); with fewer distinct vectors than codes, the rest are copies with noise.

    Args:
        codes: N.
        sample: vectors per centroid; if there are more, so many are drawn.

    Raises:
        MissingPackageError: faiss is not installed.
    """
    faiss = import_faiss()
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    # The first ones usually suffice; sorting all vectors would be slow.
    if len(_distinct(vectors[: 2 * codes])) <= codes and len(distinct := _distinct(vectors)) <= codes:
        return _few(distinct, codes, seed)
    trainer = faiss.Kmeans(
        vectors.shape[1],
        codes,
        niter=iterations,
        seed=derive(seed, "kmeans") % (1 << 31),
        min_points_per_centroid=1,
        max_points_per_centroid=sample,
    )
    trainer.train(vectors)
    return trainer.centroids.copy()


def _distinct(vectors: np.ndarray) -> np.ndarray:
    """The distinct rows, compared as bytes, which is much faster than as numbers; -0 becomes 0 first."""
    rows = (vectors + np.float32(0)).view(np.dtype((np.void, vectors.shape[1] * vectors.itemsize)))
    return np.unique(rows).view(vectors.dtype).reshape(-1, vectors.shape[1])


def _few(distinct: np.ndarray, codes: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(derive(seed, "kmeans"))
    again = distinct[rng.integers(0, len(distinct), codes - len(distinct))]
    spread = distinct.std() + 1e-3
    return np.concatenate([distinct, again + rng.normal(0, 1e-2 * spread, again.shape)]).astype(np.float32)


def residual_clusters(
    vectors: np.ndarray,
    *,
    levels: int,
    learn: Callable[[np.ndarray, int], np.ndarray],
    assign: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Codebooks (L, N, D) and codes (n, L) uint16: each level quantises the residual of those before (eq. 6).

    Args:
        vectors: (n, D).
        learn: residuals (n, D) and the level -> its codebook (N, D).
        assign: residuals (n, D) and that codebook -> codes (n,).
    """
    residual, books = vectors.astype(np.float32, copy=True), []
    codes = np.empty((len(vectors), levels), dtype=np.uint16)
    for level in range(levels):
        books.append(learn(residual, level))
        codes[:, level] = assign(residual, books[-1])
        for part in _blocks(len(vectors)):
            residual[part] -= books[-1][codes[part, level]]
    return np.stack(books), codes


def residual_kmeans(
    vectors: np.ndarray, *, levels: int, codes: int, seed: int, sample: int = SAMPLE_PER_CODE
) -> np.ndarray:
    """Codebooks (L, N, D) by k-means, level by level on the residuals of vectors (n, D)."""

    def learn(residual: np.ndarray, level: int) -> np.ndarray:
        return kmeans(residual, codes=codes, seed=derive(seed, "level", level), sample=sample)

    return residual_clusters(vectors, levels=levels, learn=learn, assign=nearest_centroids)[0]


def _blocks(rows: int) -> Iterator[slice]:
    """Slices of BLOCK rows."""
    return (slice(start, start + BLOCK) for start in range(0, rows, BLOCK))


def nearest_centroids(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each vector, (n,) int64, computed in blocks. vectors (n, D), centroids (N, D)."""
    faiss = import_faiss()
    index = faiss.IndexFlatL2(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids, dtype=np.float32))
    found = [index.search(np.ascontiguousarray(vectors[part]), 1)[1][:, 0] for part in _blocks(len(vectors))]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def residual_codes(vectors: np.ndarray, books: np.ndarray) -> np.ndarray:
    """Codes (n, L) uint16 of vectors (n, D): at each level of books (L, N, D), the nearest code to the residual."""
    codes = np.empty((len(vectors), len(books)), dtype=np.uint16)
    for part in _blocks(len(vectors)):
        _, codes[part] = residual_clusters(
            vectors[part], levels=len(books), learn=lambda _, level: books[level], assign=nearest_centroids
        )
    return codes


def sum_of_codes(codes: np.ndarray, books: np.ndarray) -> np.ndarray:
    """Quantised vectors (n, D) float32, eq. 7. codes (n, L), books (L, N, D)."""
    total = np.zeros((len(codes), books.shape[2]), dtype=np.float32)
    for part in _blocks(len(codes)):
        for level, book in enumerate(books):
            total[part] += book[codes[part, level]]
    return total
