"""The tiny catalogue as BBQRec's tokenizer gets it, and the tokenizer with everything small."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bbqrec_cli.data.batches import Batch, WindowBatches
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.records import Feature, Features, Sequences
from bbqrec_cli.tokenizers.base import Tokenized, TokenizerInput
from bbqrec_cli.tokenizers.methods.bbqrec.method import BBQRec, BBQRecQuantizer
from bbqrec_cli.tokenizers.options.bbqrec import BBQRecConfig
from bbqrec_cli.training.trainer import RunSettings

SMALL = BBQRecConfig(
    levels=2, codebook_size=8, dim=16, hidden=24, epochs=12, batch_size=16, learning_rate=0.01, dropout=0.0,
    sequence_layers=1, sequence_heads=2, popularity="none",
)  # fmt: skip


@pytest.fixture(scope="session")
def inputs(features: Features, successor: np.ndarray) -> TokenizerInput:
    """The tiny catalogue with 48 users: four from every item, 7 to 12 steps each, so that every item is a target."""
    walks = [[item] for item in range(12) for _ in range(4)]
    for number, walk in enumerate(walks):
        while len(walk) < 7 + number % 6:
            walk.append(int(successor[walk[-1]]))
    split = split_of(Sequences.from_lists(walks))
    assert set(split.validation.targets) == set(range(12))
    return TokenizerInput(
        item_ids=features.catalogue.item_ids, features=features.features, train=split.train, validation=split.validation
    )


@pytest.fixture(scope="session")
def small() -> Callable[..., BBQRecConfig]:
    """The small configuration with some options changed."""

    def make(**changes: Any) -> BBQRecConfig:
        return dataclasses.replace(SMALL, **changes)

    return make


@pytest.fixture(scope="session")
def network() -> Callable[..., BBQRecQuantizer]:
    """An untrained network."""

    def make(
        inputs: TokenizerInput, config: BBQRecConfig = SMALL, signals: tuple[str, ...] = ("id", "text", "image"),
        **more: Any,
    ) -> BBQRecQuantizer:  # fmt: skip
        torch.manual_seed(0)
        features = dict(inputs.features)
        return BBQRecQuantizer(config, items=12, features=features, signals=signals, history=20, **more)

    return make


@pytest.fixture(scope="session")
def one_batch() -> Callable[[TokenizerInput], Batch]:
    """The first batch, of all users."""

    def make(inputs: TokenizerInput) -> Batch:
        return WindowBatches(inputs.train, batch_size=48, seed=0).epoch(0)[0]

    return make


@pytest.fixture(scope="session")
def fit() -> Callable[..., Tokenized]:
    """Train the small tokenizer."""

    def run(inputs: TokenizerInput, config: BBQRecConfig = SMALL, **settings: Any) -> Tokenized:
        return BBQRec(config).fit(inputs, RunSettings(**settings))

    return run


@pytest.fixture
def correlated_text(features: Features) -> Callable[..., TokenizerInput]:
    """`correlated_text(items, width, rank=…, noise=…, lacking=…)`: a text whose columns hang together, by `rank` hidden
    ones; one item has none."""

    def make(items: int, width: int, *, rank: int, noise: float, lacking: int) -> TokenizerInput:
        generator = np.random.default_rng(0)
        values = generator.standard_normal((items, rank)) @ generator.standard_normal((rank, width))
        values += noise * generator.standard_normal((items, width))
        feature = Feature(values=values.astype(np.float32), present=np.arange(items) != lacking)
        train = split_of(features.catalogue.sequences).train
        return TokenizerInput(item_ids=[f"i{i}" for i in range(items)], features={"text": feature}, train=train)

    return make


@pytest.fixture
def round_centres() -> Callable[[int, int], np.ndarray]:
    """`round_centres(count, centres)`: vectors of width 6 round centres of very different weight."""

    def make(count: int, centres: int) -> np.ndarray:
        generator, weight = np.random.default_rng(0), np.arange(1, centres + 1)
        places = 3 * generator.standard_normal((centres, 6))
        label = generator.choice(centres, count, p=weight / weight.sum())
        return (places[label] + generator.standard_normal((count, 6))).astype(np.float32)

    return make
