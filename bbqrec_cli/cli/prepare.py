from __future__ import annotations

import typer

from bbqrec_cli.cli.console import Console, table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.prepare import PrepareConfig, run


def add_to(app: typer.Typer) -> None:
    @command(app, "prepare", PrepareConfig)
    def prepare(config: PrepareConfig, console: Console) -> None:
        """Turn raw data into a dataset file: demo, s3rec FOLDER, table FILE, amazon FOLDER."""
        result = run(config, console)
        rows = [(name, f"{value:,}") for name, value in result.to_json().items() if isinstance(value, (int, float))]
        rows += [(f"items with {name}", f"{count:,}") for name, count in result.fields.items()]
        console.result(result.to_json(), table(str(result.output), ("", "count"), rows))
