from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from bbqrec_cli.cli.console import Console, grid
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.inspect import InspectConfig, run

COUNTED = {"users": "users/id", "items": "items/id", "interactions": "sequences/items"}
SUMMED = ("weights", "encoder", "state", "cells")
"""Groups with many datasets, shown as one row each."""


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "inspect", InspectConfig, arguments=arguments)
    def inspect(config: InspectConfig, console: Console) -> None:
        found = run(config, console)
        head = f"{found['path']}: {found['kind']} file, schema {found['schema_version']}, "
        head += f"by bbqrec {found['bbqrec_version']}, {found['created'][:19].replace('T', ' ')} UTC"
        shapes = found["datasets"]
        lines = [f"made from {p['path']} ({p['kind']}, sha256 {p['sha256'][:16]}…)" for p in found["parents"]]
        lines.append(", ".join(f"{shapes[p]['shape'][0]:,} {what}" for what, p in COUNTED.items() if p in shapes))
        # A model's settings are part of its configuration, too.
        about = {key: value for key, value in found["attributes"].items() if key not in ("settings", "origin")}
        lines += [settings_text(about), origin_line(found["attributes"].get("origin", {}))]
        # The parents are listed above already.
        made_from = {each["path"] for each in found["parents"]}
        own = {k: v for k, v in found["config"].items() if not (isinstance(v, str) and Path(v).name in made_from)}
        lines.append(f"configuration: {settings_text(own)}")
        console.result(found, head, *filter(None, lines), "datasets:", grid(dataset_rows(shapes)))


def origin_line(origin: dict[str, Any]) -> str:
    """Where the file was computed, as far as it says so."""
    commit = f"commit {origin['commit'][:12]}" if origin.get("commit") else "commit not known"
    return f"computed on {origin['device']} in {origin['precision']}, {commit}" if origin else ""


def settings_text(values: dict[str, Any]) -> str:
    """'seed 0, levels 3, …'."""
    return ", ".join(f"{key} {value_text(value)}" for key, value in flattened(values))


def flattened(values: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    """Nested tables as dotted names; options that were not given are left out."""
    for key, value in values.items():
        if isinstance(value, dict):
            # The names of options and metrics need no prefix.
            yield from flattened(value, "" if key in ("options", "aggregates") else f"{within}{key}.")
        elif value not in (None, "", []):
            yield f"{within}{key}", value


def value_text(value: Any) -> str:
    """A number with four digits, a list separated by commas."""
    if isinstance(value, list):
        return ",".join(map(value_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def dataset_rows(datasets: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(path, shape, type); datasets of one group with equal shape and type share a row."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    numbers: dict[str, int] = {}
    for path, about in datasets.items():
        folder, slash, name = path.rpartition("/")
        if folder.rpartition("/")[2] in SUMMED:
            numbers[folder] = numbers.get(folder, 0) + math.prod(about["shape"])
        else:
            shape = " × ".join(map(str, about["shape"]))
            alike.setdefault((folder + slash, shape, about["type"]), []).append(name)
    found = [
        (folder + (", ".join(names) if len(names) == 1 else "{" + ", ".join(names) + "}"), shape, kind)
        for (folder, shape, kind), names in alike.items()
    ]
    return found + [(f"{folder}/…", f"{count:,} numbers", "") for folder, count in numbers.items()]
