from __future__ import annotations

import typer

from bbqrec_cli.cli.console import Console, table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.tokenize import TokenizeConfig, run
from bbqrec_cli.tokenizers.registry import CONFIGS


def add_to(app: typer.Typer) -> None:
    @command(app, "tokenize", TokenizeConfig, *CONFIGS)
    def tokenize(config: TokenizeConfig, console: Console) -> None:
        """Turn features and training sequences into semantic IDs."""
        result = run(config, console)
        head = (
            f"{result.output}: {result.items} items, {result.levels} levels × {len(result.signals)} signals of "
            f"{result.codebook_size} codes, {result.colliding_items} items in collisions, "
            f"{result.epochs} epochs in {result.seconds:.0f} s"
        )
        books = [(s, str(level + 1)) for s in result.signals for level in range(result.levels)]
        rows = [
            (f"{s}, level {level}", result.figures[f"usage/{s}/{level}"], result.figures[f"perplexity/{s}/{level}"])
            for s, level in books
            if f"usage/{s}/{level}" in result.figures
        ]
        console.result(result.to_json(), head, table("codebooks", ("codebook", "codes in use", "perplexity"), rows))
