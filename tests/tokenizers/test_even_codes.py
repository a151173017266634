"""Codes that a batch uses evenly, against other ways to solve the same problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from bbqrec_cli.tokenizers.quantization.residual import ResidualQuantizer, choose_code, nearest_code
from bbqrec_cli.tokenizers.quantization.sinkhorn import even_codes, transport


def drawn(items: int, codes: int, *, seed: int = 0) -> np.ndarray:
    """Squared distances of items that crowd around a few of the codes."""
    generator = np.random.default_rng(seed)
    books, crowd = generator.standard_normal((codes, 3)), 0.3 * generator.standard_normal((items, 3))
    return ((crowd[:, None] - books[None]) ** 2).sum(2)


def by_rows_and_columns(distances: np.ndarray, *, epsilon: float, rounds: int) -> np.ndarray:
    """The textbook's: centre on [-1, 1], exponentials, then normalise items and codes in turn."""
    low, high = distances.min(), distances.max()
    plan = np.exp(-(2 * (distances - low) / (high - low) - 1) / epsilon)
    for _ in range(rounds):
        plan /= plan.sum(1, keepdims=True)
        plan /= plan.sum(0, keepdims=True)
    return plan.argmax(1)


@pytest.mark.parametrize("rounds", [1, 2, 50])
@pytest.mark.parametrize("epsilon", [0.003, 0.05, 1.0])
def test_as_many_rounds_of_the_textbooks(rounds, epsilon):
    distances = drawn(60, 12)
    found = even_codes(torch.from_numpy(distances), epsilon=epsilon, iterations=rounds)
    assert found.tolist() == by_rows_and_columns(distances, epsilon=epsilon, rounds=rounds).tolist()


@pytest.mark.parametrize(("items", "codes"), [(40, 7), (9, 9), (5, 12), (1, 6)])
def test_the_same_shares_as_for_items_that_share_an_id(items, codes):
    """`transport` measures ε by the whole range of the costs, this one by half of it."""
    for seed in range(5):
        distances = drawn(items, codes, seed=seed)
        shares = transport(distances, epsilon=0.05, iterations=20_000, tolerance=1e-10)
        found = even_codes(torch.from_numpy(distances), epsilon=0.1, iterations=5000).numpy()
        np.testing.assert_allclose(shares[np.arange(items), found], shares.max(1), atol=1e-6)


@pytest.mark.parametrize(("items", "codes"), [(12, 4), (4, 7)])
def test_small_epsilon_is_the_linear_program(items, codes):
    """Three items for each code, or for each item a code of its own: the best plan has no parts of items."""
    distances = drawn(items, codes, seed=3)
    mass = np.full(codes, max(items / codes, 1.0))
    per_code, per_item = np.kron(np.ones(items), np.eye(codes)), np.kron(np.eye(items), np.ones(codes))
    best = linprog(distances.ravel(), A_ub=per_code, b_ub=mass, A_eq=per_item, b_eq=np.ones(items))
    found = even_codes(torch.from_numpy(distances), epsilon=0.005, iterations=20_000)
    assert found.tolist() == best.x.reshape(items, codes).argmax(1).tolist()
    assert found.tolist() != distances.argmin(1).tolist()


def test_all_codes_are_used_alike():
    """A thousand items that crowd around a few of 64 codes."""
    distances = torch.from_numpy(drawn(1024, 64))
    nearest = torch.bincount(distances.argmin(1), minlength=64)
    even = torch.bincount(even_codes(distances, epsilon=0.003), minlength=64)
    assert (nearest == 0).sum() > 20
    assert even.min() >= 8
    assert even.max() <= 32


def test_fewer_items_than_codes():
    """Each takes a code of its own, and a single one the nearest."""
    distances = torch.from_numpy(drawn(6, 9, seed=1))
    assert len(set(distances.argmin(1).tolist())) < 6
    assert len(set(even_codes(distances, epsilon=0.003).tolist())) == 6
    for one in distances:
        assert even_codes(one[None], epsilon=0.003).tolist() == [one.argmin().item()]


def test_items_that_do_not_differ():
    """Their shares are equal, so nothing but the distance decides; constant distances: the first code."""
    twins = torch.tensor([[0.3, 0.1, 0.9, 0.2]]).repeat(8, 1)
    assert even_codes(twins, epsilon=0.003).tolist() == [1] * 8
    assert even_codes(torch.full((8, 4), 7.0), epsilon=0.003).tolist() == [0] * 8
    assert even_codes(torch.zeros(2, 4), epsilon=0.003).tolist() == [0, 0]


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("epsilon", [1e-9, 0.003, 1.0])
def test_no_overflow(scale, epsilon):
    """One item that is a million times further off than the others, in whatever unit."""
    distances = scale * torch.from_numpy(drawn(20, 5))
    distances[3] *= 1e6
    found = even_codes(distances, epsilon=epsilon)
    assert found.tolist() == even_codes(distances / scale, epsilon=epsilon).tolist()
    assert found.min() >= 0
    assert found.max() < 5


def quantizer(*, levels: int = 3, codes: int = 8, shared: bool = True) -> ResidualQuantizer:
    torch.manual_seed(0)
    made = ResidualQuantizer(signals=2, levels=levels, codebook_size=codes, dim=4, shared=shared, commitment=0.25)
    with torch.no_grad():
        made.codebooks.normal_()
    return made


@pytest.mark.parametrize("shared", [True, False])
def test_the_last_level_alone(shared):
    """The levels above take the nearest codes; values, vectors and loss follow the codes that were chosen."""
    made, z = quantizer(shared=shared), 0.3 * torch.randn(64, 2, 4)
    nearest, even = made(z), made(z, sinkhorn=0.003)
    torch.testing.assert_close(nearest.codes[:, :-1], even.codes[:, :-1], rtol=0, atol=0)
    residual = z.clone()
    for level in range(2):
        for signal in range(2):
            residual[:, signal] -= made.codebooks[0 if shared else signal, level][even.codes[:, level, signal]]
    for signal in range(2):
        book = made.codebooks[0 if shared else signal, -1]
        distances = (residual[:, signal, None] - book).square().sum(2).detach()
        chosen = even.codes[:, -1, signal]
        assert chosen.tolist() == by_rows_and_columns(distances.double().numpy(), epsilon=0.003, rounds=50).tolist()
        assert chosen.tolist() != nearest.codes[:, -1, signal].tolist()
        vector = z[:, signal] - residual[:, signal] + book[chosen]
        torch.testing.assert_close(even.vectors[:, signal], vector)
    assert (even.loss.mean() > nearest.loss.mean()).item(), "no longer the nearest"
    even.loss.sum().backward()
    assert made.codebooks.grad is not None


def test_autocast_changes_nothing():
    made, z = quantizer(), torch.randn(64, 2, 4)
    expected = made(z, sinkhorn=0.003)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = made(z, sinkhorn=0.003)
    assert found.codes.equal(expected.codes)


def test_no_epsilon_is_the_nearest_code():
    books, vectors = torch.randn(2, 8, 4), torch.randn(30, 2, 4)
    assert choose_code(vectors, books, sinkhorn=0.0).equal(nearest_code(vectors, books))
    assert not choose_code(vectors, books, sinkhorn=0.003).equal(nearest_code(vectors, books))
