"""The dropout of our own against what dropout is."""

from __future__ import annotations

import pytest
import torch

from bbqrec_cli.models.layers import Dropout


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def dropped(p: float, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What dropout makes of numbers that are not zero, and those numbers."""
    x = 1 + torch.rand(*shape)
    return Dropout(p)(x), x


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_the_share_of_zeros_and_what_is_left(p):
    made, x = dropped(p, 500, 1003)
    share = round(256 * p) / 256
    zeros = made == 0
    assert abs(zeros.float().mean() - share) < 4 * (share * (1 - share) / x.numel()) ** 0.5
    torch.testing.assert_close(made[~zeros], x[~zeros] / (1 - share))
    by_row, by_column = (zeros.float().mean(axis) for axis in (1, 0))
    for shares, size in ((by_row, 1003), (by_column, 500)):
        spread = (share * (1 - share) / size) ** 0.5
        assert shares.std() == pytest.approx(spread, rel=0.15), "no row and no column is dropped together"
    assert float(made.mean()) == pytest.approx(float(x.mean()), rel=0.02)


@pytest.mark.parametrize("shape", [(1,), (6,), (7,), (8,), (3, 5), (2, 3, 11), (0, 4)])
def test_any_size(shape):
    """A draw is of seven bytes; what the last one has too many is cut off."""
    made, x = dropped(0.5, *shape)
    assert made.shape == shape
    assert ((made == 0) | (made == 2 * x)).all()


def test_each_place_is_dropped_as_often_as_another():
    """Also the last byte of a draw, and the last draw that is not used whole."""
    layer, x = Dropout(0.25), torch.ones(20)
    zeros = sum((layer(x) == 0).float() for _ in range(4000)) / 4000
    assert (zeros - 0.25).abs().max() < 4.5 * (0.25 * 0.75 / 4000) ** 0.5


def test_the_gradient_goes_where_the_value_went():
    x = torch.rand(40, 9, requires_grad=True)
    made = Dropout(0.5)(x)
    made.sum().backward()
    assert torch.equal(x.grad, (made != 0).float() * 2)
    assert 0 < (x.grad == 0).float().mean() < 1


def test_each_call_draws_anew_and_the_seed_decides():
    layer, x = Dropout(0.5), torch.ones(100)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first)


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_nothing_is_dropped(p, training):
    x = torch.rand(50)
    assert torch.equal(Dropout(p).train(training)(x), x)


def test_half_precision_stays():
    made = Dropout(0.25)(torch.ones(1000, dtype=torch.bfloat16))
    assert made.dtype == torch.bfloat16
    assert set(made.tolist()) == {0.0, torch.tensor(4 / 3, dtype=torch.bfloat16).item()}
