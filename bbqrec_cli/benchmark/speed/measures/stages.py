"""Whole stages, as their commands run them, and how long a command takes to answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def prepare(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """`bbqrec prepare table`; units are interactions of the raw data."""
    from bbqrec_cli.stages.prepare import PrepareConfig, run

    table, output = Path(job["folder"], "interactions.csv"), Path(job["folder"], "prepared.h5")
    lines = len(table.read_text(encoding="utf-8").splitlines()) - 1
    config = PrepareConfig(source="table", paths=(str(table),), output=output, force=True)

    def once() -> float:
        run(config)
        return lines

    return once, {}


def tokenize(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """`bbqrec tokenize`; units are epochs, among which k-means and the figures are divided."""
    from bbqrec_cli.stages.tokenize import TokenizeConfig, run

    config = TokenizeConfig(
        features=Path(job["folder"], "features.h5"), output=Path(job["folder"], f"{job['method']}-tokens.h5"),
        method=job["method"], precision="fp32", device="cpu", threads=job["threads"], force=True,
        options={"epochs": job["epochs"], "codebook_size": job["codes"]},
    )  # fmt: skip

    def once() -> float:
        run(config)
        return job["epochs"]

    return once, {}


def start(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """A process with these words; units are starts."""

    def once() -> float:
        subprocess.run([sys.executable, *job["words"]], check=True, capture_output=True)
        return 1

    return once, {"started": True}
