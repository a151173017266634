"""Runs a plan's cells: nothing twice, on from where it stopped, past what fails."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.plan import Cell, Step
from bbqrec_cli.errors import BBQRecError, InterruptedRunError
from bbqrec_cli.progress import SILENT, Progress

Stages = Mapping[str, Callable[[Any, Progress], Any]]
"""Stage -> its run function."""

STATE = "benchmark.h5"
_KEPT = ("epochs", "best_epoch", "colliding_items", "users", "items", "interactions")
"""Figures of the stages' results that the report shows."""


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
        folder: the work folder; it exists.
        suite: the suite's text and name, to be stored.
        stages: the run functions.
        minutes: no step is started after so many; 0: no limit.
    """

    folder: Path
    suite: Mapping[str, Any]
    stages: Stages
    minutes: float = 0.0
    progress: Progress = SILENT
    clock: Callable[[], float] = time.monotonic
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    _failed: dict[str, str] = field(default_factory=dict)

    def run(self, cells: list[Cell]) -> list[Outcome]:
        """Every cell's outcome, in order.

        Raises:
            InterruptedRunError, KeyboardInterrupt: interrupted; what is done is kept.
        """
        self._load()
        began, outcomes = self.clock(), []
        for number, cell in enumerate(cells, 1):
            spent = (self.clock() - began) / 60
            if self.minutes and spent >= self.minutes and not self.is_done(cell.steps[-1]):
                outcomes.append(Outcome(cell=cell, status="left"))
                continue
            if not self.is_done(cell.steps[-1]):
                self.progress.log(f"cell {number} of {len(cells)}: {cell.name}")
            outcomes.append(self._run_cell(cell))
        return outcomes

    def is_done(self, step: Step) -> bool:
        """Whether its output is there: outputs are written whole or not at all, and their names hold their keys."""
        return step.output.exists()

    def _run_cell(self, cell: Cell) -> Outcome:
        if not self.is_done(cell.steps[-1]):
            for step in cell.steps:
                if not self.is_done(step):
                    self._run_step(step)
                if step.key in self._failed:
                    return Outcome(cell=cell, status="failed", error=self._failed[step.key])
        return Outcome(cell=cell, status="done")

    def _run_step(self, step: Step) -> None:
        """Run a stage once; a failure is kept, so that cells that share the step do not repeat it."""
        if step.key in self._failed:
            return
        config = step.config
        if any(f.name == "resume" for f in dataclasses.fields(config)):
            config = dataclasses.replace(config, resume=step.checkpoint.exists())
        record = {"stage": step.stage, "label": step.label, "status": "interrupted", "error": ""}
        before, began = self.records.get(step.key, {}).get("seconds", 0.0), self.clock()
        resumed = getattr(config, "resume", False)
        self.progress.log(f"{step.stage} {step.label}{', resumed' if resumed else ''}")
        try:
            result = self.stages[step.stage](config, self.progress).to_json()
            record |= {"status": "done"} | {name: result[name] for name in _KEPT if name in result}
        except InterruptedRunError as error:
            raise InterruptedRunError(f"{step.stage} {step.label}: {error.message}", _GO_ON) from None
        except Exception as error:
            record |= {"status": "failed", "error": said(error)}
            self._failed[step.key] = f"{step.stage} {step.label}: {said(error)}"
            self.progress.warn(f"failed: {self._failed[step.key]}")
        finally:
            record["seconds"] = (before if resumed else 0.0) + self.clock() - began
            self.records[step.key] = record
            self.save()

    def _load(self) -> None:
        from bbqrec_cli.hdf5 import read_benchmark

        if (self.folder / STATE).exists():
            self.records = read_benchmark(self.folder / STATE)[1]["steps"]

    def save(self, results: Mapping[str, Any] | None = None, cells: Mapping[str, Any] | None = None) -> None:
        """Write benchmark.h5: the steps so far, and at the end the results and every cell's ranks."""
        from bbqrec_cli.hdf5 import write_benchmark

        kept = {"steps": self.records, "results": dict(results or {})}
        write_benchmark(self.folder / STATE, cells or {}, kept, config=dict(self.suite))


_GO_ON = "the same command goes on from there"


def said(error: Exception) -> str:
    """An error in a line: a user's own as it stands, a bug with its type."""
    if isinstance(error, BBQRecError):
        return error.message
    return f"{type(error).__name__}: {error}"
