from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from bbqrec_cli.cli.console import Console, table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.recommend import RecommendConfig, run

SHOWN_HISTORY = 5


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "recommend", RecommendConfig, arguments=arguments)
    def recommend(config: RecommendConfig, console: Console) -> None:
        from bbqrec_cli.serving.requests import Refused

        for found in run(config, console, sys.stdin.buffer if config.stdin else ()):
            if isinstance(found, Refused) or config.stdin or console.json_output:
                console.line(found.to_json())
                continue
            recent = [item.title or item.id for item in found.history[-SHOWN_HISTORY:]]
            count = len(found.history)
            head = f"{f'user {found.user}' if found.user else 'given history'}: {count} item{'s' * (count != 1)}"
            head += f", the last {len(recent)}:" if count > len(recent) else ":" if count else ""
            rows = [(rank, item.title, item.id, item.score) for rank, item in enumerate(found.items, start=1)]
            shown = table("recommended", ("rank", "title", "id", "score"), rows, left=3)
            console.result({}, head, *(f"  {title}" for title in recent), shown, "")
