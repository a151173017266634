"""The page of a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bbqrec_cli.benchmark import tables
from bbqrec_cli.pages.page import Page, Section, with_plots, write_page
from bbqrec_cli.pages.tables import counted, make

if TYPE_CHECKING:
    from bbqrec_cli.benchmark.run import BenchmarkResult


def write_report(path: Path, result: BenchmarkResult, *, force: bool = False) -> None:
    """Write the page whole or not at all. Raises: the errors of `write_page`."""
    write_page(path, page_of(result, plots=with_plots(path)), force=force)


def page_of(result: BenchmarkResult, *, plots: bool) -> Page:
    """What the page says."""
    return Page(
        title=f"Benchmark {result.suite}", command=result.command, headline=tables.headline(result),
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
    if result.data:
        said += f", on {result.data['users']:,} users and {result.data['items']:,} items of {result.data['source']}"
    return f"{said}. Full ranking over all items, split {result.split}."


def sections(result: BenchmarkResult, *, plots: bool) -> list[Section]:
    """Every part, empty ones included."""
    bars = lines = ""
    if plots and result.systems:
        from bbqrec_cli.benchmark.plots import epoch_lines, score_bars

        bars = score_bars(result.systems, result.metrics)
        lines = epoch_lines(result.histories) if result.histories else ""
    curves = make("Validation by epoch", (), [])
    whiskers = "Bars: means over seeds. Whiskers: 95% intervals."
    return [
        Section(table=tables.undone_table(result)),
        Section(table=tables.scores_table(result), plot=bars, caption=whiskers),
        Section(table=curves, plot=lines, caption="The epoch with the highest value is the one that is evaluated."),
        Section(table=tables.tokenizers_table(result)),
        Section(table=tables.seeds_table(result)),
        Section(table=tables.fitting_table(result)),
        Section(table=tables.costs_table(result)),
        Section(table=tables.data_table(result)),
        Section(table=tables.provenance_table(result)),
    ]  # fmt: skip
