"""The base of tokenizers that learn codebooks without a network. I items, L levels, N codes, D width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bbqrec_cli.errors import import_faiss
from bbqrec_cli.records import Codes, Feature, ItemEncoder
from bbqrec_cli.tokenizers.assignment.encoding import item_encoder, scale_feature
from bbqrec_cli.tokenizers.base import Encode, Encoded, Tokenized, TokenizerInput
from bbqrec_cli.tokenizers.content import (
    SIGNAL,
    choose_content,
    content_names,
    principal_directions,
    project,
    side_by_side,
)
from bbqrec_cli.tokenizers.quantization.kmeans import residual_codes, sum_of_codes
from bbqrec_cli.training.trainer import RunSettings

AXES = "principal directions"
"""The name of the PCA among the weights of an `ItemEncoder`."""


class AdditiveQuantizer:
    """A tokenizer that approximates content vectors by the sum of one code per level.

    The vectors are the standardised features, projected on their first `--dim` principal directions. Subclasses
    implement `learn`.
    """

    needs_features = True

    def __init__(self, config: Any) -> None:
        self.config = config

    def learn(self, vectors: np.ndarray, run: RunSettings) -> tuple[np.ndarray, np.ndarray]:
        """Codebooks (L, N, D) and codes (n, L) uint16 of the vectors (n, D) of the items with content."""
        raise NotImplementedError

    def fit(self, inputs: TokenizerInput, run: RunSettings) -> Tokenized:
        """See `Tokenizer.fit`. Items without content get the codes nearest to zero.

        Raises:
            DataError: features that are missing.
            UsageError: a --dim larger than the features' width or too small for the method.
            MissingPackageError: faiss is not installed.
        """
        import_faiss()
        config, content = self.config, choose_content(self.config, inputs, run.progress)
        axes = principal_directions(content, config.dim)
        values, having = project(content.values, axes), content.has_content
        # No copy of the vectors if all items have content.
        books, codes = self.learn(values if having.all() else values[having], run)
        if not having.all():
            learnt, codes = codes, residual_codes(values, books)
            codes[having] = learnt
        vectors = sum_of_codes(codes, books)
        vectors *= having[:, None]
        encoder = item_encoder(inputs.features, tuple(content.features), {})
        if axes is not None:
            encoder.weights[AXES] = axes
        made = Codes(
            codes=codes[:, :, None], modalities=(SIGNAL,), method=self.config.name,
            codebook_size=config.codebook_size, codebooks=books[None], item_vectors=vectors,
            present=having[:, None],
        )  # fmt: skip
        return Tokenized(codes=made, history=[], latents=values[:, None], encoder=encoder)

    def reads(self, present: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        """See `SampleTokenizer.reads`."""
        return content_names(self.config, present)

    def restore(self, codes: Codes, encoder: ItemEncoder, device: torch.device) -> Encode:
        """See `ContentTokenizer.restore`. Items get the nearest codes, also from balanced codebooks."""
        assert codes.codebooks is not None  # files with an encoder have them
        books, axes = codes.codebooks[0], encoder.weights.get(AXES)

        def encode(features: Mapping[str, Feature]) -> Encoded:
            scaled = [scale_feature(features[name], name, encoder) for name in encoder.inputs]
            values = project(side_by_side(scaled), axes)
            having = np.any([features[name].present for name in encoder.inputs], axis=0)[:, None]
            found = residual_codes(values, books)
            return Encoded(
                codes=found[:, :, None], latents=values[:, None],
                vectors=sum_of_codes(found, books) * having, present=having,
            )  # fmt: skip

        return encode
