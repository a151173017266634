from __future__ import annotations

import os

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bbqrec_cli.errors import DataError
from bbqrec_cli.models import base
from bbqrec_cli.models.base import Wanted, top_items, top_products

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


@pytest.mark.parametrize("seed", range(12))
def test_blocks_change_no_bit(seed, monkeypatch):
    """Products of small whole numbers, so that sums are exact and there are ties, against one sort of all scores."""
    monkeypatch.setattr(base, "CELLS", {DEVICE.type: 1 << (8 + seed % 4)})
    draw = torch.Generator().manual_seed(seed)
    items, k = int(torch.randint(200, 3000, (), generator=draw)), (1, 3, 10)[seed % 3]
    states = torch.randint(-2, 3, (4, 3), generator=draw).float()
    table, bias = torch.randint(-2, 3, (items, 3), generator=draw).float(), torch.arange(items) % 2.0
    allowed = torch.rand(items, generator=draw) < 0.6 if seed % 4 else None
    exclude = torch.randint(-1, items, (4, 50), generator=draw) if seed % 5 else None
    there = {"allowed": allowed, "exclude": exclude}
    wanted = Wanted(k=k, **{name: None if given is None else given.to(DEVICE) for name, given in there.items()})
    plain = states @ table.T + bias
    expected, points = brute_force(plain, k, allowed, exclude)
    for found, best in (
        top_items(plain.to(DEVICE), wanted),
        top_products(states.to(DEVICE), table.to(DEVICE), wanted, bias=bias.to(DEVICE)),
    ):
        assert torch.equal(found.cpu(), expected)
        assert torch.equal(best.cpu(), points)


class Sizes(TorchDispatchMode):
    """Of the tensors that are made: the largest number of elements, by their size in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = dict[int, int]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor):
                size = each.element_size()
                self.largest[size] = max(self.largest.get(size, 0), each.untyped_storage().nbytes() // size)
        return made


def test_no_matrix_of_users_and_items():
    """32 × 400,000 scores; whole numbers of 8 bytes only for the few that are ranked."""
    states, table = torch.randn(32, 2), torch.randn(400_000, 2)
    seen = torch.randint(-1, 400_000, (32, 20))
    with Sizes() as made:
        top_products(states, table, Wanted(k=10, exclude=seen))
    assert made.largest[4] == base.CELLS["cpu"] < 32 * 400_000 / 3
    assert made.largest[8] <= base.CELLS["cpu"] // base.BLOCK
    with Sizes() as plain:
        top_items(states @ table.T, Wanted(k=10, exclude=seen))
    assert plain.largest[4] == 32 * 400_000


@pytest.mark.parametrize("items", [20, 5000])
def test_scores_that_are_no_numbers_are_refused(items):
    scores = torch.randn(3, items)
    scores[1, items // 2] = torch.nan
    with pytest.raises(DataError, match="the model's scores are not numbers"):
        top_items(scores, Wanted(k=5))
