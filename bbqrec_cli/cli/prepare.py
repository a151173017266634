from __future__ import annotations

from collections.abc import Sequence

import typer

from bbqrec_cli.cli.console import Console, table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.prepare import PrepareConfig, PrepareResult, run

LEFT_OUT = {"ratings": "lower ratings", "dates": "other dates", "k_core": "k-core"}
"""Why interactions are not in the file (`PrepareResult.left_out`) -> how the table calls it."""


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "prepare", PrepareConfig, arguments=arguments)
    def prepare(config: PrepareConfig, console: Console) -> None:
        result = run(config, console)
        console.result(result.to_json(), table(str(result.output), ("", "count"), summary(result)))


def summary(result: PrepareResult) -> list[tuple[str, str]]:
    """The rows that are printed: the set as papers describe it; what is not plain; what is not in the file; fields."""
    rows = [(name, f"{getattr(result, name):,}") for name in ("users", "items", "interactions")]
    rows += [("average_length", f"{result.average_length:,}"), ("sparsity", f"{result.sparsity:.2%}")]
    rows += [(name, f"{getattr(result, name):,}") for name in ("texts", "images", "evaluated_users", "duplicates")]
    rows += [(f"tied {split} targets", f"{count:,}") for split, count in result.ties.items()]
    rows += [(f"left out: {LEFT_OUT.get(why, why)}", f"{count:,}") for why, count in result.left_out.items()]
    return rows + [(f"items with {name}", f"{count:,}") for name, count in result.fields.items()]
