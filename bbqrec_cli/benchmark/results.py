"""What the cells say together: means over seeds, intervals, tests, costs, and where the numbers come from. U users."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import bbqrec_cli
from bbqrec_cli.benchmark.plan import Cell
from bbqrec_cli.benchmark.runner import Outcome
from bbqrec_cli.benchmark.suite import Suite
from bbqrec_cli.evaluation.metrics import bootstrap_interval
from bbqrec_cli.evaluation.significance import aligned, paired_t_test, wilcoxon
from bbqrec_cli.hdf5 import describe, open_file, read_catalogue, read_codes, read_metrics
from bbqrec_cli.records import Metrics

PACKAGES = ("torch", "numpy", "scipy", "faiss-cpu", "sentence-transformers")


@dataclass(frozen=True, eq=False, kw_only=True)
class Score:
    """One metric of one system.

    values: one a seed; sd: over seeds, None for one seed; low, high: 95% interval over users of the seeds' mean; against:
    the best other system, '' if there is none; p_t, p_wilcoxon: paired tests against it on every user's mean over seeds.
    """

    values: list[float]
    mean: float
    sd: float | None
    low: float
    high: float
    against: str = ""
    p_t: float | None = None
    p_wilcoxon: float | None = None


def load_metrics(outcomes: Sequence[Outcome]) -> dict[str, dict[int, Metrics]]:
    """system -> seed -> metrics, of the cells that are done."""
    found: dict[str, dict[int, Metrics]] = {}
    for outcome in outcomes:
        if outcome.status == "done":
            cell = outcome.cell
            found.setdefault(cell.system, {})[cell.seed] = read_metrics(cell.steps[-1].output)
    return found


def scores(metrics: Mapping[str, Mapping[int, Metrics]], names: Sequence[str]) -> dict[str, dict[str, Score]]:
    """system -> metric ('recall@10') -> Score.

    Args:
        metrics: as `load_metrics`.
        names: the metrics.

    Raises:
        DataError: the systems were not evaluated on the same users.
    """
    found: dict[str, dict[str, Score]] = {system: {} for system in metrics}
    for name in names:
        users = {system: {seed: per_user(m, name) for seed, m in seeds.items()} for system, seeds in metrics.items()}
        means = {system: float(np.mean([v.mean() for v in seeds.values()])) for system, seeds in users.items()}
        for system, seeds in users.items():
            values = [float(each.mean()) for each in seeds.values()]
            low, high = bootstrap_interval(np.mean(list(seeds.values()), axis=0), seed=0)
            others = [other for other in means if other != system]
            best = max(others, key=means.__getitem__, default="")
            found[system][name] = Score(
                values=values, mean=means[system], sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
                low=low, high=high, against=best, **(_tests(metrics, users, system, best) if best else {}),
            )  # fmt: skip
    return found


def per_user(metrics: Metrics, name: str) -> np.ndarray:
    """Every user's value (U,) of 'recall@10'."""
    which, k = name.split("@")
    return getattr(metrics, which)[int(k)].astype(np.float64)


def _tests(
    metrics: Mapping[str, Mapping[int, Metrics]], users: Mapping[str, Mapping[int, np.ndarray]], one: str, other: str
) -> dict[str, float | None]:
    """Paired tests over users, on the mean over the seeds that both systems have."""
    shared = sorted(set(users[one]) & set(users[other]))
    if not shared:
        return {"p_t": None, "p_wilcoxon": None}
    pairs = [
        aligned(metrics[one][s].user_ids, users[one][s], metrics[other][s].user_ids, users[other][s]) for s in shared
    ]
    a, b = (np.mean(side, axis=0) for side in zip(*pairs, strict=True))
    return {"p_t": paired_t_test(a, b), "p_wilcoxon": wilcoxon(a, b)}


