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
from bbqrec_cli.benchmark.graph import TUNE, Graph, Step
from bbqrec_cli.benchmark.known import folders, last_run, own_records, records_in
from bbqrec_cli.benchmark.records import seconds_of
from bbqrec_cli.benchmark.suite import Suite
from bbqrec_cli.errors import UsageError
from bbqrec_cli.origin import processor
from bbqrec_cli.pages.tables import NOT_KNOWN, Shown, Table, counted, make

UNITS = {"m": 1.0, "h": 60.0, "s": 1 / 60}
"""What a time may end with -> minutes."""
LIMITED = "Trainings of systems without a limit of their own ended with the epoch in which it was reached: minutes "
"""How the note on --train-minutes begins."""


def minutes_of(text: str) -> float:
    """Minutes of '2h', '90m', '120s' or plain minutes; '' is 0: no limit. Raises: UsageError: another form, or none."""
    unit = text[-1:] if text[-1:] in UNITS else "m"
    try:
        minutes = float(text.removesuffix(unit)) * UNITS[unit] if text else 0.0
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < float("inf") or (text and not minutes):
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
    """Seconds that earlier steps took on this processor: `Step.alike` -> each of them; where: the cores and devices."""

    took: Mapping[str, Sequence[float]]
    where: frozenset[str] = frozenset()

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Estimates:
        """From records of steps that are done, without those that say less: of other processors, or cut short."""
        took: dict[str, list[float]] = {}
        here, where = processor(), set()
        seen: set[tuple[str, str]] = set()
        for record in records:
            origin, one = record.get("origin") or {}, (record.get("key", ""), record.get("finished", ""))
            if (
                record.get("status") == "done" and record.get("alike") and record["seconds"] > 0
                and origin.get("processor") == here and not record["at_least"] and one not in seen
            ):  # fmt: skip
                seen.add(one)  # a record may lie in several folders
                took.setdefault(record["alike"], []).append(seconds_of(record))
                where.add(f"{counted(origin['threads'], 'thread')}, {origin['device']}")
        return cls(took, frozenset(where))

    def plus(self, record: Mapping[str, Any]) -> Estimates:
        """With one more record."""
        new = Estimates.of([record])
        took = {key: [*self.took.get(key, ()), *values] for key, values in new.took.items()}
        return Estimates({**self.took, **took}, self.where | new.where)

    def seconds(self, step: Step) -> float | None:
        """What the step may take: the median of steps with the same settings on the same data, with other seeds or an
        earlier version of the program; None: not known. What a system took on other data says too little. A tuning that
        nobody ran takes its budget of minutes."""
        found = self.took.get(step.alike)
        if not found and step.stage == TUNE and step.config.minutes:
            return 60.0 * step.config.minutes
        return statistics.median(found) if found else None

    def total(self, steps: Iterable[Step]) -> tuple[float, int]:
        """Seconds of all steps as far as they are known, and how many are not."""
        every = [self.seconds(step) for step in steps]
        return sum(each for each in every if each is not None), every.count(None)


def without_seed(label: str) -> str:
    """'sasrec, toys, seed 0, seen items left out' -> 'sasrec, toys, seen items left out'."""
    return re.sub(r"(^|, )seed \d+", "", label)


def earlier(folder: Path) -> list[dict[str, Any]]:
    """All records of a work folder, of those beside it and of those that this user has run suites in."""
    others = [each for each in folders(folder) if each.resolve() != folder.resolve()]
    return own_records(folder) + [record for each in others for record in records_in(each)]


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
        where = "; ".join(sorted(self.estimates.where)) or "none yet"
        note = (
            "By the median of earlier steps with the same settings on the same data and processor, whatever their seed "
        )
        note += f"and version ({where}); {NOT_KNOWN} not known."
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
        shown = [(row["name"], row["about"], row["needs"], took(row)) for row in self.rows]
        note = "Time here: all steps of the last run in a folder that is still there, one after the other; "
        note += f"{NOT_KNOWN} not known."
        return [make("Suites", ("suite", "what it shows", "needs", "time here"), shown, left=4, note=note)]

    def said(self) -> str:
        """How to go on."""
        return "bbqrec benchmark SUITE --data NAME=PATH --dry-run says more of one; docs/benchmark.md how to write one."


def took(row: Mapping[str, Any]) -> Shown:
    """'≥ 3 h 05 min', and on what."""
    if row["seconds"] is None:
        return Shown((NOT_KNOWN,))
    return Shown((("" if row["whole"] else "≥ ") + duration(row["seconds"]), row["on"]))


def listing() -> Listing:
    """The built-in suites, with the time that the last run of each took, as far as it is known."""
    rows = []
    for name in built_in():
        values, _ = read_suite(BUILT_IN / f"{name}.toml")
        about = {"name": name, "about": values.get("about", ""), "needs": values.get("needs", "")}
        rows.append(about | spent_on(name, folders(Path(f"benchmark-{name}"))))
    return Listing(rows)


def spent_on(suite: str, places: list[Path]) -> dict[str, Any]:
    """{'seconds', 'whole', 'on', 'folder'} of a suite's last run: whether all of its cells are done and all seconds
    known; the data, the seeds, a limit on trainings, the machine. None and '' where none is known."""
    found = last_run(suite, places)
    done = [] if found is None else [each for each in found[2] if each.get("status") == "done"]
    if found is None or not done:
        return {"seconds": None, "whole": False, "on": "", "folder": ""}
    folder, results, _ = found
    sets = results["data"]
    if isinstance(sets.get("users"), int):  # one data set of an earlier version
        sets = {"": sets}
    said = [f"{name or about['source']}: {about['users']:,} users, {about['items']:,} items"
            for name, about in sets.items() if about]  # fmt: skip
    said.append(counted(len(results["seeds"]), "seed"))
    said += [note for note in results.get("notes", ()) if note.startswith(LIMITED)]
    said += dict.fromkeys(f"{origin['processor']}, {counted(origin['threads'], 'thread')}, {origin['device']}"
                          for each in done if (origin := each["origin"]))  # fmt: skip
    whole = not results["failed"] and not results["left"] and not any(each["at_least"] for each in done)
    seconds = sum(map(seconds_of, done))
    return {"seconds": seconds, "whole": whole, "on": "; ".join(said), "folder": str(folder)}
