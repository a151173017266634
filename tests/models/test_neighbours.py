from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models import neighbours
from bbqrec_cli.models.base import Wanted, top_items
from bbqrec_cli.models.neighbours import Neighbours, from_the_last, parts, users_by_items
from bbqrec_cli.records import Sequences


def test_keeps_the_best_of_each_row():
    """Equal weights in the order of the rows; PAD and 0 where there are fewer."""
    table = Neighbours(4, 2)
    weights = np.array([[0, 0.5, 2, 0.5], [0, 0, 0, 0], [1, 1, 1, 1]])
    table.fill(1, sparse.csr_matrix(weights))
    assert table.rows.tolist() == [[-1, -1], [2, 1], [-1, -1], [0, 1]]
    assert table.weights.tolist() == [[0, 0], [2, 0.5], [0, 0], [1, 1]]


def test_history_is_read_from_its_end():
    batch = Batch(torch.tensor([[4, 5, 6], [7, -1, -1]]), torch.full((2, 3), -1))
    read = [(items.tolist(), share.tolist()) for items, share in from_the_last(batch, 0.5)]
    assert [share for _, share in read] == [[1, 1], [0.5, 0], [0.25, 0]]
    assert [items[0] for items, _ in read] == [6, 5, 4]
    assert read[0][0][1] == 7


def test_users_count_once():
    made = users_by_items(Sequences.from_lists([[1, 1, 0], [], [2]]), 3).toarray()
    assert made.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(5, [(0, 2), (2, 3), (3, 5)]), (100, [(0, 5)]), (1, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)])],
)
def test_parts_hold_what_fits(limit, expected):
    assert list(parts(np.array([2, 3, 9, 1, 4]), limit)) == expected


@pytest.mark.parametrize("seed", range(60))
def test_the_best_of_the_neighbours_are_the_best_of_all(seed, monkeypatch):
    """To the bit, with ties, filters, few neighbours and shares that beat them, against a row of all scores."""
    draw = np.random.default_rng(seed)
    items, count, users = int(draw.integers(5, 90)), int(draw.integers(1, 6)), 7
    table = Neighbours(items, count)
    weights = draw.integers(0, 3, (items, items)) * (draw.random((items, items)) < 0.2) / (3 if seed % 2 else 1)
    table.fill(0, sparse.csr_matrix(weights.astype(np.float32)))
    lengths = draw.integers(1, 6, (users, 1))
    histories = np.where(np.arange(5) < lengths, draw.integers(0, items, (users, 5)), -1)
    batch = Batch(torch.from_numpy(histories), torch.full((users, 5), -1))
    rest = torch.from_numpy(draw.integers(0, 3, (users, 1)).astype(np.float32)) / 7
    shares = torch.from_numpy(draw.integers(0, 5, items).astype(np.float32)) / 5
    more = (rest, shares) if seed // 3 % 3 else None
    allowed = torch.from_numpy(draw.random(items) < 0.5) if seed % 4 == 1 else None
    exclude = torch.from_numpy(draw.integers(-1, items, (users, 4))) if seed % 5 else None
    wanted, decay = Wanted(k=(1, 3, 10)[seed % 3], allowed=allowed, exclude=exclude), (0.0, 0.5, 1.0)[seed % 3]
    scores = table.scores(batch, decay) + (rest * shares if more else 0)
    expected = top_items(scores, wanted)
    monkeypatch.setattr(neighbours, "SPARSE", 0)
    monkeypatch.setattr(neighbours, "SPARE", 1 + seed % 2)
    for each, other in zip(table.top(batch, wanted, decay, more), expected, strict=True):
        assert torch.equal(each, other)


def test_no_row_of_all_scores_is_made(monkeypatch):
    """Where the neighbours suffice; a user without any gets one."""
    table = Neighbours(500, 3)
    weights = np.zeros((500, 500))
    weights[:250, :] = np.random.default_rng(0).random((250, 500))
    table.fill(0, sparse.csr_matrix(weights))
    asked: list[int] = []
    plain = table.scores
    monkeypatch.setattr(table, "scores", lambda batch, decay: asked.append(len(batch.items)) or plain(batch, decay))
    batch = Batch(torch.tensor([[0, 1], [300, 301], [2, 249]]), torch.full((3, 2), -1))
    found, _ = table.top(batch, Wanted(k=3), 1.0)
    assert asked == [1]
    assert found[1].tolist() == [0, 1, 2]
    shares = torch.arange(500.0) / 500
    found, _ = table.top(batch, Wanted(k=3), 1.0, (torch.ones(3, 1), shares))
    assert asked == [1], "the highest shares fill up"
    assert found[1].tolist() == [499, 498, 497]
