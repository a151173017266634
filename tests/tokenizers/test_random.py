from __future__ import annotations

import numpy as np
from scipy.stats import chisquare

from bbqrec_cli.data.splits import split_of
from bbqrec_cli.tokenizers.base import TokenizerInput
from bbqrec_cli.tokenizers.methods.random import Random
from bbqrec_cli.tokenizers.options.random import RandomConfig
from bbqrec_cli.training.trainer import RunSettings


def drawn(catalogue, seed: int) -> np.ndarray:
    train = split_of(catalogue.sequences).train
    inputs = TokenizerInput(item_ids=[str(item) for item in range(4000)], features={}, train=train)
    made = Random(RandomConfig(levels=3, codebook_size=20)).fit(inputs, RunSettings(seed=seed))
    assert made.codes.codebooks is None
    return made.codes.codes[:, :, 0]


def test_uniform_and_independent(catalogue):
    codes = drawn(catalogue, 0)
    assert codes.shape == (4000, 3)
    for level in range(3):
        assert chisquare(np.bincount(codes[:, level], minlength=20)).pvalue > 1e-3
    pairs = np.bincount(20 * codes[:, 0].astype(int) + codes[:, 1], minlength=400)
    assert chisquare(pairs).pvalue > 1e-3, "levels know nothing of each other"
    assert (codes != drawn(catalogue, 1)).mean() > 0.9
