from __future__ import annotations

import numpy as np
import pytest
import torch

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.records import Sequences


@pytest.fixture
def batch() -> Batch:
    """Three histories of 5, 3 and 1 items; every position is asked."""
    items = torch.tensor([[3, 7, 7, 0, 14], [9, 2, 4, PAD, PAD], [5, PAD, PAD, PAD, PAD]])
    targets = torch.tensor([[7, 7, 0, 14, 1], [2, 4, 13, PAD, PAD], [8, PAD, PAD, PAD, PAD]])
    return Batch(items, targets)


@pytest.fixture
def train() -> Sequences:
    """40 users of up to 8 interactions; of 15 items, the last has none."""
    rng = np.random.default_rng(0)
    return Sequences.from_lists([rng.integers(0, 14, length).tolist() for length in rng.integers(0, 9, 40)])
