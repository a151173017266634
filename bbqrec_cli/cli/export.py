from __future__ import annotations

from collections.abc import Sequence

import typer

from bbqrec_cli.cli.console import Console, table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.export import ExportConfig, run


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "export", ExportConfig, arguments=arguments)
    def export(config: ExportConfig, console: Console) -> None:
        result = run(config, console)
        rows = [(name, f"{count:,}") for name, count in result.rows.items()]
        head = f"{result.output}: {result.what} for {result.format}"
        console.result(result.to_json(), head, table("", ("", "count"), rows))
        if result.read_back:
            console.log(f"to read it again: {result.read_back}")
