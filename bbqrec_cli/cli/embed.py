from __future__ import annotations

from collections.abc import Sequence

import typer

from bbqrec_cli.cli.console import Console, table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.embed import EmbedConfig, run


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "embed", EmbedConfig, arguments=arguments)
    def embed(config: EmbedConfig, console: Console) -> None:
        result = run(config, console)
        rows = [
            (name, about["encoder"] or "ready", about["dim"], about["present"], about["missing"])
            for name, about in result.features.items()
        ]
        console.result(
            result.to_json(),
            f"{result.output}: {result.items} items, {result.seconds:.0f} s",
            table("", ("modality", "encoder", "width", "items with it", "items without"), rows, left=2),
        )
