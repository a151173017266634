"""The page of one or more analyses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import bbqrec_cli
from bbqrec_cli.collisions import tables
from bbqrec_cli.collisions.agreement import Agreement
from bbqrec_cli.collisions.analysis import Analysis
from bbqrec_cli.pages.page import Page, Section
from bbqrec_cli.pages.tables import Table, make, moment


def collisions_page(
    every: Sequence[Analysis], pairs: Sequence[tuple[str, str, Agreement]], *,
    command: str, origin: Mapping[str, Any], plots: bool,
) -> Page:  # fmt: skip
    """The page of all files and of the agreement between every two of them.

    Args:
        command: the command that reproduces the page.
        origin: provenance, as name -> value.
        plots: whether to draw plots.
    """
    together = []
    if len(every) > 1:
        together = [Section(table=titled(tables.comparison_table(every)), **_by_depth(every, plots))]
        together.append(Section(table=titled(tables.agreement_table(pairs))))
    sections = [section for found in every for section in _sections(found, several=len(every) > 1, plots=plots)]
    made = {"bbqrec": bbqrec_cli.__version__, **origin}
    made["page made"] = moment(datetime.now(timezone.utc).isoformat())
    where = make("Where the numbers come from", ("what", "value"), list(made.items()), left=2)
    return Page(
        title="Semantic IDs of " + ", ".join(found.input for found in every), command=command,
        headline=" ".join(collisions_headline(found) for found in every),
        sections=[*together, *sections, Section(table=where)],
        summary=" ".join(ids_summary(found) for found in every),
    )  # fmt: skip


def collisions_headline(found: Analysis) -> str:
    """The main outcome in a sentence."""
    share = tables.share(found.colliding_items, found.items)
    return f"{found.input}: {found.colliding_items:,} of {found.items:,} items ({share}) share their whole ID."


def ids_summary(found: Analysis) -> str:
    """Method, size and signals of the IDs, in a sentence."""
    signals = f"signal{'s' if len(found.signals) > 1 else ''} {', '.join(found.signals)}"
    levels = tables.quantised_levels(found)
    counted = " and one that counts items of equal codes" if levels < len(found.depths) else ""
    made = f"IDs by {found.method}, {levels} levels of {found.codebook_size:,} codes{counted}"
    return f"{found.input}: {made}, {signals}."


def titled(table: Table, label: str = "") -> Table:
    """A table with a title for a page."""
    title = table.title[0].upper() + table.title[1:]
    return dataclasses.replace(table, title=f"{label}: {table.title}" if label else title)


def _sections(found: Analysis, *, several: bool, plots: bool) -> list[Section]:
    label = found.input if several else ""
    made = []
    for table in tables.of_file(found):
        plot: dict[str, str] = {}
        if table.title == "prefixes" and not several:
            plot = _by_depth([found], plots)
        elif table.title == "codebooks":
            plot = _usage(found, plots)
        made.append(Section(table=titled(table, label), **plot))
    return made


def _by_depth(every: Sequence[Analysis], plots: bool) -> dict[str, str]:
    if not plots:
        return {}
    from bbqrec_cli.collisions.plots import depth_plot

    title = f"By depth: {', '.join(found.input for found in every)}"
    return {
        "plot": depth_plot(every, title),
        "caption": "Items that share the first levels, and the branching below them.",
    }


def _usage(found: Analysis, plots: bool) -> dict[str, str]:
    if not plots:
        return {}
    from bbqrec_cli.collisions.plots import usage_plot

    caption = "Items per code, most used first. Grey: even use. A line ends where codes are unused."
    return {"plot": usage_plot(found), "caption": caption}
