from __future__ import annotations

import itertools

import faiss
import numpy as np
import pytest
import torch
from vector_quantize_pytorch import ResidualVQ

from bbqrec_cli.tokenizers.quantization.residual import Quantized, ResidualQuantizer, nearest_code
from bbqrec_cli.training.checkpoint import load_checkpoint, save_checkpoint


def quantizer(books: torch.Tensor, *, signals: int = 1, alpha: float = 0.25) -> ResidualQuantizer:
    """With the codebooks (C, L, N, D); shared if C is 1."""
    _, levels, size, dim = books.shape
    made = ResidualQuantizer(
        signals=signals, levels=levels, codebook_size=size, dim=dim, shared=len(books) == 1, commitment=alpha
    )
    with torch.no_grad():
        made.codebooks.copy_(books)
    return made


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_loop(z: torch.Tensor, books: torch.Tensor, alpha: float) -> Quantized:
    """Eq. 5–7 and 9 as they stand, one item, signal and level at a time. z (n, M, D), books (C, L, N, D)."""
    codes = torch.zeros(len(z), books.shape[1], z.shape[1], dtype=torch.int64)
    sums, loss = torch.zeros_like(z), torch.zeros(z.shape[:2])
    for item in range(len(z)):
        for signal in range(z.shape[1]):
            residual = z[item, signal]
            for level, book in enumerate(books[signal if len(books) > 1 else 0]):
                distances = [float(((residual - code) ** 2).sum()) for code in book]
                codes[item, level, signal] = chosen = int(np.argmin(distances))
                loss[item, signal] += (1 + alpha) * distances[chosen]
                residual = residual - book[chosen]
                sums[item, signal] += book[chosen]
    return Quantized(sums, codes, loss)


@pytest.mark.parametrize("codebooks", [1, 3])
def test_against_the_equations_in_a_loop(codebooks):
    books, z = random(codebooks, 3, 7, 5), random(11, 3, 5, seed=1)
    found, expected = quantizer(books, signals=3, alpha=0.7)(z), by_loop(z, books, 0.7)
    assert torch.equal(found.codes, expected.codes)
    torch.testing.assert_close(found.vectors, expected.vectors)
    torch.testing.assert_close(found.loss, expected.loss)


def test_the_vectors_are_the_codes_sums_to_the_last_bit():
    books, z = random(1, 4, 9, 16), 100 * random(50, 2, 16, seed=1)
    found = quantizer(books, signals=2)(z)
    expected = torch.zeros_like(z)
    for level in range(4):
        expected += books[0, level][found.codes[:, level]]
    assert torch.equal(found.vectors, expected)


def test_same_codes_as_vector_quantize_pytorch():
    books, z = random(1, 3, 16, 8), random(200, 1, 8, seed=1)
    theirs = ResidualVQ(dim=8, num_quantizers=3, codebook_size=16).eval()
    for level, layer in enumerate(theirs.layers):
        layer._codebook.embed.data.copy_(books[0, level])
    vectors, codes, _ = theirs(z)
    mine = quantizer(books)(z)
    assert torch.equal(mine.codes[:, :, 0], codes[:, 0])
    torch.testing.assert_close(mine.vectors, vectors)


def test_same_codes_as_faiss():
    books, z = random(1, 3, 256, 8), random(300, 1, 8, seed=1)
    theirs = faiss.ResidualQuantizer(8, 3, 8)
    faiss.copy_array_to_vector(books.numpy().ravel(), theirs.codebooks)
    theirs.is_trained, theirs.max_beam_size = True, 1
    codes = theirs.compute_codes(z[:, 0].numpy())  # 8 bits a level: a byte each
    mine = quantizer(books)(z)
    np.testing.assert_array_equal(mine.codes[:, :, 0].numpy(), codes)
    np.testing.assert_allclose(mine.vectors[:, 0].detach(), theirs.decode(codes), rtol=1e-5, atol=1e-5)


def test_the_loss_and_its_gradients_by_hand():
    """z = 3, first level {0, 2}, second {0, 0.5}: 2 and 0.5 are chosen, 1 and then 0.5 are left over."""
    made = quantizer(torch.tensor([[[[0.0], [2.0]], [[0.0], [0.5]]]]), alpha=0.25)
    z = torch.tensor([[[3.0]]], requires_grad=True)
    found = made(z)
    assert found.codes.tolist() == [[[1], [1]]]
    assert found.vectors.item() == 2.5
    assert found.loss.item() == pytest.approx(1.25 * (1**2 + 0.5**2))
    found.loss.sum().backward()
    assert z.grad.item() == pytest.approx(0.25 * 2 * (1 + 0.5)), "only the commitment pulls z, at every level"
    assert made.codebooks.grad.flatten().tolist() == [0, -2 * 1, 0, -2 * 0.5], "only chosen codes move, towards z"


def test_straight_through():
    made, z = quantizer(random(1, 2, 5, 4), signals=2), random(6, 2, 4, seed=1).requires_grad_()
    weights = random(6, 2, 4, seed=2)
    (made(z).vectors * weights).sum().backward()
    assert torch.equal(z.grad, weights)
    assert made.codebooks.grad is None


