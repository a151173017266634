from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from bbqrec_cli.cli.console import Console, rich_table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.collisions import CollisionsConfig, run

if TYPE_CHECKING:
    from bbqrec_cli.collisions.analysis import Analysis
    from bbqrec_cli.pages.tables import Table


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "collisions", CollisionsConfig, arguments=arguments)
    def collisions(config: CollisionsConfig, console: Console) -> None:
        from bbqrec_cli.collisions import tables
        from bbqrec_cli.collisions.report import collisions_headline, ids_summary

        result = run(config, console)
        shown = tables.of_file(result.first) if config.details else [tables.prefixes_table(result.first)]
        if result.others:
            together = [tables.comparison_table(result.every), tables.agreement_table(result.pairs)]
            shown = [*shown, *together] if config.details else together[:1]
        shown += [] if config.details else asked(config, result.first)
        below = [f"page: {result.report}"] if result.report else []
        below += [] if config.details or result.report else ["more: --details, or --report ids.html with plots"]
        heads = [say(each) for each in result.every for say in (collisions_headline, ids_summary)]
        console.result(result.to_json(), *heads, *(rich_table(table) for table in shown if table.rows), "", *below)
        result.check(config.max_collisions)


def asked(config: CollisionsConfig, found: Analysis) -> list[Table]:
    """The tables that an option asks for by itself."""
    from bbqrec_cli.collisions import tables

    made = [tables.duplicates_table(found), tables.neighbours_table(found)] if config.features else []
    return [*made, tables.near_table(found), tables.pairs_table(found)] if config.near else made
