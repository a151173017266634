from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from bbqrec_cli.data.batches import Batch
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
