"""The page and the JSON file that the check leaves."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from tools.gpu_check.chain import CHAOS
from tools.gpu_check.internals import commit, processor
from tools.gpu_check.report import Report, Table
from tools.gpu_check.settings import Settings

PACKAGES = ("torch", "numpy", "scipy", "h5py", "faiss-cpu", "faiss-gpu", "sentence-transformers", "transformers")
ABOUT = {
    "prepare": "The demo catalogue",
    "end-to-end": "The whole chain on both devices",
    "same-models": "The same model files on both devices",
    "same-tokens": "The same tokens files on both devices",
    "gradients": "Losses and gradients of the same weights",
    "one-epoch": "A little training from the same seed",
    "resume": "Repeated and resumed training on the device",
    "encoders": "Encoders with random weights",
    "conformance": "The conformance suites on the device",
    "speed-device": "Speed",
}
"""Heading of a part; others have their name."""
EXPLAINED = {
    "end-to-end": f"""
`prepare demo`, `embed`, `tokenize`, `collisions`, `train`, `evaluate` and `recommend`, fp32, one seed, without dropout,
whose random numbers are others on every device. Training makes a little difference of rounding large: the CPU's chain
ran twice, with its vector instructions and without, and where something has no scale of its own the device has to agree
with the CPU at least {CHAOS:g} times as well as these two with each other.""",
    "same-models": """
`evaluate` and `recommend` of files that were trained once: nothing here may differ but by rounding, and by what follows
from it where two scores are nearly equal. bf16 is the device's autocast against fp32 on the CPU.""",
    "same-tokens": """
Codes from the encoders that tokens files keep: of new items by `tokenize --append`, and of all items again.""",
    "gradients": """
One batch of 256 users, in training mode, without dropout. Errors are of all parameters together, and of the one that is
furthest off (there a tenfold error is allowed, and a gradient that is next to nothing is measured by a thousandth of
the whole).""",
    "one-epoch": """
Recommenders: one epoch. Tokenizers: all users (items) in one step an epoch, three steps before the codebooks are made
and one with them; the first step's loss is that of the same weights.""",
    "resume": """
On the device alone. Some of a GPU's sums have no fixed order, so that a seed does not decide the last digits.""",
    "speed-device": """
By the stages' own loops on a synthetic catalogue, defaults everywhere; the steps of an epoch's beginning are not
counted. Peak memory is torch's, of tensors.""",
}


def machine(settings: Settings) -> dict[str, str]:
    """What ran."""
    import torch

    found = {"device": settings.device, "processor": f"{processor()}, {os.cpu_count()} cores"}
    if torch.device(settings.device).type == "cuda":
        about = torch.cuda.get_device_properties(settings.device)
        found["GPU"] = f"{about.name}, {about.total_memory / 2**30:.0f} GiB"
        found["driver"] = driver() or "not known"
        found["CUDA of torch"] = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    installed = {each.metadata["Name"].lower(): each.version for each in distributions() if each.metadata["Name"]}
    packages = [name for name in installed if name in PACKAGES or name.startswith("faiss")]
    found["system"] = platform.platform(terse=True)
    found["Python"] = platform.python_version()
    found["packages"] = ", ".join(f"{name} {installed[name]}" for name in sorted(packages))
    found["torch build"] = torch.__version__
    found["commit"] = os.environ.get("BBQREC_COMMIT", "") or commit() or "not known"
    found["date"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    return found


def driver() -> str:
    """The NVIDIA driver's version, '' where nobody says it."""
    if not shutil.which("nvidia-smi"):
        return ""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else ""


def without_paths(text: str) -> str:
    """No folders of the machine: of a path only its last part is left."""
    return re.sub(r"(?<![\w.:/])/(?:[\w.+@-]+/)+([\w.+@-]+)", r"\1", text)


def markdown(table: Table) -> str:
    """With the first column on the left."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', ' ') for cell in cells)} |"

    rule = ["---", *["---:"] * (len(table.columns) - 1)]
    return "\n".join([line(table.columns), line(rule), *map(line, table.rows)])


def verdict(reports: Sequence[Report]) -> str:
    """How many comparisons hold."""
    passed = sum(check.passed for report in reports for check in report.checks)
    failed, skipped = sum(report.failures for report in reports), sum(len(report.skipped) for report in reports)
    return f"{passed} comparisons hold, {failed} failed, {skipped} measurements were skipped."


def of_checks(report: Report) -> str:
    """The comparisons of a part."""
    rows = [
        [c.what, c.cpu, c.device, c.difference, c.tolerance, "yes" if c.passed else "**FAIL**"] for c in report.checks
    ]
    return markdown(Table(title="", columns=["", "CPU", "device", "difference", "tolerance", "holds"], rows=rows))


def merged(tables: Sequence[Table]) -> list[Table]:
    """Tables of one title in one."""
    found: dict[str, Table] = {}
    for table in tables:
        known = found.setdefault(table.title, Table(title=table.title, columns=table.columns, rows=[]))
        known.rows.extend(table.rows)
    return [table for table in found.values() if table.rows]


def measured(reports: Sequence[Report]) -> str:
    """All tables of measurements, as Markdown."""
    tables = merged([table for report in reports for table in report.tables])
    return "\n".join(f"{table.title}:\n\n{markdown(table)}\n" for table in tables)


def page(settings: Settings, reports: Sequence[Report], about: dict[str, str], command: str) -> str:
    """Markdown."""
    parts = [
        f"<!-- Generated by `{command}`. Do not edit: run it again. -->\n\n# bbqrec on a GPU\n",
        f"Generated by `{command}`. {verdict(reports)}\n",
    ]
    if settings.quick or torch_type(settings.device) == "cpu":
        parts.append("**A trial of the check itself, small or without a GPU: it says nothing of one.**\n")
    parts.append(markdown(Table(title="", columns=["machine", ""], rows=[[k, v] for k, v in about.items()])) + "\n")
    skipped = [f"- {each}" for report in reports for each in report.skipped]
    for report in reports:
        if not (report.checks or report.error or report.part in ABOUT):
            continue
        parts.append(f"## {ABOUT.get(report.part, report.part)}\n")
        parts += [f"{EXPLAINED[report.part].strip()}\n"] if report.part in EXPLAINED else []
        parts += [f"**FAIL**: {report.error}\n"] if report.error else []
        parts += [f"{of_checks(report)}\n"] if report.checks else []
        if report.part == "speed-device":
            parts.append(measured(reports))
        parts += ["".join(f"- {note}\n" for note in report.notes)] if report.notes else []
    parts += (
        ["## Skipped\n\nNot measured, and so neither good nor bad:\n", "\n".join(skipped) + "\n"] if skipped else []
    )
    return without_paths("\n".join(parts))


def torch_type(device: str) -> str:
    """cuda of cuda:0."""
    return device.partition(":")[0]


def write(settings: Settings, reports: Sequence[Report], output: Path, command: str) -> None:
    """The page, and the same as JSON beside it."""
    about = machine(settings)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page(settings, reports, about, command), encoding="utf-8")
    found: dict[str, Any] = {"machine": about, "parts": [dataclasses.asdict(report) for report in reports]}
    text = without_paths(json.dumps(found, ensure_ascii=False, indent=1))
    output.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
