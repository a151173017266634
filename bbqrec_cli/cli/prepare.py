from __future__ import annotations

from collections.abc import Sequence

import typer

from bbqrec_cli.cli.console import Console, table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.prepare import PrepareConfig, run


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "prepare", PrepareConfig, arguments=arguments)
    def prepare(config: PrepareConfig, console: Console) -> None:
        result = run(config, console)
        rows = [(name, f"{value:,}") for name, value in result.to_json().items() if isinstance(value, (int, float))]
        rows += [(f"items with {name}", f"{count:,}") for name, count in result.fields.items()]
        console.result(result.to_json(), table(str(result.output), ("", "count"), rows))
