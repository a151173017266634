"""What the trials of a suite's systems came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bbqrec_cli.benchmark.graph import TUNE, Cell
from bbqrec_cli.benchmark.results import damage
from bbqrec_cli.hdf5 import read_tuning
from bbqrec_cli.pages.page import Section
from bbqrec_cli.tuning import report
from bbqrec_cli.tuning.result import TuneResult


def tunings(cells: Sequence[Cell], data: str) -> TuneResult | None:
    """The trials of all systems on a data set whose ledger is there, under the names of the suite; None for none."""
    every = ((cell.system, cell.step(TUNE)) for cell in cells if cell.data == data)
    steps = {name: step for name, step in every if step and step.done and not damage(step.output)}
    if not steps:
        return None
    first = next(iter(steps.values()))
    systems = [dataclasses.replace(step.config.system, name=name) for name, step in steps.items()]
    trials = [each | {"system": name} for name, step in steps.items() for each in read_tuning(step.output)["trials"]]
    return TuneResult(
        output=first.output.parent, report=None, source=data, splitting="", exclude_seen=first.config.exclude_seen,
        budget=first.config.budget, systems=systems, trials=trials, recipes={}, command="",
    )  # fmt: skip


def tuning_sections(result: TuneResult, data: str) -> list[Section]:
    """The best settings; then every trial and what was tried, as on the page of `bbqrec tune`."""
    on = f", {data}" if data else ""
    best = report.best_table(result)
    tables = [dataclasses.replace(best, title=f"Tuning{on}", note=f"{report.summary(result)} {best.note}")]
    for each in (*(report.trials_table(result, one) for one in result.systems), report.space_table(result.systems)):
        tables.append(dataclasses.replace(each, title=f"{each.title}{on}"))
    return [Section(table=each) for each in tables]
