from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from bbqrec_cli.cli.console import Console, grid
from bbqrec_cli.cli.options import command
from bbqrec_cli.config import stored
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
        lines = [f"made from {parent_text(each)}" for each in found["parents"]]
        lines.append(", ".join(f"{shapes[p]['shape'][0]:,} {what}" for what, p in COUNTED.items() if p in shapes))
        # A model's settings are part of its configuration, too.
        about = {key: value for key, value in found["attributes"].items() if key not in ("settings", "origin")}
        lines += [settings_text(about), origin_line(found["attributes"].get("origin", {}))]
        # The parents are listed above already.
        made_from = {each["path"] for each in found["parents"]}
        own = {k: v for k, v in found["config"].items() if not (isinstance(v, str) and Path(v).name in made_from)}
        noted, changed, usual = options_of(found["kind"], own)
        lines.append(f"recorded: {settings_text(noted)}" if noted else "")
        shown = [*filter(None, lines), "datasets:", grid(dataset_rows(shapes))]
        for title, rows in (("options that differ from the default:", changed), ("options at their default:", usual)):
            shown += [title, grid(rows)] if rows else []
        console.result(found, head, *shown)


def parent_text(parent: dict[str, Any]) -> str:
    """'features.h5 (features, sha256 0123456789abcdef…)'; of a folder also how many files it holds."""
    files = f" of {parent['files']} files" if "files" in parent else ""
    return f"{parent['path']} ({parent['kind']}{files}, sha256 {parent['sha256'][:16]}…)"


MADE_BY = {
    "dataset": "prepare:PrepareConfig", "features": "embed:EmbedConfig", "tokens": "tokenize:TokenizeConfig",
    "model": "train:TrainConfig", "metrics": "evaluate:EvaluateConfig",
}  # fmt: skip
"""Kind of file -> the configuration of the command that writes it, in `stages/`."""
Rows = list[tuple[str, ...]]


def options_of(kind: str, config: dict[str, Any]) -> tuple[dict[str, Any], Rows, Rows]:
    """What a file's configuration records beside options; then a row for each option that differs from the default,
    and for each that does not. An option at `auto`, or without a default, is not counted as differing for what it came
    to."""
    defaults = defaults_of(kind, config)
    values = dict(flattened({key: value for key, value in config.items() if key in (*defaults, "options")}))
    noted = {key: value for key, value in config.items() if key not in defaults and key != "options"}
    if not defaults:
        return {}, [], [(key, value_text(value)) for key, value in flattened(config)]
    changed: Rows = []
    usual: Rows = []
    for key, value in values.items():
        default = defaults.get(key, value)
        if value == default or default == "auto" or (default is None and not value):
            usual.append((key, value_text(value)))
        else:
            said = "" if default in ("", [], ()) or key not in defaults else f"default {value_text(default)}"
            changed.append((key, value_text(value), said))
    return noted, changed, usual


def defaults_of(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Option -> default, of the command that writes such files and of the method that the configuration names; {} for
    kinds that no command with options writes. A method that is not installed has none."""
    if kind not in MADE_BY:
        return {}
    module, name = MADE_BY[kind].split(":")
    cls = getattr(import_module(f"bbqrec_cli.stages.{module}"), name)
    found, registry = stored(cls), getattr(cls, "registry", None)
    # The command cannot run without them, so whatever is there was given.
    found |= {f.name: "" for f in dataclasses.fields(cls) if f.name in found and f.default is dataclasses.MISSING}
    method = config.get(cls.choice) if registry is not None else None
    return found | (stored(registry.config(method)) if registry is not None and method in registry else {})


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
