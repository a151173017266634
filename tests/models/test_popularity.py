from __future__ import annotations

import torch
from helpers import new_model

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.records import Sequences


def test_counts_and_ties_by_hand():
    model = new_model("popularity", 5)
    model.prepare(Sequences.from_lists([[1, 3, 3], [3, 1], [], [4]]))
    assert model.state_dict()["counts"].tolist() == [0, 2, 0, 3, 1]
    nothing = torch.full((2, 1), -1)
    items, scores = model.recommend(Batch(nothing, nothing), Wanted(k=5))
    assert items.tolist() == [[3, 1, 4, 0, 2]] * 2, "equal counts in the order of the rows"
    assert scores[0].tolist() == [3, 2, 1, 0, 0]
