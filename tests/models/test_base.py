from __future__ import annotations

import os

import pytest
import torch

from bbqrec_cli.models.base import Wanted, top_items

DEVICE = torch.device(os.environ.get("BBQREC_TEST_DEVICE", "cpu"))


def brute_force(scores, k, allowed, exclude):
    """Sorted in Python: by score, then by row."""
    rows = []
    for user, row in enumerate(scores.tolist()):
        left = [
            (-score, item)
            for item, score in enumerate(row)
            if (allowed is None or allowed[item]) and (exclude is None or item not in exclude[user].tolist())
        ]
        best = [(item, -score) for score, item in sorted(left)[:k]]
        rows.append(best + [(-1, -float("inf"))] * (k - len(best)))
    return torch.tensor([[i for i, _ in r] for r in rows]), torch.tensor([[s for _, s in r] for r in rows])


@pytest.mark.parametrize("seed", range(20))
def test_top_items_against_brute_force(seed):
    draw = torch.Generator().manual_seed(seed)
    items, k = int(torch.randint(1, 30, (), generator=draw)), int(torch.randint(1, 35, (), generator=draw))
    scores = torch.randn(4, items, generator=draw)
    if seed % 2:
        scores = scores.round()  # many ties
    allowed = torch.rand(items, generator=draw) < 0.6 if seed % 3 else None
    exclude = torch.randint(-1, items, (4, 5), generator=draw) if seed % 5 else None
    there = [None if given is None else given.to(DEVICE) for given in (allowed, exclude)]
    found, best = top_items(scores.to(DEVICE), Wanted(k=k, allowed=there[0], exclude=there[1]))
    expected, points = brute_force(scores, k, allowed, exclude)
    assert torch.equal(found.cpu(), expected)
    assert torch.equal(best.cpu(), points)


def test_the_callers_scores_are_left_alone():
    scores = torch.arange(4.0).repeat(2, 1)
    before = scores.clone()
    top_items(scores, Wanted(k=2, exclude=torch.tensor([[3], [-1]]), allowed=torch.tensor([True, True, False, True])))
    assert torch.equal(scores, before)
