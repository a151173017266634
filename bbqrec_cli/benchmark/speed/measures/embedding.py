"""Texts to vectors with the offline model, in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

WORDS = ("a", "red", "warm", "small", "cream", "for", "dry", "skin", "with", "oil", "of", "rose", "in", "box", "new")

BATCH = 32
"""Texts at once, the default of sentence-transformers."""


def own(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """The encoder of `bbqrec embed`; units are texts."""
    from bbqrec_cli.encoders import load_encoder
    from bbqrec_cli.encoders.resumable import batches_by_length

    texts, encoder = made(job), load_encoder("text", "", device=torch.device("cpu"))

    def run() -> float:
        for rows in batches_by_length(texts, BATCH):
            encoder.encode([texts[row] for row in rows])
        return len(texts)

    return run, {}


def sentence_transformers(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """sentence-transformers alone."""
    from sentence_transformers import SentenceTransformer

    from bbqrec_cli.encoders.text import offline_model

    texts, model = made(job), SentenceTransformer(offline_model(), device="cpu")

    def run() -> float:
        model.encode(texts, batch_size=BATCH, show_progress_bar=False)
        return len(texts)

    return run, {}


def made(job: dict[str, Any]) -> list[str]:
    """Texts of 5 to 40 words."""
    rng = np.random.default_rng(job["seed"])
    return [" ".join(rng.choice(WORDS, rng.integers(5, 41))) for _ in range(job["texts"])]
