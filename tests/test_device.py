from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from bbqrec_cli import device
from bbqrec_cli.device import bound_kept_kernels, multiplies_bf16, resolve_precision

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


@pytest.mark.parametrize(("given", "expected"), [(None, "128"), ("7", "7")])
def test_a_users_own_limit_of_kept_kernels_stands(monkeypatch, given, expected):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setattr(os, "environ", {} if given is None else {name: given})
    bound_kept_kernels()
    assert os.environ[name] == expected


KEPT = """
import torch
from bbqrec_cli.device import bound_kept_kernels
if {bounded}:
    bound_kept_kernels()
w = torch.zeros(256, 128, dtype=torch.bfloat16)
for rows in range(64, 864):
    torch.zeros(rows, 128, dtype=torch.bfloat16) @ w.T
# Not ru_maxrss, which begins at what the process that started this one holds.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_fewer_kept_kernels_take_less_memory():
    """It must come before the first product, and does where torch is already imported."""
    if not torch.backends.mkldnn.is_available() or not multiplies_bf16():
        pytest.skip("oneDNN does not multiply bfloat16 here")
    peak = [
        int(
            subprocess.run([sys.executable, "-c", KEPT.format(bounded=bounded)], capture_output=True, check=True).stdout
        )
        for bounded in (False, True)
    ]
    assert peak[0] - peak[1] > 16 * 1024


def test_it_is_measured_on_one_thread(monkeypatch):
    """With more threads than free cores the times say nothing."""
    used = []
    monkeypatch.setattr(device, "_seconds_of_product", lambda matrix: used.append(torch.get_num_threads()) or 1.0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    multiplies_bf16.cache_clear()
    try:
        multiplies_bf16()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        multiplies_bf16.cache_clear()
    assert set(used) == {1}
