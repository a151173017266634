"""What the cells say together: means over seeds, intervals, tests, costs, and where the numbers come from. U users."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.benchmark.plan import Cell, Step
from bbqrec_cli.benchmark.runner import Outcome
from bbqrec_cli.benchmark.suite import Suite
from bbqrec_cli.evaluation.metrics import bootstrap_interval
from bbqrec_cli.evaluation.significance import aligned, paired_t_test, wilcoxon
from bbqrec_cli.hdf5 import describe, open_file, read_catalogue, read_codes, read_metrics, sha256
from bbqrec_cli.records import Catalogue, Metrics

Records = Mapping[str, Mapping[str, Any]]
"""A step's key -> what the runner recorded of it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Score:
    """One metric of one system.

    values: one a seed; sd: over seeds, None for one seed; low, high: 95% interval over users of the seeds' mean;
    against: the best other system, '' if there is none; p_t, p_wilcoxon: paired tests against it on every user's mean
    over the seeds that both have.
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
        cell = outcome.cell
        if outcome.status == "done" and cell.system:
            found.setdefault(cell.system, {})[cell.seed] = read_metrics(cell.last.output)
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


def about_data(cells: Sequence[Cell], suite: Suite) -> dict[str, Any]:
    """Counts and checksums of the data behind the cells; {} where it is not there."""
    path = suite.file or next((step.output for step in cells[0].steps if step.stage == "prepare"), None)
    if path is None or not path.exists():
        return {}
    catalogue = read_catalogue(path)
    sources = describe(path)["parents"] if suite.file is None else [{"path": path.name, "sha256": sha256(path)}]
    interactions = len(catalogue.sequences.items)
    return {
        "source": suite.prepare.source if suite.prepare else path.name,
        "users": catalogue.users, "items": catalogue.items, "interactions": interactions,
        "average_length": interactions / max(1, catalogue.users), "content": content_of(catalogue),
        "checksums": {each["path"]: each["sha256"] for each in sources},
    }  # fmt: skip


def content_of(catalogue: Catalogue) -> str:
    """SHA-256 of ids and sequences: the same data give the same one, whichever file they lie in."""
    sequences = catalogue.sequences
    digest = hashlib.sha256(json.dumps([catalogue.user_ids, catalogue.item_ids]).encode())
    digest.update(sequences.indptr.astype("<i8").tobytes() + sequences.items.astype("<i4").tobytes())
    return digest.hexdigest()


def about_tokenizers(cells: Sequence[Cell], records: Records, suite: Suite) -> list[dict[str, Any]]:
    """Levels, codes and collisions of every tokenizer and seed whose tokens file is there."""
    from bbqrec_cli.collisions.depths import codebooks, depths

    steps = {(cell.tokenizer, cell.seed): step for cell in cells if (step := cell.step("tokenize"))}
    rows = []
    for (name, seed), step in steps.items():
        if not step.output.exists():
            continue
        _, codes = read_codes(step.output)
        found = depths(codes.codes, codebooks(codes.codes, codes.modalities, codes.codebook_size, codes.present))
        rows.append({
            "tokenizer": name, "seed": seed, "method": codes.method, "signals": list(codes.modalities),
            "levels": codes.levels, "codebook_size": codes.codebook_size, "items": len(codes.codes),
            "distinct": found[-1].distinct, "colliding_items": found[-1].colliding_items,
            "colliding_prefixes": [depth.colliding_items for depth in found],
            "reported": suite.tokenizers[name].reported,
            "usage": float(np.mean([used for depth in found for used in depth.usage.values()])),
        } | fitted(step.output) | spent(step, records))  # fmt: skip
    return rows


def fitted(path: Path) -> dict[str, Any]:
    """How a tokens file was made: items in collisions before they were resolved, and the last epoch's figures.

    {'colliding_before', 'epochs', 'reconstruction', 'information', 'lowest_information', 'recall_unquantised',
    'recall_quantised', 'lowest_perplexity'}; None for what the tokenizer does not report. The recalls are the sequence
    encoder's, at 10 and on validation: at the end of the warm-up, and at the end.
    """
    with open_file(path, "tokens") as file:
        history, config = file.attribute("history"), file.attribute("config")
    last = history[-1] if history else {}
    warm = [row["recall@10"] for row in history if "recall@10" in row and not row.get("quantised")]
    informed = [row["information"] for row in history if "information" in row]
    books = [value for key, value in last.items() if key.startswith("perplexity/")]
    return {
        "colliding_before": config.get("colliding_items", {}).get("before"), "epochs": len(history),
        "reconstruction": last.get("reconstruction"), "information": last.get("information"),
        "lowest_information": min(informed, default=None), "recall_unquantised": warm[-1] if warm else None,
        "recall_quantised": last.get("recall@10"), "lowest_perplexity": min(books, default=None),
    }  # fmt: skip


def histories(cells: Sequence[Cell]) -> dict[tuple[str, int], list[tuple[int, float]]]:
    """(system, seed) -> epochs and their validation NDCG@10, of the models that were trained and are there."""
    found = {}
    for cell in cells:
        step = cell.step("train")
        if step is None or not step.output.exists():
            continue
        with open_file(step.output, "model") as file:
            rows = [(row["epoch"], row["ndcg@10"]) for row in file.attribute("history") if "ndcg@10" in row]
        if rows:
            found[cell.system, cell.seed] = rows
    return found


def about_cell(outcome: Outcome, records: Records) -> dict[str, Any]:
    """A cell's status and costs: seconds a stage, epochs, milliseconds a user of the evaluation."""
    cell = outcome.cell
    about = {step.stage: records.get(step.key, {}) for step in cell.own}
    costs = {step.stage: spent(step, records) for step in cell.own}
    train, evaluate = about.get("train", {}), about.get("evaluate", {})
    users, ranking = evaluate.get("users"), evaluate.get("own_seconds")
    model = cell.step("train")
    return {
        "name": cell.name, "system": cell.system, "model": model.config.model if model else "",
        "tokenizer": cell.tokenizer, "seed": cell.seed, "status": outcome.status, "error": outcome.error,
        "seconds": {stage: each["seconds"] for stage, each in costs.items()},
        "at_least": [stage for stage, each in costs.items() if each["at_least"]],
        "epochs": train.get("epochs"), "best_epoch": train.get("best_epoch"),
        "milliseconds_per_user": 1000 * ranking / users if users and ranking is not None else None,
        "file": cell.last.output.name, "key": cell.last.key,
    }  # fmt: skip


def spent(step: Step, records: Records) -> dict[str, Any]:
    """seconds of a step, None where they are not known; at_least: a run that was killed spent more."""
    record = records.get(step.key, {})
    known = [record[name] for name in ("seconds", "own_seconds") if record.get(name) is not None]
    return {"seconds": max(known, default=None), "at_least": bool(record.get("at_least"))}


def provenance(cells: Sequence[Cell], records: Records) -> dict[str, Any]:
    """Which version on which machine ran how many of the steps, when, and for how long all in all."""
    steps = {step.key: step for cell in cells for step in cell.steps if step.output.exists()}
    known = [records[key] for key in steps if key in records]
    runs: dict[str, dict[str, Any]] = {}
    for record in known:
        run = runs.setdefault(json.dumps(record["origin"], sort_keys=True), record["origin"] | {"steps": 0})
        run["steps"] += 1
    finished = sorted(record["finished"] for record in known if record.get("finished"))
    return {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "first": finished[0] if finished else None, "last": finished[-1] if finished else None,
        "seconds": sum(spent(step, records)["seconds"] or 0.0 for step in steps.values()),
        "runs": list(runs.values()), "unrecorded_steps": len(steps) - len(known),
    }  # fmt: skip
