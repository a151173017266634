"""Random codes: the baseline that a tokenizer must beat. I items, L levels."""

from __future__ import annotations

import numpy as np

from bbqrec_cli.records import Codes
from bbqrec_cli.seeds import numpy_generator
from bbqrec_cli.tokenizers.base import Tokenized, TokenizerInput
from bbqrec_cli.tokenizers.options.random import RandomConfig
from bbqrec_cli.training.trainer import RunSettings

SIGNAL = "random"


class Random:
    """Draws every code uniformly and independently: two items may get the same ID."""

    needs_features = False

    def __init__(self, config: RandomConfig) -> None:
        self.config = config

    def fit(self, inputs: TokenizerInput, run: RunSettings) -> Tokenized:
        """Codes (I, L, 1) by the seed; no codebooks and no vectors."""
        levels, size = self.config.levels, self.config.codebook_size
        drawn = numpy_generator(run.seed, "random codes").integers(size, size=(inputs.items, levels, 1))
        codes = Codes(codes=drawn.astype(np.uint16), modalities=(SIGNAL,), method=self.config.name, codebook_size=size)
        return Tokenized(codes=codes, history=[])
