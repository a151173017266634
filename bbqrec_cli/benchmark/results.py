"""What the cells say together: means over seeds, intervals, tests, costs, and where the numbers come from. U users."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.benchmark.graph import Cell, Graph, Step
from bbqrec_cli.benchmark.layouts import COLUMNS, UNSEEN, Layout, Published
from bbqrec_cli.benchmark.published import known_data
from bbqrec_cli.benchmark.records import Records, seconds_of
from bbqrec_cli.benchmark.result import Score, Systems
from bbqrec_cli.benchmark.runner import Outcome
from bbqrec_cli.benchmark.suite import Data, Suite, method_of
from bbqrec_cli.benchmark.work import trained_config
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import BBQRecError
from bbqrec_cli.evaluation.comparison import check_same_data
from bbqrec_cli.evaluation.correction import holm
from bbqrec_cli.evaluation.metrics import bootstrap_interval
from bbqrec_cli.evaluation.metrics import per_user as metric_of
from bbqrec_cli.evaluation.significance import paired, paired_t_test, wilcoxon
from bbqrec_cli.hdf5 import describe, open_file, read_catalogue, read_codes, read_metrics, sha256
from bbqrec_cli.pages.provenance import gathered
from bbqrec_cli.records import Catalogue, Metrics
from bbqrec_cli.tuning.systems import in_effect

LISTS = ("coverage@", "popularity@")
"""Figures of recommended lists begin so."""
Evaluations = tuple[Metrics, ...]
"""Of one cell: one per protocol of the suite, seen items in the ranking first."""
Loaded = dict[str, dict[str, dict[int, Evaluations]]]
"""data set -> system -> seed -> evaluations."""


def whole(outcomes: Sequence[Outcome], records: Records) -> list[Outcome]:
    """The outcomes, with 'failed' for cells of which an output can no longer be opened, and for those that were trained
    with other settings than the best of the trials that are there now."""
    found, known = [], dict[str, str]()
    for outcome in outcomes:
        cell = outcome.cell
        steps = [*(step for other in cell.unite for step in other.steps), *cell.steps]
        for step in steps if outcome.status == "done" else ():
            if step.key not in known and step.output.exists():
                known[step.key] = damage(step.output)
            if error := known.get(step.key) or trained_otherwise(step, steps, records):
                outcome = Outcome(cell=cell, status="failed", error=f"{step.name}: {error}")
                break
        found.append(outcome)
    return found


def trained_otherwise(step: Step, steps: Sequence[Step], records: Records) -> str:
    """How a training differs from what its system's trials say, '' if it does not or nothing is known. steps: those of
    a cell, in order, of which what follows from the training has to be made again."""
    ran = records.get(step.key, {}).get("settings")
    if not ran or not step.tuned or not step.tuned.exists():
        return ""
    best = trained_config(step)
    if in_effect(best.model, ran) == best.options:
        return ""
    stale = {step.key}
    for each in steps:
        if any(key in stale for keys in each.inputs.values() for key in keys):
            stale.add(each.key)
    names = ", ".join(dict.fromkeys(each.output.name for each in steps if each.key in stale))
    return f"trained with other settings than the best of {step.tuned.name}; delete {names} and run again"


def damage(path: Path) -> str:
    """What keeps a file from being opened, '' if nothing does."""
    try:
        with open_file(path):
            return ""
    except BBQRecError as error:
        return f"{error.message}; delete it and run again"


def load_metrics(suite: Suite, outcomes: Sequence[Outcome]) -> Loaded:
    """The metrics of the cells that are done, data sets and systems in the order of the suite; of a file that several
    systems share, such as a sweep's value that is the default, the same record.

    Raises:
        DataError: the seeds of a system were not evaluated on the same users and targets.
    """
    done = {(each.cell.data, each.cell.system, each.cell.seed): each.cell for each in outcomes if each.status == "done"}
    found: Loaded = {}
    read = cache(read_metrics)
    for data in suite.data:
        found[data.name] = {}
        for system in suite.systems:
            cells = [cell for (name, of, _), cell in done.items() if (name, of) == (data.name, system.name)]
            if cells:
                found[data.name][system.name] = {
                    cell.seed: tuple(read(step.output) for step in cell.evaluations) for cell in cells
                }
        check_seeds(found[data.name])
    return found


def check_seeds(metrics: Mapping[str, Mapping[int, Evaluations]]) -> None:
    """Raises: DataError: see `load_metrics`; metrics: system -> seed -> evaluations."""
    for system, (first, *others) in ((system, seeds.items()) for system, seeds in metrics.items()):
        for seed, evaluations in others:
            check_same_data(f"{system}, seed {first[0]}", first[1][0], f"{system}, seed {seed}", evaluations[0])


def tables(suite: Suite, loaded: Loaded) -> tuple[tuple[Layout, Systems], ...]:
    """The tables that the suite asks for, or one per data set; each with the scores of the systems in it."""
    asked = suite.layouts or [default_layout(suite, data, systems) for data, systems in loaded.items()]
    found = []
    for layout in asked:
        names, metrics = [name for _, name in layout.rows], [name for name in layout.columns if name not in COLUMNS]
        own = {data: {name: loaded[data][name] for name in names if name in loaded[data]} for data in layout.data}
        found.append((layout, {data: scores(systems, metrics) for data, systems in own.items()}))
    return tuple(found)


def default_layout(suite: Suite, data: str, systems: Iterable[str]) -> Layout:
    """All systems with all metrics."""
    title = f"{suite.split.capitalize()} results"
    return Layout(
        title=f"{title}, {data}" if data else title, head="system", rows=tuple((name, name) for name in systems),
        columns=suite.metrics, data=(data,), others=True,
    )  # fmt: skip


def ranks(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Data set ('data' where it has no name) -> its evaluated users, and every cell's ranks of their targets."""
    found = {}
    for name, systems in loaded.items():
        every = {
            f"{system}, seed {seed}" + (", seen items left out" if number else ""): metrics
            for system, seeds in systems.items()
            for seed, evaluations in seeds.items()
            for number, metrics in enumerate(evaluations)
        }
        users = next(iter(every.values())).user_ids if every else []
        found[name or "data"] = {"users": users, "cells": {cell: each.ranks for cell, each in every.items()}}
    return found


