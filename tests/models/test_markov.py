"""Against transitions counted in loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import new_model

from bbqrec_cli.models.base import Wanted
from bbqrec_cli.records import Sequences

ITEMS, DECAY = 15, 0.4


def transitions(train: Sequences, smoothing: float, kept: int) -> np.ndarray:
    """P(j | i), (I, I)."""
    counts, popularity = np.zeros((ITEMS, ITEMS)), np.zeros(ITEMS)
    for user in train:
        for item in user:
            popularity[item] += 1
        for before, after in pairwise(user):
            counts[before, after] += 1
    made = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        best = sorted(range(ITEMS), key=lambda other: (-counts[item, other], other))[:kept]
        for other in range(ITEMS):
            count = counts[item, other] if other in best else 0
            total, share = counts[item].sum() + smoothing, popularity[other] / popularity.sum()
            made[item, other] = (count + smoothing * share) / total if total else share
    return made


@pytest.mark.parametrize("kept", [2, ITEMS])
@pytest.mark.parametrize("smoothing", [0.0, 1.5])
def test_scores_are_mixed_transitions(train, batch, kept, smoothing):
    model = new_model("markov", ITEMS, successors=kept, smoothing=smoothing, decay=DECAY)
    model.prepare(train)
    found, given = model.recommend(batch, Wanted(k=ITEMS))
    likely = transitions(train, smoothing, kept)
    for user, length in enumerate(batch.lengths.tolist()):
        history = reversed(batch.items[user, :length].tolist())
        expected = torch.tensor(sum(DECAY**back * likely[item] for back, item in enumerate(history))).float()
        torch.testing.assert_close(given[user], expected[found[user]], rtol=1e-5, atol=1e-7)


def test_probabilities_add_up_to_one(train):
    assert np.allclose(transitions(train, 1.5, ITEMS).sum(1), 1)


def test_without_decay_only_the_last_item_counts(train, batch):
    model = new_model("markov", ITEMS, decay=0.0)
    model.prepare(train)
    found, _ = model.recommend(batch, Wanted(k=ITEMS))
    likely = transitions(train, model.smoothing, ITEMS)
    assert found[0].tolist() == np.argsort(-likely[14].astype(np.float32), kind="stable").tolist()
