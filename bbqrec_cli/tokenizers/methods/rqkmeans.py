"""Residual k-means on content features. n vectors, L levels, N codes, D width."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bbqrec_cli.errors import UsageError
from bbqrec_cli.seeds import derive
from bbqrec_cli.tokenizers.methods.additive import AdditiveQuantizer
from bbqrec_cli.tokenizers.options.rqkmeans import RQKMeansConfig
from bbqrec_cli.tokenizers.quantization.balanced import balanced_assignment, balanced_kmeans
from bbqrec_cli.tokenizers.quantization.kmeans import kmeans, nearest_centroids, residual_clusters
from bbqrec_cli.training.trainer import RunSettings


class RQKMeans(AdditiveQuantizer):
    """k-means on the residual of each level; see `RQKMeansConfig` for its options.

    Balanced codes (`balanced.py`) are not always the nearest ones.
    """

    config: RQKMeansConfig

    def reads(self, present: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        """See `SampleTokenizer.reads`.

        Raises:
            UsageError: --balanced, which items outside the sample would break.
        """
        if self.config.balanced:
            raise UsageError(
                "--fit-items assigns the nearest codes, which would not keep --balanced",
                "leave one of them out",
            )
        return super().reads(present)

    def learn(self, vectors: np.ndarray, run: RunSettings) -> tuple[np.ndarray, np.ndarray]:
        """See `AdditiveQuantizer.learn`."""
        config = self.config
        cluster, assign = (balanced_kmeans, balanced_assignment) if config.balanced else (kmeans, nearest_centroids)

        def codebook(residual: np.ndarray, level: int) -> np.ndarray:
            seed = derive(run.seed, "level", level)
            return cluster(residual, codes=config.codebook_size, seed=seed)

        return residual_clusters(vectors, levels=config.levels, learn=codebook, assign=assign)