def scores(metrics: Mapping[str, Mapping[int, Evaluations]], names: Sequence[str]) -> dict[str, dict[str, Score]]:
    """system -> metric ('recall@10') -> Score. Systems with the same evaluations are one, which is compared once.

    Args:
        metrics: system -> seed -> evaluations, all on one data set.
        names: the metrics.

    Raises:
        DataError: the systems were not evaluated on the same users.
    """
    firsts: dict[tuple[tuple[int, ...], ...], str] = {}
    same = {
        system: firsts.setdefault(tuple((seed, *map(id, each)) for seed, each in seeds.items()), system)
        for system, seeds in metrics.items()
    }
    metrics = {system: metrics[system] for system in firsts.values()}
    found: dict[str, dict[str, Score]] = {system: {} for system in metrics}
    for name in names:
        users = {system: {seed: per_user(m, name) for seed, m in seeds.items()} for system, seeds in metrics.items()}
        # Rounded, since the last bit of a mean of means would break ties.
        means = {s: round(float(np.mean([v.mean() for v in seeds.values()])), 12) for s, seeds in users.items()}
        for system, seeds in users.items():
            values = [float(each.mean()) for each in seeds.values()]
            ids = next(iter(metrics[system].values()))[0].user_ids
            low, high = bootstrap_interval(np.mean(list(seeds.values()), axis=0), seed=0, users=ids)
            others = [other for other in means if other != system]
            best = max(others, key=means.__getitem__, default="")
            found[system][name] = Score(
                values=values, mean=means[system], sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
                low=low, high=high, against=best, **(_tests(metrics, users, system, best) if best else {}),
                lead=means[system] - means[best] if best else None,
                gain=means[system] / means[best] - 1 if best and means[best] else None,
            )  # fmt: skip
        for system, corrected in _corrected({each: found[each][name] for each in found}).items():
            found[system][name] = dataclasses.replace(found[system][name], **corrected)
    return {system: found[first] for system, first in same.items()}


