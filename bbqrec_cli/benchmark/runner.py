"""Runs a plan's cells: nothing twice, on from where it stopped, past what fails."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.plan import Cell, Step
from bbqrec_cli.errors import BBQRecError, BrokenFileError, DataError, InterruptedRunError
from bbqrec_cli.progress import SILENT, Progress

Stages = Mapping[str, Callable[[Any, Progress], Any]]
"""Stage -> its run function."""

STATE = "benchmark.h5"
_KEPT = ("epochs", "best_epoch", "users")
"""Figures of the stages' results that the report shows."""
_GO_ON = "the same command goes on from there"


def real_stages() -> Stages:
    """The program's own."""
    from bbqrec_cli.stages import embed, evaluate, prepare, tokenize, train

    return {
        "prepare": prepare.run, "embed": embed.run, "tokenize": tokenize.run, "train": train.run,
        "evaluate": evaluate.run,
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A cell: status 'done', 'failed' (with the error) or 'left' (not started for want of time)."""

    cell: Cell
    status: str
    error: str = ""


@dataclass(kw_only=True)
class Runner:
    """Runs steps and remembers their seconds and figures in `folder`/benchmark.h5.

    Args:
        folder: the work folder; it exists, and no other run is at work in it.
        suite: the suite's text and name, to be stored.
        stages: the run functions.
        minutes: no cell is started after so many; 0: no limit.
        origin: version, commit and machine, recorded with every step that is run.
    """

    folder: Path
    suite: Mapping[str, Any]
    stages: Stages
    minutes: float = 0.0
    progress: Progress = SILENT
    clock: Callable[[], float] = time.monotonic
    origin: Mapping[str, Any] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    _failed: dict[str, str] = field(default_factory=dict)

    def run(self, cells: Sequence[Cell]) -> list[Outcome]:
        """Every cell's outcome, in order.

        Raises:
            InterruptedRunError: Ctrl-C or SIGTERM; what is done is kept.
        """
        self._load()
        began, outcomes = self.clock(), []
        for number, cell in enumerate(cells, 1):
            if is_done(cell.last):
                outcomes.append(Outcome(cell=cell, status="done"))
            elif self.minutes and self.clock() - began >= 60 * self.minutes:
                outcomes.append(Outcome(cell=cell, status="left"))
            else:
                self.progress.log(f"cell {number} of {len(cells)}: {cell.name}")
                try:
                    outcomes.append(self._run_cell(cell))
                except KeyboardInterrupt:
                    raise InterruptedRunError(f"{cell.name}: interrupted; the steps before are kept", _GO_ON) from None
        for step in (step for cell in cells for step in cell.steps if is_done(step)):
            step.checkpoint.unlink(missing_ok=True)  # a run that was killed right after writing its output left it
        left = sum(outcome.status == "left" for outcome in outcomes)
        if left:
            self.progress.log(f"{self.minutes:g} minutes are over: {left} cells are left for the next time")
        return outcomes

    def _run_cell(self, cell: Cell) -> Outcome:
        for step in cell.steps:
            if not is_done(step) and step.key not in self._failed:
                self._run_step(step)
            if step.key in self._failed:
                return Outcome(cell=cell, status="failed", error=self._failed[step.key])
        return Outcome(cell=cell, status="done")

    def _run_step(self, step: Step) -> None:
        """Run a stage once; a failure is kept, so that cells that share the step do not repeat it."""
        resumed = _resumable(step) and step.checkpoint.exists()
        earlier = self.records.get(step.key, {}) if resumed else {}
        # What was spent by a run that was killed is not known: it could not write it down.
        unknown = resumed and (earlier.get("status", "running") == "running" or bool(earlier.get("at_least")))
        record = {
            "stage": step.stage, "label": step.label, "status": "running", "error": "", "at_least": unknown,
            "seconds": earlier.get("seconds", 0.0), "origin": dict(self.origin),
        }  # fmt: skip
        self.records[step.key] = record
        self.save()
        self.progress.log(f"{step.stage} {step.label}{', resumed' if resumed else ''}")
        began = self.clock()
        try:
            record |= self._results(step, resumed=resumed) | {"status": "done"}
        except (InterruptedRunError, KeyboardInterrupt) as error:
            record["status"] = "interrupted"
            said = error.message if isinstance(error, InterruptedRunError) else "interrupted"
            raise InterruptedRunError(f"{step.stage} {step.label}: {said}", _GO_ON) from None
        except Exception as error:
            self._fail(step, record, error)
        finally:
            record["seconds"] += self.clock() - began
            record["finished"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
            self.records[step.key] = record
            self.save()

    def _results(self, step: Step, *, resumed: bool) -> dict[str, Any]:
        """What is kept of the stage's result. A checkpoint that does not fit (any more) is done without."""
        config = dataclasses.replace(step.config, resume=resumed) if _resumable(step) else step.config
        try:
            result = self.stages[step.stage](config, self.progress).to_json()
        except DataError as error:
            if not resumed or not error.message.startswith(f"{step.checkpoint}: "):
                raise
            self.progress.warn(f"{error.message}; starting anew")
            step.checkpoint.unlink()
            return self._results(step, resumed=False)
        return {name: result[name] for name in _KEPT if name in result} | {"own_seconds": result.get("seconds")}

    def _fail(self, step: Step, record: dict[str, Any], error: Exception) -> None:
        record |= {"status": "failed", "error": said(error)}
        if not isinstance(error, BBQRecError):
            record["traceback"] = traceback.format_exc()
        self._failed[step.key] = f"{step.stage} {step.label}: {said(error)}"
        self.progress.warn(f"failed: {self._failed[step.key]}")

    def _load(self) -> None:
        from bbqrec_cli.hdf5 import read_benchmark

        state = self.folder / STATE
        if state.exists():
            try:
                self.records = read_benchmark(state)["steps"]
            except BrokenFileError as error:
                self.progress.warn(f"{error.message}; it is made anew, without the seconds of what is done already")

    def save(
        self, results: Mapping[str, Any] | None = None, cells: Mapping[str, Any] | None = None,
        users: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Write benchmark.h5: the steps so far, and at the end the results and every cell's ranks."""
        from bbqrec_cli.hdf5 import write_benchmark

        kept = {"users": list(users), "cells": cells or {}, "steps": self.records, "results": dict(results or {})}
        write_benchmark(self.folder / STATE, kept, config=dict(self.suite))


def is_done(step: Step) -> bool:
    """Whether its output is there: outputs are written whole or not at all, and their names hold their keys."""
    return step.output.exists()


def _resumable(step: Step) -> bool:
    return any(each.name == "resume" for each in dataclasses.fields(step.config))


def said(error: Exception) -> str:
    """An error in a line: a user's own as it stands, a bug with its type."""
    if isinstance(error, BBQRecError):
        return error.message
    return f"{type(error).__name__}: {error}"
