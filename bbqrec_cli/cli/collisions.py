from __future__ import annotations

from collections.abc import Sequence

import typer

from bbqrec_cli.cli.console import Console, rich_table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.collisions import CollisionsConfig, run


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "collisions", CollisionsConfig, arguments=arguments)
    def collisions(config: CollisionsConfig, console: Console) -> None:
        from bbqrec_cli.collisions import tables

        result = run(config, console)
        first = result.first
        head = f"{first.input}: {first.items:,} items, IDs by {first.method}"
        shown = tables.of_file(first)
        if result.others:
            shown += [tables.comparison_table(result.every), tables.agreement_table(result.pairs)]
        page = [f"page: {result.report}"] if result.report else []
        console.result(result.to_json(), head, *(rich_table(table) for table in shown if table.rows), *page)
        result.check(config.max_collisions)