def _corrected(of: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    """system -> its p-values by Holm. The family are the comparisons of all other systems with the best one; that of
    the best with the second is one of them."""
    best = max(of, key=lambda each: of[each].mean, default="")
    tested = {each: score for each, score in of.items() if each != best and score.p_t is not None}
    made: dict[str, dict[str, Any]] = {each: {} for each in tested}
    for test in ("t", "wilcoxon"):
        for system, p in zip(tested, holm([getattr(each, f"p_{test}") for each in tested.values()]), strict=True):
            made[system][f"holm_{test}"] = p
    return made | ({best: made[of[best].against]} if best and of[best].against in made else {})


def per_user(evaluations: Evaluations, name: str) -> np.ndarray:
    """Every user's value (U,) of 'recall@10', or of 'recall@10-unseen', which is the last evaluation's."""
    metrics = evaluations[-1 if name.endswith(UNSEEN) else 0]
    return metric_of(metrics.ranks, name.removesuffix(UNSEEN)).astype(np.float64)


def _tests(
    metrics: Mapping[str, Mapping[int, Evaluations]],
    users: Mapping[str, Mapping[int, np.ndarray]],
    one: str,
    other: str,
) -> dict[str, float | None]:
    """Paired tests over users, on the mean over the seeds that both systems have, and the mean difference in them."""
    shared = sorted(set(users[one]) & set(users[other]))
    if not shared:
        return {"p_t": None, "p_wilcoxon": None, "difference": None}
    pairs = [paired(metrics[one][s][0], users[one][s], metrics[other][s][0], users[other][s]) for s in shared]
    a, b = (np.mean(side, axis=0) for side in zip(*pairs, strict=True))
    return {"p_t": paired_t_test(a, b), "p_wilcoxon": wilcoxon(a, b), "difference": float((a - b).mean())}


def about_data(cells: Sequence[Cell], data: Data, part: str) -> dict[str, Any]:
    """Counts and checksums of a data set; {} where it is not there. part: 'test' or 'validation', of which the targets
    are."""
    made = (step.output for cell in cells if cell.data == data.name for step in cell.steps if step.stage == "prepare")
    path = data.file or next(made, None)
    if path is None or not path.exists() or damage(path):
        return {}
    catalogue, checksums = read_catalogue(path), dict[str, str]()
    sources = describe(path)["parents"] if data.file is None else [{"path": path.name, "sha256": sha256(path)}]
    times = Counter[str]()
    for each in sources:  # of several folders, perhaps, with files of one name
        times[name := each["path"]] += 1
        checksums[name if times[name] == 1 else f"{name} ({times[name]})"] = each["sha256"]
    interactions, held = len(catalogue.sequences.items), getattr(split_of(catalogue.sequences), part)
    return {
        "source": data.prepare.source if data.prepare else path.name,
        "users": catalogue.users, "items": catalogue.items, "interactions": interactions,
        "average_length": interactions / max(1, catalogue.users), "content": content_of(catalogue),
        "evaluated": len(np.unique(held.users)), "targets": len(held.users),
        "checksums": checksums, "splitting": catalogue.splitting.note,
    }  # fmt: skip


def fitting(suite: Suite, about: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[Published, ...], list[str]]:
    """The published numbers without those of a data set that is not known to be theirs, by its counts, and without
    metrics of other targets, by its split; and what to say of these.

    about: a data set's name -> `about_data`.
    """
    kept, said = list(suite.published), []
    for data in (each for each in suite.data if each.published):
        counts, here = dataclasses.asdict(known_data()[data.published]), about[data.name]
        differ = [key for key, count in counts.items() if here and here[key] != count]
        known, why = set[str](), "" if here else "the data set is not there"
        if differ:
            these, those = (", ".join(f"{of[key]:,} {key}" for key in differ) for of in (here, counts))
            why = f"this data set has {these}, that {those}"
        elif here and (here["splitting"] or suite.split != "test"):
            known = set(COLUMNS)  # collisions and the like depend on no target
            why = f"they are of each user's last item, and this is split {suite.split}"
            why += f", {here['splitting']}" if here["splitting"] else ""
        if not why:
            continue
        fits = [dataclasses.replace(each, metrics={key: each.metrics[key] for key in each.metrics if key in known})
                if each.book and each.data == data.name else each for each in kept]  # fmt: skip
        if fits != kept:
            said.append(f"{'Metrics' if known else 'Numbers'} published for {data.published} are left out: {why}.")
        kept = [each for each in fits if each.metrics]
    return tuple(kept), said


def content_of(catalogue: Catalogue) -> str:
    """SHA-256 of ids, sequences and their split: the same data give the same one, whatever the order of users and items
    in the file."""
    sequences, users = catalogue.sequences, np.argsort(np.array(list(catalogue.user_ids), dtype=object))
    items = np.argsort(np.array(list(catalogue.item_ids), dtype=object))
    ids = [[catalogue.user_ids[row] for row in users], [catalogue.item_ids[row] for row in items]]
    digest, place = hashlib.sha256(json.dumps(ids).encode()), np.empty(len(items), "<i4")
    place[items] = np.arange(len(items))
    digest.update(sequences.lengths[users].astype("<i8").tobytes())
    for user in users:
        own = slice(*sequences.indptr[user : user + 2])
        digest.update(place[sequences.items[own]].tobytes())
        if sequences.parts is not None:
            digest.update(sequences.parts[own].astype("u1").tobytes())
    return digest.hexdigest()


def about_tokenizers(cells: Sequence[Cell], records: Records, suite: Suite) -> list[dict[str, Any]]:
    """Levels, codes and collisions of every tokenizer, data set and seed whose tokens file is there."""
    from bbqrec_cli.collisions.depths import codebooks, depths

    steps = {(cell.tokenizer, cell.data, cell.seed): step for cell in cells if (step := cell.step("tokenize"))}
    rows = []
    for (name, data, seed), step in steps.items():
        if not step.output.exists() or damage(step.output):
            continue
        _, codes = read_codes(step.output)
        found = depths(codes.codes, codebooks(codes.codes, codes.modalities, codes.level_sizes, codes.present))
        books = [used for depth in found[: codes.quantised_levels] for used in depth.usage.values()]
        rows.append({
            "tokenizer": name, "data": data, "seed": seed, "method": codes.method, "signals": list(codes.modalities),
            "levels": codes.levels, "codebook_size": codes.level_sizes[0], "items": len(codes.codes),
            "distinct": found[-1].distinct, "colliding_items": found[-1].colliding_items,
            "colliding_prefixes": [depth.colliding_items for depth in found],
            "reported": suite.tokenizers[name].reported,
            "usage": float(np.mean(books)),
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


def about_cell(outcome: Outcome, records: Records) -> dict[str, Any]:
    """A cell's status and costs: seconds a stage, epochs, milliseconds of ranking per user.

    Seconds and memory are those of the models that it unites, too; epochs are its own model's.
    """
    cell = outcome.cell
    # Of two evaluations the first one counts.
    own = {step.stage: step for step in reversed(cell.own)}
    figures = {stage: records.get(step.key, {}).get("figures", {}) for stage, step in own.items()}
    every: dict[str, dict[str, Step]] = {stage: {step.key: step} for stage, step in own.items()}
    for step in (step for other in cell.unite for step in other.own):
        if step.stage != "evaluate":
            every.setdefault(step.stage, {})[step.key] = step
    costs = {stage: in_all(spent(step, records) for step in steps.values()) for stage, steps in every.items()}
    train, model = figures.get("train", {}), cell.step("train")
    # The ledger of a cell that failed may be what is damaged.
    config = model and (trained_config(model) if outcome.status == "done" else model.config)
    models = [step for each in (cell, *cell.unite) for step in each.own if step.stage == "train"]

    def most(figure: str) -> dict[str, float | None]:
        known = {stage: [records.get(key, {}).get("figures", {}).get(figure) for key in steps]
                 for stage, steps in every.items()}  # fmt: skip
        return {stage: None if None in values else max(values) for stage, values in known.items()}

    return {
        "name": cell.name, "system": cell.system, "model": model.config.model if model else "",
        "beyond_paper": list(method_of(config).beyond_paper) if config else [],
        "control": bool(models) and not any(hasattr(method_of(each.config), "epochs") for each in models),
        "tokenizer": cell.tokenizer, "unite": [each.system for each in cell.unite],
        "data": cell.data, "seed": cell.seed, "status": outcome.status,
        "error": outcome.error, "seconds": {stage: each["seconds"] for stage, each in costs.items()},
        "at_least": [stage for stage, each in costs.items() if each["at_least"]],
        "memory": most("peak_memory_mb"), "gpu_memory": most("peak_gpu_memory_mb"),
        "epochs": train.get("epochs"), "best_epoch": train.get("best_epoch"),
        "milliseconds_per_user": figures.get("evaluate", {}).get("ms_per_user"),
        "lists": {name: value for name, value in figures.get("evaluate", {}).items() if name.startswith(LISTS)},
        "exclude_seen": [step.config.exclude_seen for step in cell.evaluations],
        "file": cell.last.output.name, "key": cell.last.key,
        "ran": [made_by(step, records.get(step.key, {})) for step in cell.ends],
    }  # fmt: skip


def made_by(step: Step, record: Mapping[str, Any]) -> str:
    """A file, and what made it where and when, in a line."""
    origin = record.get("origin") or {}
    said = [f"bbqrec {origin['bbqrec']}"] if origin else []
    said += [f"commit {origin['commit'][:12]}"] if origin.get("commit") else []
    said += [text for key in ("device", "precision") if (text := str(origin.get(key) or ""))]
    return ", ".join([step.output.name, *said, *([record["finished"]] if record.get("finished") else [])])


def spent(step: Step, records: Records) -> dict[str, Any]:
    """seconds of a step, None where they are not known; at_least: a run that was killed spent more."""
    record = records.get(step.key, {})
    # A process that was killed after it had written its output left a record of a step that runs, without figures.
    known = record.get("status", "running") != "running"
    return {"seconds": seconds_of(record) if known else None, "at_least": bool(record.get("at_least"))}


def in_all(costs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of several results of `spent`."""
    each = list(costs)
    known = [one["seconds"] for one in each]
    return {"seconds": None if None in known else sum(known), "at_least": any(one["at_least"] for one in each)}


def provenance(graph: Graph, records: Records) -> dict[str, Any]:
    """Which version on which machine ran how many of the steps, when, and for how long all in all.

    A step whose output was deleted after it had served counts as long as its record is there.
    """
    steps = [step for step in graph.steps.values() if step.done or records.get(step.key, {}).get("status") == "done"]
    known = [records[step.key] for step in steps if records.get(step.key, {}).get("origin")]
    seconds = sum(spent(step, records)["seconds"] or 0.0 for step in steps)
    return gathered(known) | {"seconds": seconds, "unrecorded_steps": len(steps) - len(known)}
