"""Beam search against an enumeration of all items, with scores that are a table of random numbers."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bbqrec_cli.decoding.beam import Permitted, beam_search, sort_keys
from bbqrec_cli.decoding.trie import Trie

USERS, SIZE = 3, 3
DEVICE = torch.device(os.environ.get("BBQREC_TEST_DEVICE", "cpu"))


class Table:
    """A `step` whose logits depend on the user and on all codes so far: logits[user, prefix, signal, code]."""

    def __init__(self, levels: int, signals: int, seed: int) -> None:
        self.levels, self.signals = levels, signals
        self.logits = [
            torch.from_numpy(
                np.random.default_rng([seed, level]).standard_normal((USERS, SIZE ** (level * signals), signals, SIZE))
            ).to(DEVICE, torch.float32)
            for level in range(levels)
        ]
        self.prefix = torch.zeros(USERS, 1, dtype=torch.int64, device=DEVICE)

    def __call__(self, level: int, parent: Tensor, codes: Tensor) -> tuple[Tensor, None]:
        if level:
            self.prefix = self.prefix.gather(1, parent)
            for signal in range(self.signals):
                self.prefix = self.prefix * SIZE + codes[:, :, signal]
        return self.logits[level][torch.arange(USERS).unsqueeze(1), self.prefix], None

    def log_probability(self, user: int, item: np.ndarray, catalogue: np.ndarray | None) -> float:
        """Of one item's codes (L, M); catalogue (I, L, M): normalise over its tuples, None: over all N a signal."""
        total, prefix = 0.0, 0
        for level in range(self.levels):
            logits = self.logits[level][user, prefix].double().cpu().numpy()

            def score(tuple_: np.ndarray, logits: np.ndarray = logits) -> float:
                return float(logits[np.arange(self.signals), tuple_].sum())

            if catalogue is None:
                every = itertools.product(range(SIZE), repeat=self.signals)
            else:
                same = (catalogue[:, :level] == item[:level]).all(axis=(1, 2))
                every = {tuple(codes) for codes in catalogue[same, level].tolist()}
            total += score(item[level]) - np.log(sum(np.exp(score(np.array(codes))) for codes in every))
            for code in item[level]:
                prefix = prefix * SIZE + int(code)
        return total


def search(codes: np.ndarray, table: Table, *, width: int, k: int, allowed=None, exclude=None, over_children=True):
    trie = Trie(codes).to(DEVICE)
    allowed, exclude = (None if given is None else given.to(DEVICE) for given in (allowed, exclude))
    permitted = Permitted.of(trie, allowed, exclude, USERS)
    return beam_search(trie, table, width=width, k=k, permitted=permitted, over_children=over_children)


def some_codes(items: int, levels: int, signals: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SIZE, (items, levels, signals)).astype(np.uint16)


@pytest.mark.parametrize("over_children", [True, False])
@pytest.mark.parametrize(("levels", "signals"), [(1, 1), (4, 1), (1, 3), (2, 2), (3, 2)])
def test_a_beam_as_wide_as_the_catalogue_sorts_all_items(levels, signals, over_children):
    codes = some_codes(12, levels, signals, seed=levels)
    items, scores = search(codes, Table(levels, signals, seed=7), width=12, k=12, over_children=over_children)
    catalogue = codes.astype(int) if over_children else None
    for user in range(USERS):
        table = Table(levels, signals, seed=7)
        exact = np.array([table.log_probability(user, item, catalogue) for item in codes.astype(int)])
        # Colliding items have the same probability: in the order of their rows, one after the other.
        order = np.argsort(-exact.round(6), kind="stable")
        assert items[user].tolist() == order.tolist()
        torch.testing.assert_close(scores[user].cpu().double(), torch.from_numpy(exact[order]), atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=120)
@given(data=st.data())
def test_k_results_whatever_is_allowed_and_excluded(data):
    items, levels, signals = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    codes = some_codes(items, levels, signals, seed=data.draw(st.integers(0, 5)))
    allowed = data.draw(st.none() | st.lists(st.booleans(), min_size=items, max_size=items))
    row = st.lists(st.integers(-1, items - 1), min_size=5, max_size=5)
    exclude = data.draw(st.none() | st.lists(row, min_size=USERS, max_size=USERS))
    k, width = data.draw(st.integers(1, 16)), data.draw(st.integers(1, 4))
    found, scores = search(
        codes, Table(levels, signals, seed=3), width=width, k=k,
        allowed=None if allowed is None else torch.tensor(allowed),
        exclude=None if exclude is None else torch.tensor(exclude),
    )  # fmt: skip
    assert found.shape == scores.shape == (USERS, k)
    for user in range(USERS):
        permitted = {
            item
            for item in range(items)
            if (allowed is None or allowed[item]) and (exclude is None or item not in exclude[user])
        }
        real = [item for item in found[user].tolist() if item >= 0]
        assert len(real) == min(k, len(permitted))
        assert len(set(real)) == len(real)
        assert set(real) <= permitted
        assert found[user, len(real) :].eq(-1).all()
        assert scores[user, len(real) :].eq(-torch.inf).all()
        assert scores[user, : len(real)].isfinite().all()
        assert scores[user, : len(real)].diff().le(0).all()


def test_a_narrow_beam_goes_where_the_permitted_items_are():
    # The first level all but rules out code 1, and only the item below it is permitted.
    codes = np.array([[[0], [0]], [[0], [1]], [[1], [0]]], dtype=np.uint16)
    table = Table(2, 1, seed=0)
    table.logits[0][:] = torch.tensor([9.0, -9.0, 0.0], device=DEVICE)
    found, _ = search(codes, table, width=1, k=1, exclude=torch.tensor([[0, 1]] * USERS))
    assert found.tolist() == [[2]] * USERS


def test_equal_scores_come_in_the_order_of_the_codes():
    codes = np.arange(SIZE)[::-1].astype(np.uint16).reshape(SIZE, 1, 1).copy()
    table = Table(1, 1, seed=0)
    table.logits[0][:] = 0.0
    found, _ = search(codes, table, width=2, k=2)
    assert found.tolist() == [[2, 1]] * USERS


def test_ranks_keep_the_order_of_floats():
    values = [float("-inf"), -3e38, -1.0, -1e-40, -0.0, 1e-40, 1.0, 3e38]
    numbers = sort_keys(torch.tensor(values, device=DEVICE), torch.zeros(len(values), dtype=torch.int64, device=DEVICE))
    assert numbers.diff().gt(0).all()
    same = sort_keys(torch.tensor([0.0, -0.0]), torch.tensor([0, 1]))
    assert same[0] > same[1]
    assert sort_keys(torch.tensor([1.0]), torch.tensor([2**31])) > sort_keys(
        torch.tensor([0.999999]), torch.tensor([0])
    )