def test_gradients_against_finite_differences():
    """The stop-gradient parts are held fixed, as eq. 9 says: z moves in the commitment, codes in the other half."""
    books, z, alpha, step = random(1, 2, 6, 3).double(), random(4, 2, 3, seed=1).double(), 0.3, 1e-6
    codes = by_loop(z.float(), books.float(), alpha).codes

    def half(z: torch.Tensor, books: torch.Tensor, fixed_z: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        total, pull, commit = torch.zeros((), dtype=torch.float64), fixed_z, z
        for level in range(2):
            moving, still = (each[0, level][codes[:, level]] for each in (books, fixed))
            total = total + (pull - moving).square().sum() + alpha * (commit - still).square().sum()
            pull, commit = pull - still, commit - still
        return total

    made, asked = quantizer(books.float(), signals=2, alpha=alpha), z.float().requires_grad_()
    made(asked).loss.sum().backward()
    for found, moved in ((asked.grad, "z"), (made.codebooks.grad, "books")):
        for at in np.ndindex(*found.shape):
            sides = []
            for sign in (1, -1):
                values = {"z": z.clone(), "books": books.clone()}
                values[moved][at] += sign * step
                sides.append(half(values["z"], values["books"], z, books))
            assert found[at].item() == pytest.approx(float(sides[0] - sides[1]) / (2 * step), abs=1e-4)


def clouds(signals: int, items: int = 60) -> torch.Tensor:
    """(items, M, 2): signal m scatters round (10·m, 0)."""
    return random(items, signals, 2) + torch.arange(signals).view(1, -1, 1) * torch.tensor([10.0, 0.0])


def test_one_codebook_serves_all_signals_or_each_its_own():
    z, every = clouds(2), torch.ones(60, 2, dtype=torch.bool)
    made = {}
    for shared in (True, False):
        made[shared] = ResidualQuantizer(signals=2, levels=2, codebook_size=6, dim=2, shared=shared, commitment=0.25)
        made[shared].initialise(z, every, seed=0)
    assert made[True].codebooks.shape == (1, 2, 6, 2)
    near = made[True].codebooks[0, 0, :, 0] > 5
    assert 0 < near.sum() < 6, "both signals' clouds have codes of the shared book"
    assert made[False].codebooks.shape == (2, 2, 6, 2)
    assert (made[False].codebooks[0, 0, :, 0] < 5).all()
    assert (made[False].codebooks[1, 0, :, 0] > 5).all()
    assert len(made[False](z).codes[:, 0].unique()) == 6


@pytest.mark.parametrize("shared", [True, False])
def test_absent_signals_are_not_clustered(shared):
    z, present = clouds(2), torch.ones(60, 2, dtype=torch.bool)
    present[::7, 1] = False
    books = []
    for rubbish in (0.0, 1e6):
        z[::7, 1] = rubbish
        made = ResidualQuantizer(signals=2, levels=2, codebook_size=4, dim=2, shared=shared, commitment=0.25)
        made.initialise(z, present, seed=0)
        books.append(made.codebooks.detach())
    assert torch.equal(*books)
    assert books[0].abs().max() < 20


def test_later_levels_cluster_what_the_earlier_ones_leave():
    z, every = random(500, 1, 4), torch.ones(500, 1, dtype=torch.bool)
    made = ResidualQuantizer(signals=1, levels=3, codebook_size=16, dim=4, shared=True, commitment=0.25)
    made.initialise(z, every, seed=0)
    left = [z.square().sum().item()]
    for level in range(1, 4):
        part = quantizer(made.codebooks.detach()[:, :level])
        left.append((z - part(z).vectors).square().sum().item())
    assert all(after < 0.6 * before for before, after in itertools.pairwise(left))


def test_initialised_survives(tmp_path):
    z, every = random(30, 1, 2), torch.ones(30, 1, dtype=torch.bool)
    made = ResidualQuantizer(signals=1, levels=1, codebook_size=4, dim=2, shared=True, commitment=0.25)
    fresh = ResidualQuantizer(signals=1, levels=1, codebook_size=4, dim=2, shared=True, commitment=0.25)
    assert not made.initialised
    made.initialise(z, every, seed=0)
    save_checkpoint(tmp_path / "c.h5", {"model": made.state_dict()}, {})
    fresh.load_state_dict(load_checkpoint(tmp_path / "c.h5", {})["model"])
    assert fresh.initialised
    assert torch.equal(fresh.codebooks, made.codebooks)


def test_nearest_codes_in_blocks_and_whatever_autocast_says():
    books, z = random(2, 50, 8), random(40, 2, 8, seed=1)
    expected = torch.cdist(z.transpose(0, 1).double(), books.double()).argmin(2).T
    assert torch.equal(nearest_code(z, books), expected)
    assert torch.equal(nearest_code(z, books, largest=300), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest_code(z, books), expected)
