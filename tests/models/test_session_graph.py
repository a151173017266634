from __future__ import annotations

import pytest
import torch
from helpers import one_session
from hypothesis import given, settings
from hypothesis import strategies as st

from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.session_graph import SessionGraphEncoder, session_graphs

WIDTH = 6


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def encoder(steps: int = 1) -> SessionGraphEncoder:
    torch.manual_seed(0)
    return SessionGraphEncoder(WIDTH, steps=steps, dropout=0.3).eval()


def padded(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor([row + [PAD] * (max(map(len, rows)) - len(row)) for row in rows])


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=7), min_size=1, max_size=4), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_every_position_is_the_prefix_alone(rows, steps):
    """With repeats, loops of an item to itself, and other users beside it."""
    made, table, items = encoder(steps), random(5, WIDTH), padded(rows)
    with torch.no_grad():
        found = made(torch.where((items != PAD).unsqueeze(2), table[items.clamp(min=0)], 0.0), items)
        for user, row in enumerate(rows):
            for stop in range(1, len(row) + 1):
                expected = one_session(made, table, row[:stop])
                torch.testing.assert_close(found[user, stop - 1], expected, rtol=1e-4, atol=1e-5)


def test_a_later_item_changes_no_earlier_answer():
    made, table = encoder(2), random(9, WIDTH)
    session = torch.tensor([[3, 1, 3, 4, 1]])
    before = made(table[session], session)[0]
    for changed in range(5):
        for other in (8, 3):
            session_now = session.clone()
            session_now[0, changed] = other
            after = made(table[session_now], session_now)[0]
            torch.testing.assert_close(before[:changed], after[:changed], rtol=0, atol=1e-6)
            if other == 8:
                assert not torch.allclose(before[changed], after[changed], atol=1e-4)


def test_no_gradient_from_the_future():
    made, session = encoder(2), torch.tensor([[3, 1, 3, 4, 1]])
    vectors = random(1, 5, WIDTH).requires_grad_()
    for position in range(5):
        (gradient,) = torch.autograd.grad(made(vectors, session)[0, position].sum(), vectors, retain_graph=True)
        assert not gradient[0, position + 1 :].any()


def test_graphs_by_hand():
    """a b a c: a leads to b once and to c once, b to a."""
    node, incoming, outgoing = session_graphs(torch.tensor([[7, 2, 7, 5]]))
    assert node.tolist() == [[0, 1, 0, 3]]
    assert not incoming[0, 0].any()
    assert not outgoing[0, 0].any()
    assert outgoing[0, 1].nonzero().tolist() == [[0, 1]]
    assert incoming[0, 1].nonzero().tolist() == [[1, 0]]
    whole = torch.zeros(4, 4)
    whole[0, 1] = whole[0, 3] = 0.5
    whole[1, 0] = 1
    assert torch.equal(outgoing[0, 3], whole)
    assert incoming[0, 3].nonzero().tolist() == [[0, 1], [1, 0], [3, 0]]


@pytest.mark.parametrize("length", [1, 4])
def test_padding_says_nothing(length):
    made, table = encoder(), random(9, WIDTH)
    session = torch.arange(length).unsqueeze(0)
    more = torch.cat([session, torch.full((1, 3), PAD)], dim=1)
    vectors = torch.cat([table[session], torch.full((1, 3, WIDTH), 5.0)], dim=1)
    torch.testing.assert_close(made(vectors, more)[:, :length], made(table[session], session))
