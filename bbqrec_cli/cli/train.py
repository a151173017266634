from __future__ import annotations

from collections.abc import Sequence

import typer

from bbqrec_cli.cli.console import Console
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.train import TrainConfig, run


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "train", TrainConfig, arguments=arguments)
    def train(config: TrainConfig, console: Console) -> None:
        result = run(config, console)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in result.validation.items())
        was = ", ".join(f"{value:.4f}" for value in result.before.values())
        figures += f" (before: {was})" if was else ""
        what = f"best epoch {result.best_epoch} of {result.epochs}, " if result.epochs else ""
        console.result(
            result.to_json(),
            f"{result.output}: {result.model}, {what}validation {figures}, {result.seconds:.0f} s",
        )
