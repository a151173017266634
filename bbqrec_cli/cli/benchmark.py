from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.cli.console import Console
from bbqrec_cli.cli.options import command

if TYPE_CHECKING:
    from bbqrec_cli.benchmark.tables import Table


NAME_WIDTH = 12
"""What a narrow terminal leaves to names at least."""


def add_to(app: typer.Typer) -> None:
    @command(app, "benchmark", BenchmarkConfig)
    def benchmark(config: BenchmarkConfig, console: Console) -> None:
        """Run tokenizers × models × seeds side by side: what is done is kept, what was interrupted goes on."""
        from bbqrec_cli.benchmark import tables

        result = run(config, console)
        made = [tables.scores_table(result, brief=True), tables.tokenizers_table(result, brief=True)]
        shown = [
            rich_table(table)
            for table in (*made, tables.costs_table(result), tables.undone_table(result))
            if table.rows
        ]
        where = f"{result.output}: {len(result.of('done'))} of {len(result.cells)} cells are done"
        where += f"; page: {result.report}" if result.report else ""
        console.result(result.to_json(), *shown, *filter(None, (tables.headline(result),)), where)
        result.check()


def rich_table(table: Table) -> Any:
    """A table for the terminal; what is the best of its column is bold."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(
        box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), title=Text(f"\n{table.title}"), title_justify="left",
        title_style="bold", caption=Text(table.note) if table.note else None, caption_justify="left",
    )  # fmt: skip
    for number, column in enumerate(table.columns):
        if number < table.left:
            width = max(len(line) for row in table.rows for line in row[number].lines)
            made.add_column(Text(column), overflow="fold", min_width=min(width, NAME_WIDTH))
        else:
            made.add_column(Text(column), overflow="fold", justify="right")
    for row in table.rows:
        made.add_row(*(Text("\n".join(cell.lines), style="bold" if cell.best else "") for cell in row))
    return made
