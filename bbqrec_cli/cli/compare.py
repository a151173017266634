from __future__ import annotations

from collections.abc import Sequence

import typer

from bbqrec_cli.benchmark.compare import CompareConfig, run
from bbqrec_cli.cli.console import Console, rich_table
from bbqrec_cli.cli.options import command


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "compare", CompareConfig, arguments=arguments)
    def compare(config: CompareConfig, console: Console) -> None:
        from bbqrec_cli.benchmark.compare import about, headline, tables_of

        result = run(config, console)
        shown = [rich_table(table) for table in tables_of(result, brief=True) if table.rows]
        page = [f"page: {result.report}"] if result.report else []
        console.result(result.to_json(), about(result), *shown, headline(result), *page)
