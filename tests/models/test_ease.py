"""Against the definition: each column is a ridge regression of an item on all others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import new_model

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.errors import DataError
from bbqrec_cli.models import ease
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.records import Sequences

ITEMS, L2 = 15, 2.0


def regressions(train: Sequences) -> np.ndarray:
    """B, (I, I), float64."""
    users = np.zeros((len(train), ITEMS))
    for user, items in enumerate(train):
        users[user, items] = 1
    made = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        others = [other for other in range(ITEMS) if other != item]
        rows = np.concatenate([users[:, others], L2**0.5 * np.eye(ITEMS - 1)])
        made[others, item] = np.linalg.lstsq(rows, np.concatenate([users[:, item], np.zeros(ITEMS - 1)]))[0]
    return made


def test_table_is_the_regressions(train):
    model = new_model("ease", ITEMS, l2=L2)
    model.prepare(train)
    np.testing.assert_allclose(model.table.numpy(), regressions(train), atol=1e-6)


def test_history_is_a_set(train):
    model = new_model("ease", ITEMS, l2=L2)
    model.prepare(train)
    items = torch.tensor([[3, 7, 3, 3, 9], [9, 3, 7, -1, -1]])
    found, scores = model.recommend(Batch(items, torch.full_like(items, -1)), Wanted(k=ITEMS))
    expected = torch.from_numpy(regressions(train)[[3, 7, 9]].sum(0)).float()
    for user in range(2):
        torch.testing.assert_close(scores[user], expected[found[user]], rtol=1e-5, atol=1e-6)


def test_a_lambda_without_effect_is_an_error():
    """Items of the same users, and λ below the last digit of float32."""
    model = new_model("ease", 4, l2=1e-6)
    with pytest.raises(DataError, match="--l2 1e-06 is too small"):
        model.prepare(Sequences.from_lists([[0, 1, 2]] * 50 + [[0, 1, 3]] * 30))


def test_float32_is_enough():
    """Beside float64, with the condition of a real catalogue: popular items and a small λ."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, 301)
    rows = [rng.choice(300, length, p=popularity / popularity.sum()).tolist() for length in rng.integers(2, 30, 3000)]
    model = new_model("ease", 300, l2=10.0)
    model.prepare(Sequences.from_lists(rows))
    users = np.zeros((3000, 300))
    for user, items in enumerate(rows):
        users[user, items] = 1
    inverse = np.linalg.inv(users.T @ users + 10.0 * np.eye(300))
    exact = -inverse / np.diag(inverse)
    np.fill_diagonal(exact, 0)
    assert np.abs(model.table.numpy() - exact).max() < 1e-4 * np.abs(exact).max()


def test_a_large_catalogue_is_refused(monkeypatch):
    monkeypatch.setattr(ease, "MOST_ITEMS", 10)
    with pytest.raises(DataError, match="11 × 11 items"):
        new_model("ease", 11)
