from __future__ import annotations

import typer

from bbqrec_cli.cli.console import Console, table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.collisions import CollisionsConfig, Group, run


def add_to(app: typer.Typer) -> None:
    @command(app, "collisions", CollisionsConfig)
    def collisions(config: CollisionsConfig, console: Console) -> None:
        """Count the items that share a semantic ID, at every depth, and say how much of the codebooks is used."""
        result = run(config, console)
        head = f"{result.input}: {result.items:,} items, IDs by {result.method}"
        depths = [
            (
                d.depth, f"{d.distinct:,}", f"{d.colliding_items:,}",
                f"{100 * d.colliding_items / max(1, result.items):.1f}%", f"{d.largest:,}",
            )
            for d in result.depths
        ]  # fmt: skip
        books = [
            (signal, d.depth, f"{d.usage[signal]:,} of {result.codebook_size:,}", f"{d.perplexity[signal]:.1f}")
            for signal in result.signals
            for d in result.depths
        ]
        columns = ("depth", "distinct prefixes", "items in collisions", "of all", "largest group")
        shown = [
            table("prefixes", columns, depths),
            table("codebooks", ("signal", "level", "in use", "perplexity"), books),
        ]
        if result.groups:
            groups = [(group.size, code_text(group.code), named(group)) for group in result.groups]
            shown.append(table("largest groups", ("items", "semantic ID", "which"), groups, left=3))
        console.result(result.to_json(), head, *shown)
        result.check(config.max_collisions)


def code_text(code: list[list[int]]) -> str:
    """One signal: 3 1 4; more: 3,7 1,0 4,4, level by level."""
    return " ".join(",".join(map(str, level)) for level in code)


def named(group: Group, limit: int = 4) -> str:
    """The first items by title, or by id where there is none."""
    names = [each["title"] or each["id"] for each in group.items[:limit]]
    more = f"; and {group.size - limit:,} more" if group.size > limit else ""
    return "; ".join(name if len(name) <= 60 else name[:59] + "…" for name in names) + more
