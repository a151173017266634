from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import typer

from bbqrec_cli.cli.console import Console, grid
from bbqrec_cli.cli.defaults import MADE_BY, flattened, options_of, value_text
from bbqrec_cli.cli.options import command
from bbqrec_cli.stages.inspect import InspectConfig, run

COUNTED = {"items": "items/id", "interactions": "sequences/items"}
SUMMED = ("weights", "encoder", "state", "cells")
"""Groups with many datasets, shown as one row each."""


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "inspect", InspectConfig, arguments=arguments)
    def inspect(config: InspectConfig, console: Console) -> None:
        found = run(config, console)
        head = f"{found['path']}: {found['kind']} file, schema {found['schema_version']}, "
        head += f"by bbqrec {found['bbqrec_version']}, {found['created'][:19].replace('T', ' ')} UTC"
        shapes = found["datasets"]
        lines = [f"made from {parent_text(each)}" for each in found["parents"]]
        counted = {"targets" if found["kind"] == "metrics" else "users": "users/id"} | COUNTED
        lines.append(", ".join(f"{shapes[p]['shape'][0]:,} {what}" for what, p in counted.items() if p in shapes))
        # A model's settings are part of its configuration, too.
        about = {key: value for key, value in found["attributes"].items() if key not in ("settings", "origin")}
        lines += [settings_text(about), origin_line(found["attributes"].get("origin", {}))]
        # The parents are listed above already.
        made_from = {each["path"] for each in found["parents"]}
        noted, changed, usual = options_of(found["kind"], found["config"], made_from)
        lines.append(f"recorded: {settings_text(noted)}" if noted else "")
        shown = [*filter(None, lines), "datasets:", grid(dataset_rows(shapes))]
        known = found["kind"] in MADE_BY
        titles = ("options that differ from the default:", "options at their default:" if known else "options:")
        for title, rows in zip(titles, (changed, usual), strict=True):
            shown += [title, grid(rows)] if rows else []
        console.result(found, head, *shown)


def parent_text(parent: dict[str, Any]) -> str:
    """'features.h5 (features, sha256 0123456789abcdef…)'; of a folder also how many files it holds."""
    files = f" of {parent['files']} files" if "files" in parent else ""
    return f"{parent['path']} ({parent['kind']}{files}, sha256 {parent['sha256'][:16]}…)"


def origin_line(origin: dict[str, Any]) -> str:
    """Where the file was computed, as far as it says so."""
    commit = f"commit {origin['commit'][:12]}" if origin.get("commit") else "commit not known"
    return f"computed on {origin['device']} in {origin['precision']}, {commit}" if origin else ""


def settings_text(values: dict[str, Any]) -> str:
    """'seed 0, levels 3, …'."""
    return ", ".join(f"{key} {value_text(value)}" for key, value in flattened(values))


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
