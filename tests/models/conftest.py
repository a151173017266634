from __future__ import annotations

import pytest
import torch

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD


@pytest.fixture
def batch() -> Batch:
    """Three histories of 5, 3 and 1 items; every position is asked."""
    items = torch.tensor([[3, 7, 7, 0, 14], [9, 2, 4, PAD, PAD], [5, PAD, PAD, PAD, PAD]])
    targets = torch.tensor([[7, 7, 0, 14, 1], [2, 4, 13, PAD, PAD], [8, PAD, PAD, PAD, PAD]])
    return Batch(items, targets)
