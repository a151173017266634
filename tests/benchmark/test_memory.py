from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bbqrec_cli.benchmark import memory
from bbqrec_cli.benchmark.costs import over_seeds
from bbqrec_cli.benchmark.run import BenchmarkConfig, run


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts it")
def test_the_peak_is_of_what_came_after_the_beginning():
    big = np.ones(30_000_000)  # 240 MB
    memory.begin()
    with_it = memory.peak()["peak_memory_mb"]
    del big
    memory.begin()
    without = memory.peak()["peak_memory_mb"]
    assert 200 < with_it - without < 280
    again = np.ones(20_000_000)
    del again
    assert 130 < memory.peak()["peak_memory_mb"] - without < 190, "the peak, not what there is now"


def test_it_is_in_the_record_and_in_a_table(folder, fake):
    made = run(BenchmarkConfig(suite=str(folder / "suite.toml"), output=folder / "work", device="cpu"))
    cell = next(each for each in made.cells if each["system"] == "sasrec")
    assert cell["memory"]["train"] is None or cell["memory"]["train"] > 10
    assert (cell["memory"]["train"] is None) == (sys.platform != "linux")
    assert cell["gpu_memory"]["train"] is None


def test_the_unit(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda path: "Name: x\nVmHWM:\t1000 kB\n")
    assert memory.peak()["peak_memory_mb"] == 1.024


def test_of_several_seeds_the_most():
    cells = [{"system": "a", "data": "", "seconds": value / 10, "memory": {"train": value}} for value in (100, 200)]
    result = SimpleNamespace(of=lambda status: cells)
    assert over_seeds(result, "", "memory/train") == {"a": 200}
    assert over_seeds(result, "", "seconds") == {"a": 15}
