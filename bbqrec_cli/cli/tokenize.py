from __future__ import annotations

from collections.abc import Sequence

import typer

from bbqrec_cli.cli.console import Console, table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages import append
from bbqrec_cli.stages import tokenize as fitting
from bbqrec_cli.stages.append import AppendConfig
from bbqrec_cli.stages.tokenize import TokenizeConfig


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "tokenize", AppendConfig, TokenizeConfig, arguments=arguments)
    def tokenize(config: AppendConfig | TokenizeConfig, console: Console) -> None:
        result = (
            append.run(config, console) if isinstance(config, AppendConfig) else fitting.run(config, console)
        )  # fmt: skip
        used = result.figures
        # A level that --on-collision suffix added has no codebook.
        levels = sum(f"usage/{result.signals[0]}/{n}" in used for n in range(1, result.levels + 1))
        suffix = " and a level that counts" if levels < result.levels else ""
        new = f" ({result.new_items:,} of them new)" if result.new_items else ""
        head = (
            f"{result.output}: {result.items:,} items{new}, {levels} levels × {len(result.signals)} signals of "
            f"{result.codebook_size} codes{suffix}, {result.colliding_items:,} items in collisions, "
            f"{f'{result.epochs} epochs ' if result.epochs else ''}in {result.seconds:.0f} s"
        )
        books = [(s, n) for s in result.signals for n in range(1, levels + 1)]
        rows = [(f"{s}, level {n}", used[f"usage/{s}/{n}"], f"{used[f'perplexity/{s}/{n}']:.1f}") for s, n in books]
        console.result(result.to_json(), head, table("codebooks", ("codebook", "codes in use", "perplexity"), rows))
