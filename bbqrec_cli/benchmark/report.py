"""The page: one content, shown as self-contained HTML with plots or as Markdown with tables only."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.benchmark import tables
from bbqrec_cli.benchmark.tables import Table
from bbqrec_cli.errors import OutputExistsError, UsageError
from bbqrec_cli.hdf5 import check_output

if TYPE_CHECKING:
    from bbqrec_cli.benchmark.run import BenchmarkResult

TEMPLATES = {".html": "report.html.j2", ".md": "report.md.j2"}
"""A page's suffix -> its template, which lies beside this file."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: a table and a plot (SVG, '' for none; shown by HTML only), each with what it shows."""

    table: Table
    plot: str = ""
    caption: str = ""


def check_page(path: Path, *, force: bool) -> None:
    """Refuse a page that could not be written before any work begins.

    Raises:
        UsageError: neither .html nor .md; OutputExistsError, DataError, LackingError: see `check_output`.
    """
    if path.suffix.lower() not in TEMPLATES:
        raise UsageError(f"--report is {str(path)!r}; a name that ends in {' or '.join(TEMPLATES)} is needed")
    try:
        check_output(path, force=force)
    except OutputExistsError as error:
        raise OutputExistsError(error.message, "give --force to overwrite it, or --report another name") from None


def write_report(path: Path, result: BenchmarkResult, *, force: bool = False) -> None:
    """Write the page whole or not at all.

    Raises:
        The errors of `check_page`; DiskFullError, LackingError.
    """
    from bbqrec_cli.hdf5.sink import target_of, write_error

    check_page(path, force=force)
    text = render(result, TEMPLATES[path.suffix.lower()])
    target = target_of(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, target)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def render(result: BenchmarkResult, template: str) -> str:
    """The page of a result."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"md": markdown, "fence": fence, "anchor": anchor}
    return environment.get_template(template).render(content(result, plots=template.endswith(".html.j2")))


def content(result: BenchmarkResult, *, plots: bool) -> dict[str, Any]:
    """What the page says, the same for both templates."""
    return {
        "name": result.suite, "command": result.command, "headline": tables.headline(result),
        "summary": summary(result), "sections": [s for s in sections(result, plots=plots) if s.table.rows or s.plot],
        "undone": undone(result), "suite": result.text,
    }  # fmt: skip


def undone(result: BenchmarkResult) -> str:
    """How many cells are missing, '' if none is."""
    failed, left = len(result.of("failed")), len(result.of("left"))
    parts = [f"{tables.counted(failed, 'cell')} failed" if failed else ""]
    parts.append(f"{tables.counted(left, 'cell')} left for want of time" if left else "")
    return ", ".join(filter(None, parts))


def summary(result: BenchmarkResult) -> str:
    """What was run, in a line."""
    seeds = f"seed{'s' if len(result.seeds) > 1 else ''} {', '.join(map(str, result.seeds))}"
    said = f"{len(result.of('done'))} of {tables.counted(len(result.cells), 'cell')} done ({seeds})"
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
    curves = tables.make("Validation by epoch", (), [])
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


def markdown(text: str) -> str:
    """Text that Markdown (a table's cell, too) shows as it is."""
    return re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", " ".join(text.split()))


def fence(text: str) -> str:
    """A fence that is longer than any in the text."""
    return "`" * max(3, 1 + max((len(each) for each in re.findall(r"`+", text)), default=0))


def anchor(title: str) -> str:
    """A heading's id."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
