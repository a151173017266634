from __future__ import annotations

import typer

from bbqrec_cli.cli.console import Console
from bbqrec_cli.cli.options import command
from bbqrec_cli.models.registry import CONFIGS
from bbqrec_cli.stages.train import TrainConfig, run


def add_to(app: typer.Typer) -> None:
    @command(app, "train", TrainConfig, *CONFIGS)
    def train(config: TrainConfig, console: Console) -> None:
        """Train a recommender; the epoch is chosen by validation NDCG@10."""
        result = run(config, console)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in result.validation.items())
        what = f"best epoch {result.best_epoch} of {result.epochs}, " if result.epochs else ""
        console.result(
            result.to_json(),
            f"{result.output}: {result.model}, {what}validation {figures}, {result.seconds:.0f} s",
        )
