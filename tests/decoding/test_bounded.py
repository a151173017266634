"""The searches that decode only what they need, against the plain beam and an enumeration of all items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from decoding.test_beam import DEVICE, SIZE, USERS, Table, search, some_codes
from decoding.test_best_first import brute, ranked, start
from hypothesis import given, settings
from hypothesis import strategies as st

from bbqrec_cli.decoding import bounded as module
from bbqrec_cli.decoding.beam import Permitted
from bbqrec_cli.decoding.bounded import bounded_beam_search, bounded_search
from bbqrec_cli.decoding.trie import Trie


def bounded(codes, table, *, width=None, k, allowed=None, exclude=None, over_children=True):
    """The answer of a beam, None: of the exact search, and the number of prefixes decoded per level."""
    trie, decoded = Trie(codes).to(DEVICE), [0] * table.levels
    allowed, exclude = (None if given is None else given.to(DEVICE) for given in (allowed, exclude))
    expand = start(trie, table, torch.arange(USERS, device=DEVICE))

    def counting(level, users, *rest):
        decoded[level] += len(users)
        return expand(level, users, *rest)

    options = {"k": k, "permitted": Permitted.of(trie, allowed, exclude, USERS), "over_children": over_children}
    if width is None:
        return *bounded_search(trie, counting, **options), decoded
    return *bounded_beam_search(trie, counting, width=width, **options), decoded


def some_options(data, items: int) -> dict[str, Any]:
    allowed = data.draw(st.none() | st.lists(st.booleans(), min_size=items, max_size=items))
    row = st.lists(st.integers(-1, items - 1), min_size=3, max_size=3)
    exclude = data.draw(st.none() | st.lists(row, min_size=USERS, max_size=USERS))
    return {
        "k": data.draw(st.integers(1, 4)), "over_children": data.draw(st.booleans()),
        "allowed": None if allowed is None else torch.tensor(allowed),
        "exclude": None if exclude is None else torch.tensor(exclude),
    }  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_it_finds_what_the_plain_beam_finds(data):
    items, levels, signals = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 2))
    codes, seed = some_codes(items, levels, signals, seed=data.draw(st.integers(0, 5))), data.draw(st.integers(0, 20))
    options = some_options(data, items) | {"width": data.draw(st.integers(1, 15))}
    tables = [Table(levels, signals, seed=seed) for _ in range(2)]
    for table in tables:
        for logits in table.logits:
            # Sure enough that a bound leaves something out; rounded, so that there are ties.
            logits.mul_(3).round_()
    items_found, scores, _ = bounded(codes, tables[0], **options)
    expected, theirs = search(codes, tables[1], **options)
    torch.testing.assert_close(items_found, expected, atol=0, rtol=0)
    torch.testing.assert_close(scores, theirs, atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_an_exact_search_that_says_so_has_the_best_of_all_items(data):
    items, levels, signals = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    codes, table = some_codes(items, levels, signals, seed=data.draw(st.integers(0, 5))), Table(levels, signals, seed=3)
    options, room = some_options(data, items), data.draw(st.sampled_from([1, 3, 5, 12, 512]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROOM", room)
        patch.setattr(module, "SORTED", data.draw(st.sampled_from([1, 2, 64])))
        patch.setattr(module, "WORTH", data.draw(st.integers(1, 3)))
        found, best, right, _ = bounded(codes, table, **options)
    scores = brute(codes, table, over_children=options["over_children"])
    for user in range(USERS):
        gone = [] if options["exclude"] is None else [item for item in options["exclude"][user].tolist() if item >= 0]
        if options["allowed"] is not None:
            gone += (~options["allowed"]).nonzero()[:, 0].tolist()
        scores[user, gone] = -np.inf
        expected = ranked(scores[user], codes)[: options["k"]]
        assert right[user] or room < items
        if right[user]:
            assert found[user].tolist() == expected + [-1] * (options["k"] - len(expected))
            close = torch.from_numpy(scores[user, expected])
            torch.testing.assert_close(best[user, : len(expected)].cpu().double(), close, atol=1e-5, rtol=1e-5)


def test_where_the_wide_beam_drops_what_the_narrow_one_kept_the_answer_is_the_wide_ones(monkeypatch):
    monkeypatch.setattr(module, "NARROW", 1)
    monkeypatch.setattr(module, "WORTH", 2)
    codes = np.array([[0, 0, 0], *([1, b, c] for b in range(2) for c in range(3))], dtype=np.uint16).reshape(-1, 3, 1)
    # A beam of one goes to code 0 and finds an ID with P .2. One of two drops that for two prefixes with .22 each,
    # below which no ID has more than .074.
    tables = [Table(3, 1, seed=0) for _ in range(2)]
    for table in tables:
        table.logits[0][:, 0] = torch.tensor([0.5, 0.45, 0.05], device=DEVICE).log()
        table.logits[1][:, 0] = torch.tensor([0.4, 0.3, 0.3], device=DEVICE).log()
        table.logits[1][:, 1] = torch.tensor([0.49, 0.49, 0.02], device=DEVICE).log()
        table.logits[2][:, 0] = torch.tensor([99.0, 0.0, 0.0], device=DEVICE)
        table.logits[2][:, 3:5] = 0.0
    found, scores, decoded = bounded(codes, tables[0], width=2, k=1, over_children=False)
    expected, theirs = search(codes, tables[1], width=2, k=1, over_children=False)
    assert found.tolist() == expected.tolist() == [[1]] * USERS
    torch.testing.assert_close(scores, theirs)
    torch.testing.assert_close(scores[0, 0].cpu(), torch.tensor(0.45 * 0.49 / 3).log())
    assert decoded == [USERS, 4 * USERS, 5 * USERS], "the narrow beam, what it left out, and all of the wide one"


@pytest.mark.parametrize("over_children", [True, False])
def test_what_cannot_reach_the_answer_is_not_decoded(over_children):
    # Two levels of 27 tuples; one first code is all but certain, and 9 items are below it.
    codes = torch.cartesian_prod(*[torch.arange(SIZE)] * 4).reshape(-1, 2, 2).numpy().astype("uint16")
    table = Table(2, 2, seed=0)
    table.logits[0][:] = torch.tensor([9.0, 0.0, 0.0], device=DEVICE)
    for width in (None, 9):
        _, _, *_, decoded = bounded(codes, table, width=width, k=3, over_children=over_children)
        assert decoded == [USERS, 6 * USERS], "the narrow beam's six prefixes of nine"


@pytest.mark.parametrize("width", [None, 9])
def test_a_certain_id_bounds_what_is_decoded_before_the_narrow_beam_ends(width):
    # Below code 0 is one ID; below code 1 are three, which share a second code and are less probable.
    codes = np.array([[0, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 2]], dtype=np.uint16).reshape(-1, 3, 1)
    table = Table(3, 1, seed=0)
    table.logits[0][:] = torch.tensor([1.0, 0.0, 0.0], device=DEVICE)
    found, _, *_, decoded = bounded(codes, table, width=width, k=1)
    assert found.tolist() == [[0]] * USERS
    assert decoded == [USERS, 0, 0]


def test_an_id_that_is_certain_is_not_decoded():
    codes = torch.tensor([[0, 2], [1, 1], [2, 0]]).numpy().astype("uint16").reshape(3, 2, 1)
    for over_children, below in ((True, 0), (False, 3 * USERS)):
        found, _, decoded = bounded(codes, Table(2, 1, seed=0), width=3, k=3, over_children=over_children)
        assert decoded == [USERS, below]
        assert found.sort(dim=1).values.tolist() == [[0, 1, 2]] * USERS
