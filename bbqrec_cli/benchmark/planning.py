"""What is to be done, in which order, and how long it may take by what earlier runs took."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.files import BUILT_IN, built_in, read_suite
from bbqrec_cli.benchmark.graph import Graph, Step
from bbqrec_cli.benchmark.suite import Suite
from bbqrec_cli.errors import BBQRecError, UsageError
from bbqrec_cli.hdf5 import read_benchmark, read_record
from bbqrec_cli.pages.tables import NOT_KNOWN, Table, counted, make

UNITS = {"m": 1.0, "h": 60.0, "s": 1 / 60}
"""What a time may end with -> minutes."""


def minutes_of(text: str) -> float:
    """Minutes of '2h', '90m', '120s' or plain minutes; '' is 0. Raises: UsageError: another form."""
    unit = text[-1:] if text[-1:] in UNITS else "m"
    try:
        minutes = float(text.removesuffix(unit) or "0") * UNITS[unit] if text != unit else -1.0
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < float("inf"):
        raise UsageError(f"--time-budget is {text!r}; a time such as 2h, 90m, 120s or 90 (minutes) is needed")
    return minutes


def duration(seconds: float) -> str:
    """'45 s', '12 min', '3 h 05 min'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def small_tables_first(graph: Graph, suite: Suite) -> Graph:
    """The same with the cells of small tables first, within each seed and data set, so that a time budget leaves whole
    tables."""
    size: dict[str, tuple[int, int]] = {}
    for number, layout in enumerate(suite.layouts):
        for _, name in layout.rows:
            size[name] = min(size.get(name, (len(layout.rows), number)), (len(layout.rows), number))
    sets = [each.name for each in suite.data]
    last = len(graph.cells), len(suite.layouts)
    order = sorted(
        graph.cells,
        key=lambda cell: (cell.seed, sets.index(cell.data), size.get(cell.system or cell.tokenizer, last)),
    )
    return dataclasses.replace(graph, cells=order)


@dataclass(frozen=True)
class Estimates:
    """Seconds that earlier steps took, by stage and label without its seed."""

    took: Mapping[tuple[str, str], Sequence[float]]

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Estimates:
        """From records of steps that are done."""
        took: dict[tuple[str, str], list[float]] = {}
        for record in records:
            if record.get("status") == "done" and record.get("seconds", 0) > 0:
                took.setdefault((record["stage"], without_seed(record["label"])), []).append(record["seconds"])
        return cls(took)

    def plus(self, record: Mapping[str, Any]) -> Estimates:
        """With one more record."""
        return Estimates({**self.took, **{key: [*self.took.get(key, ()), *values] for key, values in
                                          Estimates.of([record]).took.items()}})  # fmt: skip

    def seconds(self, step: Step) -> float | None:
        """What the step may take: the median of the same with other seeds; None: not known. What a system took on other
        data says too little."""
        found = self.took.get((step.stage, without_seed(step.label)))
        return statistics.median(found) if found else None

    def total(self, steps: Iterable[Step]) -> tuple[float, int]:
        """Seconds of all steps as far as they are known, and how many are not."""
        every = [self.seconds(step) for step in steps]
        return sum(each for each in every if each is not None), every.count(None)


def without_seed(label: str) -> str:
    """'sasrec, toys, seed 0, seen items left out' -> 'sasrec, toys, seen items left out'."""
    return re.sub(r"(^|, )seed \d+", "", label)


def earlier(folder: Path) -> list[dict[str, Any]]:
    """All records of a work folder, and those that other work folders beside it have summed up."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.record")):
        try:
            found.append(read_record(path))
        except BBQRecError:  # no estimate, and the run itself will say so
            continue
    for summary in sorted(folder.parent.glob("benchmark-*/benchmark.h5")):
        if summary.parent.resolve() != folder.resolve():
            found += summed_up(summary)
    return found


def summed_up(summary: Path) -> list[dict[str, Any]]:
    """The records in a benchmark.h5; none where it can not be read."""
    try:
        return list(read_benchmark(summary)["steps"].values())
    except (BBQRecError, KeyError):
        return []


@dataclass(frozen=True)
class Plan:
    """What `--dry-run` prints. todo: steps that would run, in order; done: how many are done."""

    suite: str
    cells: int
    todo: Sequence[Step]
    done: int
    estimates: Estimates

    def to_json(self) -> dict[str, Any]:
        """Steps with their estimates in seconds, null where nothing is known."""
        seconds, unknown = self.estimates.total(self.todo)
        steps = [{"stage": each.stage, "label": each.label, "seconds": self.estimates.seconds(each)}
                 for each in self.todo]  # fmt: skip
        return {
            "suite": self.suite, "cells": self.cells, "done": self.done, "steps": steps, "seconds": seconds,
            "unknown": unknown,
        }  # fmt: skip

    def tables(self) -> list[Table]:
        """A row for each step with all its seeds."""
        rows: dict[tuple[str, str], list[Step]] = {}
        for step in self.todo:
            rows.setdefault((step.stage, without_seed(step.label)), []).append(step)
        shown = []
        for (stage, label), steps in rows.items():
            each = self.estimates.seconds(steps[0])
            known = (duration(each), duration(each * len(steps))) if each is not None else (NOT_KNOWN, NOT_KNOWN)
            shown.append((stage, label, len(steps), *known))
        note = "By the median of earlier steps of the same name in work folders here; – not known."
        return [make("What would run", ("stage", "what", "times", "each", "all"), shown, left=2, note=note)]

    def said(self) -> str:
        """The sum."""
        seconds, unknown = self.estimates.total(self.todo)
        text = f"{self.suite}: {counted(len(self.todo), 'step')} to run, {self.done} done"
        if len(self.todo) > unknown:
            text += f"; about {duration(seconds)} one after the other"
        return text + (f", without {counted(unknown, 'step')} that nobody ran here" if unknown else "")


def plan(suite: Suite, graph: Graph, folder: Path) -> Plan:
    """What a run would do."""
    todo = graph.missing(*(step for cell in graph.cells for step in cell.ends))
    done = sum(step.done for step in graph.steps.values())
    return Plan(suite.name, len(graph.cells), todo, done, Estimates.of(earlier(folder)))


@dataclass(frozen=True)
class Listing:
    """What `--list` prints: a row for each built-in suite."""

    rows: Sequence[Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The rows."""
        return {"suites": list(self.rows)}

    def tables(self) -> list[Table]:
        """One."""
        shown = [
            (row["name"], row["about"], row["needs"], NOT_KNOWN if row["seconds"] is None else duration(row["seconds"]))
            for row in self.rows
        ]
        note = "Time: of the steps that are done in benchmark-NAME here; – not known: nobody ran it here."
        return [make("Suites", ("suite", "what it shows", "needs", "time"), shown, left=3, note=note)]

    def said(self) -> str:
        """How to go on."""
        return "bbqrec benchmark SUITE --data NAME=PATH --dry-run says more of one; docs/benchmark.md how to write one."


def listing() -> Listing:
    """The built-in suites, with the time that each took in this folder."""
    rows = []
    for name in built_in():
        values, _ = read_suite(BUILT_IN / f"{name}.toml")
        done = [each for each in summed_up(Path(f"benchmark-{name}") / "benchmark.h5") if each.get("status") == "done"]
        seconds = sum(each["seconds"] for each in done) if done else None
        rows.append({"name": name, "about": values["about"], "needs": values["needs"], "seconds": seconds})
    return Listing(rows)
