from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
            *filter(None, map(remarks, result.features, result.features.values())),
        )


def remarks(name: str, about: Mapping[str, Any]) -> str:
    """What is to be said of a feature beside the table; '' for nothing."""
    said = {"taken from the earlier file": about["reused"], "texts longer than the model reads": about["long_texts"]}
    found = [f"{count:,} {what}" for what, count in said.items() if count]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in about["kinds"].items())
    return f"{name}: {'; '.join([*found, *([f'pictures: {kinds}'] if kinds else [])])}" if found or kinds else ""
