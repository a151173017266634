"""The conformance suites, on the device."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from xml.etree import ElementTree

from tools.gpu_check.report import Report
from tools.gpu_check.settings import ROOT, Settings, environment

SUITES = (
    "tests/test_conformance.py",
    "tests/test_tokenizer_conformance.py",
    "tests/decoding/test_beam.py",
    "tests/models/test_base.py",
    "tests/models/test_softmax.py",
    "tests/models/test_children_softmax.py",
)
QUICK = ("tests/decoding/test_beam.py", "tests/models/test_base.py", "tests/models/test_softmax.py")
WORKERS = 4


def conformance(settings: Settings, report: Report) -> None:
    """Every test that passes or fails; a suite that cannot be collected fails, too."""
    workers = WORKERS if settings.threads >= 2 * WORKERS and importlib.util.find_spec("xdist") else 0
    found = settings.path("conformance.xml")
    # Plugins and packages of the machine's own may warn, and in the suites warnings are errors.
    words = ["-p", "xdist", "-n", str(workers)] if workers else []
    words += ["-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default", "--tb=short", "--junitxml", str(found)]
    more = {"BBQREC_TEST_DEVICE": settings.device, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *(QUICK if settings.quick else SUITES)],
        cwd=ROOT, env=environment(settings.device, 1) | more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    print(done.stdout, end="")
    if not found.exists():
        raise RuntimeError(f"pytest ended with status {done.returncode} and without a result")
    count: dict[str, list[int]] = {}
    for case in ElementTree.parse(found).getroot().iter("testcase"):
        cell = count.setdefault(case.get("classname", "").replace(".", os.sep), [0, 0, 0])
        bad = case.find("failure") is not None or case.find("error") is not None
        cell[1 if bad else 2 if case.find("skipped") is not None else 0] += 1
        if bad:
            report.notes.append(f"Failed: {case.get('classname')}::{case.get('name')}")
    for suite, (passed, failed, skipped) in sorted(count.items()):
        told = f"{passed} passed, {failed} failed, {skipped} skipped"
        report.true(suite or "collecting", told, not failed and passed > 0, wanted="all pass")
    if done.returncode:
        report.true("pytest's exit status", str(done.returncode), False, wanted="0")
