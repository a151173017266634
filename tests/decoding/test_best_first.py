"""Best-first search against an enumeration of all items and against the beam."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from decoding.test_beam import DEVICE, SIZE, USERS, Table, search, some_codes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bbqrec_cli.decoding import best_first as module
from bbqrec_cli.decoding.beam import Permitted
from bbqrec_cli.decoding.best_first import OtherScores, best_first
from bbqrec_cli.decoding.trie import Trie

SHARE = 0.4


def start(trie: Trie, table: Table, users: Tensor):
    """An `Expand` for rows `users` of the table's, that keeps the prefixes expanded per level."""
    kept = [torch.zeros(0, dtype=torch.int64, device=DEVICE) for _ in range(table.levels)]

    def expand(level: int, part: Tensor, parent: Tensor, nodes: Tensor):
        assert part.diff().ge(0).all()
        prefix = torch.zeros_like(parent)
        if level:
            prefix, codes = kept[level - 1][parent], trie.codes(level - 1)[nodes]
            for signal in range(table.signals):
                prefix = prefix * SIZE + codes[:, signal]
        kept[level] = torch.cat([kept[level], prefix])
        return table.logits[level][users[part], prefix], None

    return expand


def exact(codes: np.ndarray, table: Table, *, k: int, allowed=None, exclude=None, over_children=True, dense=None):
    trie = Trie(codes).to(DEVICE)
    allowed, exclude = (None if given is None else given.to(DEVICE) for given in (allowed, exclude))
    permitted = Permitted.of(trie, allowed, exclude, USERS)
    head = None if dense is None else OtherScores.of(trie, dense.to(DEVICE), permitted, torch.tensor(SHARE))
    return best_first(
        trie, lambda users: start(trie, table, users), k=k, permitted=permitted, over_children=over_children, head=head
    )


def brute(codes: np.ndarray, table: Table, *, over_children: bool) -> np.ndarray:
    """log P of all items by enumeration, (B, I)."""
    catalogue = codes.astype(int)
    given = catalogue if over_children else None
    return np.array([[table.log_probability(user, item, given) for item in catalogue] for user in range(USERS)])


def ranked(scores: np.ndarray, codes: np.ndarray) -> list[int]:
    """Items with finite scores, best first, equal ones by code and row."""
    flat = codes.reshape(len(codes), -1).astype(int).tolist()
    order = sorted(range(len(codes)), key=lambda item: (-scores[item].round(5), flat[item], item))
    return [item for item in order if np.isfinite(scores[item])]


@pytest.fixture(params=[(1, 1, 4), (2, 3, 2), (12, 128, 8)], ids=["tiny", "small", "as it is"])
def limits(request, monkeypatch):
    for name, value in zip(("AT_ONCE", "KEPT", "GROWTH"), request.param, strict=True):
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("over_children", [True, False])
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize(("levels", "signals"), [(1, 1), (4, 1), (1, 3), (2, 2), (3, 2)])
def test_the_best_of_all_items(levels, signals, second, over_children, limits):
    codes, table = some_codes(14, levels, signals, seed=levels), Table(levels, signals, seed=7)
    scores, dense = brute(codes, table, over_children=over_children), None
    if second:
        dense = torch.from_numpy(np.random.default_rng(1).normal(-4, 2, scores.shape)).float()
        same = (codes.reshape(14, 1, -1) == codes.reshape(1, 14, -1)).all(2).sum(1)
        scores = SHARE * (scores - np.log(same)) + dense.double().numpy()
    for k in (1, 3, 14, 20):
        items, found = exact(codes, table, k=k, over_children=over_children, dense=dense)
        assert items.shape == found.shape == (USERS, k)
        for user in range(USERS):
            expected = ranked(scores[user], codes)[:k]
            assert items[user].tolist() == expected + [-1] * (k - len(expected))
            close = torch.from_numpy(scores[user, expected])
            torch.testing.assert_close(found[user, : len(expected)].cpu().double(), close, atol=1e-5, rtol=1e-5)
            assert found[user, len(expected) :].eq(-torch.inf).all()


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_filters_and_exclusions_and_never_below_a_beam(data):
    items, levels, signals = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    codes, over_children = (
        some_codes(items, levels, signals, seed=data.draw(st.integers(0, 5))),
        data.draw(st.booleans()),
    )
    allowed = data.draw(st.none() | st.lists(st.booleans(), min_size=items, max_size=items))
    row = st.lists(st.integers(-1, items - 1), min_size=5, max_size=5)
    exclude = data.draw(st.none() | st.lists(row, min_size=USERS, max_size=USERS))
    second = data.draw(st.booleans())
    k, width = data.draw(st.integers(1, 16)), data.draw(st.integers(1, 4))
    table = Table(levels, signals, seed=3)
    options = {
        "k": k, "over_children": over_children, "allowed": None if allowed is None else torch.tensor(allowed),
        "exclude": None if exclude is None else torch.tensor(exclude),
    }  # fmt: skip
    scores, dense = brute(codes, table, over_children=over_children), None
    _, of_beam = search(codes, table, width=width, **options)
    if second:
        dense = torch.from_numpy(np.random.default_rng(1).normal(-4, 2, scores.shape)).float()
        same = (codes.reshape(items, 1, -1) == codes.reshape(1, items, -1)).all(2).sum(1)
        scores = SHARE * (scores - np.log(same)) + dense.double().numpy()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AT_ONCE", "KEPT"):
            patch.setattr(module, name, data.draw(st.integers(1, 6)))
        found, best = exact(codes, table, dense=dense, **options)
    for user in range(USERS):
        gone = [i for i in range(items) if (allowed and not allowed[i]) or (exclude is not None and i in exclude[user])]
        scores[user, gone] = -np.inf
        expected = ranked(scores[user], codes)[:k]
        assert found[user].tolist() == expected + [-1] * (k - len(expected))
        if not second:
            # Place by place, no beam has a better item.
            assert (best[user] >= of_beam[user] - 1e-5).all()


def test_equal_scores_come_in_the_order_of_the_codes_and_colliding_items_of_the_rows():
    codes = np.array([[2, 1], [0, 1], [2, 1], [1, 0], [0, 0], [2, 0]], dtype=np.uint16).reshape(6, 2, 1)
    table = Table(2, 1, seed=0)
    for logits in table.logits:
        logits[:] = 0.0
    for k in range(1, 7):
        found, _ = exact(codes, table, k=k, over_children=False)
        assert found.tolist() == [[4, 1, 3, 5, 0, 2][:k]] * USERS


def test_what_is_certain_is_not_decoded():
    # Below each first code one ID: nothing follows the first step.
    codes = np.array([[0, 2], [1, 1], [2, 0]], dtype=np.uint16).reshape(3, 2, 1)
    table, levels = Table(2, 1, seed=0), []

    def counting(users: Tensor):
        expand = start(trie, table, users)
        return lambda level, *rest: levels.append(level) or expand(level, *rest)

    trie = Trie(codes).to(DEVICE)
    options = {"k": 3, "permitted": Permitted.of(trie, None, None, USERS)}
    best_first(trie, counting, over_children=True, **options)
    assert levels == [0]
    best_first(trie, counting, over_children=False, **options)
    assert levels.count(1) == 1, "three prefixes per user, in one round"
