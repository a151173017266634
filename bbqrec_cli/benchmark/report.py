"""The page of a benchmark."""

from __future__ import annotations

from pathlib import Path

from bbqrec_cli.benchmark import scores, tables
from bbqrec_cli.benchmark.result import BenchmarkResult
from bbqrec_cli.pages.page import Page, Section, with_plots, write_page
from bbqrec_cli.pages.tables import counted, make


def write_report(path: Path, result: BenchmarkResult, *, force: bool = False) -> None:
    """Write the page whole or not at all. Raises: the errors of `write_page`."""
    write_page(path, page_of(result, plots=with_plots(path)), force=force)


def page_of(result: BenchmarkResult, *, plots: bool) -> Page:
    """What the page says."""
    return Page(
        title=f"Benchmark {result.suite}", command=result.command, headline=scores.headline(result),
        summary=summary(result), sections=sections(result, plots=plots), bad=undone(result), appendix=result.text,
        appendix_title="The suite", advice="To change it, change the suite and give the command again.",
    )  # fmt: skip


def undone(result: BenchmarkResult) -> str:
    """How many cells are missing, '' if none is."""
    failed, left = len(result.of("failed")), len(result.of("left"))
    parts = [f"{counted(failed, 'cell')} failed" if failed else ""]
    parts.append(f"{counted(left, 'cell')} left for want of time" if left else "")
    return ", ".join(filter(None, parts))


def summary(result: BenchmarkResult) -> str:
    """What was run, in a line."""
    seeds = f"seed{'s' if len(result.seeds) > 1 else ''} {', '.join(map(str, result.seeds))}"
    said = f"{len(result.of('done'))} of {counted(len(result.cells), 'cell')} done ({seeds})"
    sets = [(name, data) for name, data in result.data.items() if data]
    on = [f"{data['users']:,} users and {data['items']:,} items of {name or data['source']}" for name, data in sets]
    said += f", on {'; '.join(on)}" if on else ""
    return " ".join([f"{said}. Full ranking over all items, split {result.split}.", *result.notes])


def sections(result: BenchmarkResult, *, plots: bool) -> list[Section]:
    """Every part, empty ones included. The tables that a suite asks for take the place of the usual ones."""
    usual = (tables.tokenizers_table, tables.seeds_table, tables.fitting_table, tables.costs_table)
    return [
        Section(table=tables.undone_table(result)),
        *(Section(table=table) for table in scores.tables_of(result)),
        *(plotted(result) if plots else []),
        *(Section(table=make_table(result)) for make_table in usual if not result.asked),
        Section(table=tables.data_table(result)),
        Section(table=tables.provenance_table(result.provenance)),
    ]


def plotted(result: BenchmarkResult) -> list[Section]:
    """The scores on each data set, and the validations."""
    from bbqrec_cli.benchmark.plots import epoch_lines, score_bars

    made = []
    for data, systems in result.systems.items():
        if systems:
            nothing = make(f"Scores, {data}" if data else "Scores", (), [])
            whiskers = "Bars: means over seeds. Whiskers: 95% intervals."
            made.append(Section(table=nothing, plot=score_bars(systems, result.metrics, data), caption=whiskers))
    if result.histories:
        named = {(", ".join(filter(None, (system, data))), seed): rows
                 for (system, data, seed), rows in result.histories.items()}  # fmt: skip
        best = "The epoch with the highest value is the one that is evaluated."
        made.append(Section(table=make("Validation by epoch", (), []), plot=epoch_lines(named), caption=best))
    return made
