from __future__ import annotations

import pytest
import torch

from bbqrec_cli import device
from bbqrec_cli.device import multiplies_bf16, resolve_precision

CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch):
    """Set the seconds of each product of both precisions; the measurements so far are forgotten, before and after."""

    def set_seconds(fp32: list[float], bf16: list[float]) -> list[torch.dtype]:
        asked, left = list[torch.dtype](), {torch.float32: iter(fp32), torch.bfloat16: iter(bf16)}

        def seconds(matrix: torch.Tensor) -> float:
            asked.append(matrix.dtype)
            return next(left[matrix.dtype])

        monkeypatch.setattr(device, "_seconds_of_product", seconds)
        multiplies_bf16.cache_clear()
        return asked

    yield set_seconds
    multiplies_bf16.cache_clear()


@pytest.mark.parametrize(
    ("fp32", "bf16", "expected"),
    [
        ([9.0, 2, 2, 2, 2], [9.0, 1, 1, 1, 1], "bf16"),
        ([9.0, 1, 1, 1, 1], [9.0, 7, 7, 7, 7], "fp32"),
        ([9.0, 1.1, 1.1, 1.1, 1.1], [1.0, 1, 1, 1, 1], "fp32"),  # too near to count
        ([9.0, 9, 9, 9, 2], [9.0, 9, 1, 9, 9], "bf16"),  # the least time of each: others run on the machine
    ],
)
def test_auto_takes_what_is_measured_to_be_faster(fp32, bf16, expected, measured):
    asked = measured(fp32, bf16)
    assert resolve_precision("auto", CPU) == expected
    assert asked == [torch.float32, torch.bfloat16] * 5, "in turn"
    assert resolve_precision("auto", CPU) == expected
    assert len(asked) == 10, "measured once"


def test_a_precision_that_is_given_is_not_measured(measured):
    asked = measured([], [])
    assert [resolve_precision(name, CPU) for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert not asked


def test_measuring_draws_no_random_numbers():
    """Else `--precision auto` would change what a seed gives."""
    multiplies_bf16.cache_clear()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    multiplies_bf16()
    assert torch.equal(torch.random.get_rng_state(), before)