def about_data(cell: Cell, suite: Suite) -> dict[str, Any]:
    """Counts and checksums of the data behind a cell, as far as its files are there."""
    path = suite.file or cell.steps[0].output
    if not path.exists():
        return {}
    catalogue, about = read_catalogue(path), describe(path)
    sources = about["parents"] if suite.file is None else [{"path": path.name, "sha256": digest_of(path)}]
    source = f"prepare {suite.prepare.source}" if suite.prepare else str(suite.file)
    interactions = len(catalogue.sequences.items)
    return {
        "source": source, "users": catalogue.users, "items": catalogue.items, "interactions": interactions,
        "average_length": interactions / max(1, catalogue.users),
        "checksums": {each["path"]: each["sha256"] for each in sources},
    }  # fmt: skip


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    from bbqrec_cli.hdf5 import sha256

    return sha256(path)


def about_tokenizers(cells: Sequence[Cell], records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Levels, codes and collisions of every tokens file that is there, each once."""
    from bbqrec_cli.tokenizers.collisions import depths

    steps = {step.key: step for cell in cells for step in cell.steps if step.stage == "tokenize"}
    rows = []
    for key, step in steps.items():
        if not step.output.exists():
            continue
        _, codes = read_codes(step.output)
        last = depths(codes.codes, codes.modalities)[-1]
        rows.append(
            {
                "tokenizer": step.label,
                "method": codes.method,
                "signals": list(codes.modalities),
                "levels": codes.levels,
                "codebook_size": codes.codebook_size,
                "distinct": last.distinct,
                "colliding_items": last.colliding_items,
                "seconds": records.get(key, {}).get("seconds"),
            }  # fmt: skip
        )
    return rows


def histories(cells: Sequence[Cell]) -> dict[str, list[dict[str, Any]]]:
    """cell -> its epochs, of the models that were trained and are there."""
    found = {}
    for cell in cells:
        path = next(step.output for step in cell.steps if step.stage == "train")
        if path.exists():
            with open_file(path, "model") as file:
                rows = file.attribute("history")
            if any("ndcg@10" in row for row in rows):
                found[cell.name] = [row for row in rows if "ndcg@10" in row]
    return found


def about_cell(outcome: Outcome, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A cell's status and costs: seconds a stage, epochs, milliseconds a user of the evaluation."""
    cell = outcome.cell
    steps = {step.stage: records.get(step.key, {}) for step in cell.steps}
    seconds = {stage: steps[stage].get("seconds") for stage in ("tokenize", "train", "evaluate") if stage in steps}
    users, spent = steps["evaluate"].get("users"), seconds["evaluate"]
    return {
        "system": cell.system, "seed": cell.seed, "status": outcome.status, "error": outcome.error,
        "seconds": seconds, "epochs": steps["train"].get("epochs"), "best_epoch": steps["train"].get("best_epoch"),
        "milliseconds_per_user": 1000 * spent / users if users and spent is not None else None,
        "metrics_file": cell.steps[-1].output.name, "key": cell.key,
    }  # fmt: skip


def provenance(device: str) -> dict[str, Any]:
    """Version, commit where it is known, packages, machine."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "bbqrec": bbqrec_cli.__version__, "commit": commit(), "python": platform.python_version(),
        "packages": packages, "system": platform.platform(terse=True), "processor": processor(),
        "cores": os.cpu_count(), "device": device_name(device),
    }  # fmt: skip


def commit() -> str:
    """The git commit that this code is, '' if it was installed rather than cloned."""
    here = Path(bbqrec_cli.__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # A package inside somebody else's repository is not tracked by it.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], check=True, capture_output=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain", "."], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + (" with uncommitted changes" if dirty.strip() else "")


def processor() -> str:
    """The CPU's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            return next(line.split(":", 1)[1].strip() for line in stream if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def device_name(name: str) -> str:
    """The device that torch computes on, with the GPU's name."""
    import torch

    from bbqrec_cli.device import resolve_device

    device = resolve_device(name)
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
