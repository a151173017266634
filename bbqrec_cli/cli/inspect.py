from __future__ import annotations

import typer

from bbqrec_cli.cli.console import Console, table
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.inspect import InspectConfig, run


def add_to(app: typer.Typer) -> None:
    @command(app, "inspect", InspectConfig)
    def inspect(config: InspectConfig, console: Console) -> None:
        """Say what any bbqrec file is: kind, version, shapes, configuration, provenance."""
        found = run(config, console)
        head = f"{found['path']}: {found['kind']} file, schema {found['schema_version']}, "
        head += f"by bbqrec {found['bbqrec_version']}, {found['created']}"
        shapes = [(n, " × ".join(map(str, d["shape"])), d["type"]) for n, d in found["datasets"].items()]
        settings = [(k, v) for k, v in found["config"].items()]
        parents = [(p["path"], p["kind"], p["sha256"][:16]) for p in found["parents"]]
        console.result(
            found,
            head,
            table("datasets", ("path", "shape", "type"), shapes, left=3),
            table("configuration", ("option", "value"), settings, left=2),
            table("made from", ("file", "kind", "sha256 (first 16)"), parents, left=3),
        )
