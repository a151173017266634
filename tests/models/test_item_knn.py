"""Against cosines and sums written out in loops."""

from __future__ import annotations

import pytest
import torch
from helpers import new_model

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models import neighbours
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.records import Sequences

ITEMS, SHRINKAGE, DECAY = 15, 3.0, 0.7


def similarity(train: Sequences, one: int, other: int) -> float:
    of_one, of_other = ({user for user in range(len(train)) if item in train[user]} for item in (one, other))
    if one == other or not of_one or not of_other:
        return 0.0
    return len(of_one & of_other) / ((len(of_one) * len(of_other)) ** 0.5 + SHRINKAGE)


def scores(train: Sequences, history: list[int], kept: int) -> list[float]:
    total = [0.0] * ITEMS
    for back, item in enumerate(reversed(history)):
        row = [similarity(train, item, other) for other in range(ITEMS)]
        best = sorted(range(ITEMS), key=lambda other: (-row[other], other))[:kept]
        for other in best:
            total[other] += row[other] * DECAY**back
    return total


@pytest.mark.parametrize("kept", [3, ITEMS])
@pytest.mark.parametrize("at_once", [1, 60, 10**6])
def test_scores_are_the_sums(train, batch, kept, at_once, monkeypatch):
    """However many pairs are counted at once."""
    monkeypatch.setattr(neighbours.parts, "__defaults__", (at_once,))
    model = new_model("item-knn", ITEMS, neighbours=kept, shrinkage=SHRINKAGE, decay=DECAY)
    model.prepare(train)
    found, given = model.recommend(batch, Wanted(k=ITEMS))
    for user, length in enumerate(batch.lengths.tolist()):
        expected = torch.tensor(scores(train, batch.items[user, :length].tolist(), kept))
        torch.testing.assert_close(given[user], expected[found[user]], rtol=1e-5, atol=1e-6)
        assert sorted(found[user].tolist()) == list(range(ITEMS))


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_long_histories(train, decay, monkeypatch):
    """Of items far behind, those alone are left out that weigh nothing."""
    monkeypatch.setitem(globals(), "DECAY", decay)
    model = new_model("item-knn", ITEMS, neighbours=ITEMS, shrinkage=SHRINKAGE, decay=decay)
    model.prepare(train)
    items = torch.randint(ITEMS, (1, 200), generator=torch.Generator().manual_seed(0))
    found, given = model.recommend(Batch(items, torch.full_like(items, PAD)), Wanted(k=ITEMS))
    expected = torch.tensor(scores(train, items[0].tolist(), ITEMS))
    torch.testing.assert_close(given[0], expected[found[0]], rtol=1e-5, atol=1e-6)
