"""`make gpu-check`, on the CPU in place of a GPU; and what its verdicts are made of."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def report():
    from tools.gpu_check.report import Report

    return Report(part="some")


def test_what_is_within_its_tolerance_and_what_is_not(report):
    report.near("absolute", 0.25, 0.26, absolute=0.02)
    report.near("too far", 0.25, 0.28, absolute=0.02)
    report.near("relative", 200.0, 200.01, relative=1e-4)
    report.near("too far", 200.0, 200.03, relative=1e-4)
    report.near("zero", 0.0, 0.0, relative=0.0)
    report.most("share", 0.99, 0.99)
    report.most("too few", 0.98, 0.99)
    report.small("error", 1e-5, 1e-4)
    report.small("too large", 1e-3, 1e-4)
    assert [check.passed for check in report.checks] == [True, False, True, False, True, True, False, True, False]
    assert report.failures == 4


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_never_passes(report, value):
    report.near("absolute", 1.0, value, absolute=1.0)
    report.near("relative", 1.0, value, relative=1.0)
    report.small("error", value, 1.0)
    assert report.failures == 3


def test_a_part_that_ended_early_has_failed(report, tmp_path):
    from tools.gpu_check.report import Table, read_report

    report.error = "RuntimeError: no"
    report.skipped.append("something")
    report.tables.append(Table(title="t", columns=["a"], rows=[["1"]]))
    report.most("share", 1.0, 1.0)
    assert report.failures == 1
    report.write(tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


def test_what_raises_has_failed_and_the_part_goes_on(report, capsys):
    with report.guarded("first"):
        raise ValueError("long\nstory\n")
    with report.guarded("second"):
        report.most("share", 1.0, 1.0)
    assert [(check.what, check.passed) for check in report.checks] == [("first", False), ("share", True)]
    assert report.checks[0].device == "ValueError: story"
    assert "Traceback" in capsys.readouterr().err


def test_relative_error_by_hand():
    from tools.gpu_check.report import relative_error

    assert relative_error([np.array([3.0, 5.0]), np.array([0.0])], [np.array([3.0, 4.0]), np.array([0.0])]) == 0.2
    assert relative_error([np.zeros(2)], [np.zeros(2)]) == 0
    assert math.isnan(relative_error([np.array([math.nan])], [np.ones(1)]))


def test_pages_name_no_folders():
    from tools.gpu_check.page import without_paths

    assert without_paths("/tmp/x-1/chain.h5: no such file") == "chain.h5: no such file"
    kept = "1/2 of tests/models/test_base and https://example.org/a/b"
    assert without_paths(kept) == kept


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "tools.gpu_check", "--device", "cpu", "--quick", "--output", str(folder / "gpu.md")]
    return subprocess.run(
        [*words, *options], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_all_of_it_small_with_a_part_that_fails(tmp_path):
    """Every part runs, one was told to raise: it is told on the terminal, in the page and by the exit status."""
    done = run(tmp_path, "--threads", "2", "--minutes", "30", "--fail", "encoders")
    assert done.returncode == 1, done.stdout + done.stderr
    ended = re.findall(r"^(FAIL|ok) +([\w-]+)  \d+ s$", done.stdout, re.MULTILINE)
    assert [name for how, name in ended if how == "FAIL"] == ["encoders"], done.stdout
    assert "was asked to fail" in done.stdout
    assert "Traceback" in done.stdout
    assert "SKIP   k-means on the GPU" in done.stdout
    text, found = (tmp_path / "gpu.md").read_text(), json.loads((tmp_path / "gpu.json").read_text())
    assert {part["part"] for part in found["parts"]} == {name for _, name in ended}
    assert {part["part"] for part in found["parts"] if part["error"]} == {"encoders"}
    assert all(check["passed"] for part in found["parts"] for check in part["checks"])
    assert sum(len(part["checks"]) for part in found["parts"]) > 50
    assert "1 failed, 1 measurements were skipped" in text
    assert "**A trial of the check itself" in text
    assert "| train bbqrec | cpu | fp32 | " in text
    assert str(tmp_path) not in text + json.dumps(found)


def test_no_time_is_no_pass(tmp_path):
    """What has no time to run has failed, or was skipped where it only measures."""
    done = run(tmp_path, "--threads", "2", "--minutes", "-1")
    assert done.returncode == 1
    assert "FAIL   same-models: not begun: the time was over" in done.stdout
    assert "SKIP   speed-cpu: no time was left" in done.stdout
    assert "\nok " not in done.stdout
    assert "| **FAIL**" not in (tmp_path / "gpu.md").read_text(), "nothing was compared"


def test_without_a_gpu_it_says_so(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = run(tmp_path, "--device", "cuda")
    assert done.returncode == 1
    assert "finds no GPU here" in done.stderr
    assert not (tmp_path / "gpu.md").exists()


def test_its_progresses_are_whole():
    from bbqrec_cli.progress import Progress
    from tools.gpu_check.inside import Interrupting
    from tools.gpu_check.speed import Stopwatch

    wanted = {name for name in vars(Progress) if not name.startswith("_")}
    assert wanted >= {"log", "detail", "warn", "task"}
    assert all(wanted <= {*dir(each)} for each in (Interrupting, Stopwatch))
