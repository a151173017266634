"""k-means of a catalogue's vectors. n vectors, N codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

ITERATIONS = 25


def own(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """The k-means of the tokenizers, on all vectors; units are vectors."""
    from bbqrec_cli.tokenizers.quantization.kmeans import kmeans

    vectors = made(job)

    def run() -> float:
        kmeans(vectors, codes=job["codes"], seed=job["seed"], iterations=ITERATIONS, sample=len(vectors))
        return len(vectors)

    return run, {}


def sklearn(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """scikit-learn's, with the same kind of start and as many iterations: where it needs fewer, the time of as many."""
    from sklearn.cluster import KMeans

    vectors = made(job)

    def run() -> float:
        fitted = KMeans(
            job["codes"], init="random", n_init=1, max_iter=ITERATIONS, tol=0, algorithm="lloyd",
            random_state=job["seed"],
        ).fit(vectors)  # fmt: skip
        return len(vectors) * fitted.n_iter_ / ITERATIONS

    return run, {}


def made(job: dict[str, Any]) -> np.ndarray:
    """(n, 64) float32."""
    return np.random.default_rng(job["seed"]).standard_normal((job["vectors"], 64), dtype=np.float32)
