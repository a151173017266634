"""Runs a graph's steps: nothing twice, on from where it stopped, past what fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bbqrec_cli.benchmark import records
from bbqrec_cli.benchmark.executors.base import Executor
from bbqrec_cli.benchmark.graph import Cell, Graph, Step
from bbqrec_cli.benchmark.planning import Estimates, duration
from bbqrec_cli.benchmark.records import Record
from bbqrec_cli.errors import InterruptedRunError
from bbqrec_cli.pages.tables import counted
from bbqrec_cli.progress import SILENT, Progress, ProgressBar


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A cell: status 'done', 'failed' (with the error) or 'left' (not begun for want of time)."""

    cell: Cell
    status: str
    error: str = ""


@dataclass(kw_only=True)
class Runner:
    """Gives an executor the steps that can begin, cell by cell.

    Args:
        graph: what is to be done. No other run is at work in its folder.
        minutes: no cell is begun after so many; 0: no limit.
        estimates: what steps may take; jobs: how many run at once, for what is left of the time.
    """

    graph: Graph
    executor: Executor
    minutes: float = 0.0
    progress: Progress = SILENT
    clock: Callable[[], float] = time.monotonic
    estimates: Estimates = field(default_factory=lambda: Estimates({}))
    jobs: int = 1
    _bar: ProgressBar | None = None
    _until: float = float("inf")
    _running: set[str] = field(default_factory=set)
    _failed: dict[str, str] = field(default_factory=dict)
    _begun: set[int] = field(default_factory=set)

    def run(self) -> list[Outcome]:
        """Every cell's outcome, in order.

        Raises:
            InterruptedRunError: Ctrl-C or SIGTERM; what is done is kept.
        """
        if self.minutes:
            self._until = self.clock() + 60 * self.minutes
        todo = self.graph.missing(*(step for cell in self.graph.cells for step in cell.ends))
        try:
            with self.progress.task("steps", len(todo)) as self._bar:
                self._submit()
                while self._running:
                    self._ended(*self.executor.next())
                    self._submit()
        except KeyboardInterrupt as error:
            raise self._interrupted(str(error)) from None
        for step in self.graph.steps.values():
            if step.done:  # a run that was killed right after writing its output left it
                step.checkpoint.unlink(missing_ok=True)
        outcomes = [self._outcome(cell) for cell in self.graph.cells]
        left = sum(outcome.status == "left" for outcome in outcomes)
        if left:
            self.progress.log(f"{self.minutes:g} minutes are over: {left} cells are left for the next time")
        return outcomes

    def records(self) -> dict[str, Record]:
        """A step's key -> its record, of the steps that have one."""
        found = {key: records.read(step, self.progress) for key, step in self.graph.steps.items()}
        return {key: record for key, record in found.items() if record}

    def _submit(self) -> None:
        """Begin what can begin."""
        while (step := self._next()) is not None:
            self._running.add(step.key)
            self._show(0)
            self.executor.submit(step)

    def _next(self) -> Step | None:
        """The first step that can begin: of a cell that has begun, or, while there is time, of one that begins so."""
        for number, cell in enumerate(self.graph.cells):
            step, begun = self._ready(cell), number in self._begun
            if step is None or not self.executor.free(step) or (not begun and self.clock() >= self._until):
                continue
            if not begun:
                self._begun.add(number)
                self.progress.log(f"cell {number + 1} of {len(self.graph.cells)}: {cell.name}")
            return step
        return None

    def _ready(self, cell: Cell) -> Step | None:
        """The cell's first step that can begin; None where all run, wait or are done, or one has failed."""
        missing = self.graph.missing(*cell.ends)
        if any(step.key in self._failed for step in missing):
            return None
        ready = (step for step in missing if all(each.done for each in self.graph.before(step)))
        return next((step for step in ready if step.key not in self._running), None)

    def _ended(self, step: Step, record: Record) -> None:
        """Raises: KeyboardInterrupt: it was interrupted, and so is all."""
        self._running.discard(step.key)
        self.estimates = self.estimates.plus(record)
        self._show(1)
        if record["status"] == "interrupted":
            raise KeyboardInterrupt(f"{step.name}: {record['error']}")
        if record["status"] != "done":
            self._failed[step.key] = f"{step.name}: {record['error']}"
            self.progress.warn(f"failed: {self._failed[step.key]}")
        else:
            self.progress.log(f"done: {step.name}, {duration(record.get('seconds', 0.0))}")

    def _show(self, steps: int) -> None:
        """On the bar: what runs, and how long the rest may take."""
        todo = self.graph.missing(*(step for cell in self.graph.cells for step in cell.ends))
        todo = [step for step in todo if step.key not in self._failed]
        seconds, unknown = self.estimates.total(todo)
        at_once = max(self.jobs, len(self._running))
        left = f"about {duration(seconds / at_once)}" if len(todo) > unknown else "not known" if todo else "nothing"
        left += f" and {counted(unknown, 'step')} not known" if 0 < unknown < len(todo) else ""
        runs = ", ".join(self.graph.steps[key].name for key in self._running) or "–"
        if self._bar is not None:
            self._bar.advance(steps, run=runs, rest=left)

    def _interrupted(self, first: str) -> InterruptedRunError:
        """Stop all. first: how the step that ended like that, if one did."""
        stopped = [(step, record) for step, record in self.executor.stop() if not step.done]
        said = [first, *(f"{step.name}: {record['error'] or 'interrupted'}" for step, record in stopped)]
        what = "; ".join(filter(None, said)) or "interrupted"
        return InterruptedRunError(what, "the same command goes on from there")

    def _outcome(self, cell: Cell) -> Outcome:
        if all(step.done for step in cell.ends):
            return Outcome(cell=cell, status="done")
        errors = [self._failed[step.key] for step in self.graph.missing(*cell.ends) if step.key in self._failed]
        return Outcome(cell=cell, status="failed" if errors else "left", error=errors[0] if errors else "")
