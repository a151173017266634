"""The page of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark import scores, tables
from bbqrec_cli.benchmark.claims import claims_table, metrics_of, summed_up
from bbqrec_cli.benchmark.costs import costs_section
from bbqrec_cli.benchmark.findings import Shelf, SideBySide, Sliced
from bbqrec_cli.benchmark.result import BenchmarkResult
from bbqrec_cli.benchmark.trainings import training_sections
from bbqrec_cli.benchmark.tunings import tuning_sections
from bbqrec_cli.pages.page import Page, Section, with_plots, write_page
from bbqrec_cli.pages.provenance import provenance_table
from bbqrec_cli.pages.tables import NOT_KNOWN, Shown, Table, counted, make

HIT = " ✓"
"""Marks the target in a list."""


def write_report(path: Path, result: BenchmarkResult, *, force: bool = False) -> None:
    """Write the page whole or not at all. Raises: the errors of `write_page`."""
    write_page(path, page_of(result, plots=with_plots(path)), force=force)


def page_of(result: BenchmarkResult, *, plots: bool) -> Page:
    """What the page says."""
    return Page(
        title=f"Benchmark {result.suite}", command=result.command, headline=headline(result),
        summary=summary(result), sections=sections(result, plots=plots), bad=undone(result), appendix=result.text,
        appendix_title="The suite", advice="To change it, change the suite and give the command again.",
    )  # fmt: skip


def headline(result: BenchmarkResult) -> str:
    """The main outcome, and whether the paper's claims hold."""
    return " ".join(filter(None, (scores.headline(result), summed_up(result))))


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
    ways = {name: f" ({data['splitting']})" if data.get("splitting") else "" for name, data in sets}
    one = len(set(ways.values())) == 1
    on = [f"{data['users']:,} users and {data['items']:,} items of {name or data['source']}{'' if one else ways[name]}"
          f"{_evaluated(data)}" for name, data in sets]  # fmt: skip
    said += f", on {'; '.join(on)}" if on else ""
    how = next(iter(ways.values())) if one else ""
    protocols = {each for cell in result.cells for each in cell["exclude_seen"]}
    ranked = {(False,): "", (True,): " but those of the history", (False, True): ", with and without the history's"}
    said += f". Full ranking over all items{ranked.get(tuple(sorted(protocols)), '')}, split {result.split}{how}."
    return " ".join([said, *result.notes])


def _evaluated(data: Mapping[str, Any]) -> str:
    """How many of the users are evaluated, where it is not all of them, and on how many targets, if others."""
    if data["evaluated"] == data["users"] == data["targets"]:
        return ""
    targets = f" on {data['targets']:,} targets" if data["targets"] != data["evaluated"] else ""
    return f", {data['evaluated']:,} of them evaluated{targets}"


def sections(result: BenchmarkResult, *, plots: bool) -> list[Section]:
    """Every part, empty ones included. The tables that a suite asks for take the place of the usual ones."""
    tuned = [tuning_sections(each, data) for data, each in result.tunings.items()]
    usual = (tables.tokenizers_table, tables.seeds_table, tables.fitting_table)
    return [
        Section(table=tables.undone_table(result)),
        Section(table=claims_table(result)),
        *own_tables(result, plots=plots),
        *(plotted(result) if plots else []),
        *(Section(table=sliced_table(each)) for each in result.slices),
        *(Section(table=examples_table(each)) for each in result.examples),
        *(Section(table=make_table(result)) for make_table in usual if not result.asked),
        *(best for best, *_ in tuned),
        costs_section(result, plots=plots),
        *(section for _, *trials in tuned for section in trials),
        Section(table=tables.data_table(result)),
        Section(table=provenance_table(result.provenance)),
    ]


def own_tables(result: BenchmarkResult, *, plots: bool) -> list[Section]:
    """The tables of systems; those that the suite asks for have their plots: lines over a sweep, else bars."""
    from bbqrec_cli.benchmark.plots import score_bars, sweep_lines

    made = []
    for table, (layout, systems) in zip(scores.tables_of(result), result.layouts, strict=True):
        plot, caption, metrics = "", "", metrics_of(layout)
        if plots and result.asked and metrics and layout.sweep:
            named = [(label, {data: systems[data][name] for data in layout.data if name in systems[data]})
                     for label, name in layout.rows]  # fmt: skip
            plot = sweep_lines(layout.head, named, metrics, title=f"{table.title}, plot", claim=layout.claim)
            caption = "Lines: means over seeds. Whiskers: 95% intervals." + (
                " Shaded: the value that is said to be the best." if layout.claim else ""
            )
        elif plots and result.asked and metrics:
            filled = [data for data in layout.data if systems[data]]
            parts = [score_bars(systems[data], metrics, data, f"{table.title}, ") for data in filled]
            plot, caption = "".join(parts), "Bars: means over seeds. Whiskers: 95% intervals." if parts else ""
        made.append(Section(table=table, plot=plot, caption=caption))
    return made


def sliced_table(sliced: Sliced) -> Table:
    """A row a system, a column a group of targets; the best of a column is bold."""
    best = [max((row[n] or 0.0 for row in sliced.rows.values()), default=0.0) for n in range(len(sliced.groups))]
    rows = [
        (name, *(Shown((NOT_KNOWN,)) if value is None else Shown((f"{value:.4f}",), 0 < value == best[n])
                 for n, value in enumerate(row)))
        for name, row in sliced.rows.items()
    ]  # fmt: skip
    heads = [f"{group} ({counted(targets, 'target')})" if targets else group
             for group, targets in zip(sliced.groups, sliced.users, strict=True)]  # fmt: skip
    title = f"{scores.metric_name(sliced.metric)} by {sliced.by}{f', {sliced.data}' if sliced.data else ''}"
    return make(title, ("system", *heads), rows, note="Means over the targets of each group and over seeds.")


def examples_table(of: SideBySide) -> Table:
    """A row a user; the target is marked in the lists."""

    def items(shelf: Shelf) -> Shown:
        lines = tuple(f"{title}{HIT if place == shelf.hit else ''}" for place, title in enumerate(shelf.titles))
        return Shown(lines or (NOT_KNOWN,), pictures=tuple(shelf.pictures or [""]))

    title = f"Recommendations side by side{f', {of.data}' if of.data else ''}"
    if of.lacking:
        return make(title, ("left out",), [(of.lacking,)])
    rows = [
        (each.user, items(each.history), items(each.target), *(items(each.lists[name]) for name in of.systems))
        for each in of.examples
    ]
    ours, other = of.systems
    note = f"For these users {ours} and {other}, the best other system, differ most, with seed {of.seed}; "
    note += f"first those for whom {ours} is ahead."
    note += f"{HIT} marks the item that came next."
    return make(title, ("user", "history, newest last", "next", *of.systems), rows, left=5, note=note)


def plotted(result: BenchmarkResult) -> list[Section]:
    """The scores on each data set, where no table has its own, and the trainings."""
    from bbqrec_cli.benchmark.plots import score_bars

    made = []
    for data, systems in result.systems.items():
        if systems and not result.asked:
            nothing = make(f"Scores, {data}" if data else "Scores", (), [])
            whiskers = "Bars: means over seeds. Whiskers: 95% intervals."
            made.append(Section(table=nothing, plot=score_bars(systems, result.metrics, data), caption=whiskers))
    for data in result.data:
        made += training_sections(result, data)
    return made
