"""Which options of a file's configuration differ from the defaults of the command and method that made it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from bbqrec_cli.config import of_role, stored

MADE_BY = {
    "dataset": "prepare:PrepareConfig", "features": "embed:EmbedConfig", "tokens": "tokenize:TokenizeConfig",
    "model": "train:TrainConfig", "metrics": "evaluate:EvaluateConfig",
}  # fmt: skip
"""Kind of file -> the configuration of the command that writes it, in `stages/`."""
Rows = list[tuple[str, ...]]


def options_of(kind: str, config: dict[str, Any], parents: set[str]) -> tuple[dict[str, Any], Rows, Rows]:
    """What a file's configuration records beside options; then a row for each option that differs from the default,
    or whose default is not known (of a method that is not installed), and for each that does not. An option at `auto`,
    or which the command chose, is not counted as differing for what it came to. Options that name one of `parents`, the
    names of files, are left out."""
    classes = classes_of(kind, config)
    inputs = {name for cls in classes for name in of_role(cls, "input")}
    named = {key: value if isinstance(value, list) else [value] for key, value in config.items() if key in inputs}
    there = {key for key, files in named.items() if all(file and Path(file).name in parents for file in files)}
    config = {key: value for key, value in config.items() if key not in there}
    chosen = config.pop("chosen", None)
    defaults = defaults_of(classes)
    values = dict(flattened({key: value for key, value in config.items() if key in (*defaults, "options")}))
    noted = {key: value for key, value in config.items() if key not in defaults and key != "options"}
    if not defaults:
        return {}, [], [(key, value_text(value)) for key, value in flattened(config)]
    changed: Rows = []
    usual: Rows = []
    for key, value in values.items():
        if key not in defaults:
            changed.append((key, value_text(value), "default not known"))
            continue
        default = defaults[key]
        unset = default is None and not value and chosen is None  # older files do not say what was chosen
        if value == default or default == "auto" or unset or key in (chosen or ()):
            usual.append((key, value_text(value)))
        else:
            said = "" if default in ("", [], ()) else f"default {value_text(default)}"
            changed.append((key, value_text(value), said))
    return noted, changed, usual


def classes_of(kind: str, config: dict[str, Any]) -> list[Any]:
    """The configurations of the command that writes such files and of the method that one names; none for kinds that
    no command with options writes, nor of a method that is not installed."""
    if kind not in MADE_BY:
        return []
    module, name = MADE_BY[kind].split(":")
    cls = getattr(import_module(f"bbqrec_cli.stages.{module}"), name)
    registry = getattr(cls, "registry", None)
    method = config.get(cls.choice) if registry is not None else None
    return [cls, *([registry.config(method)] if registry is not None and method in registry else [])]


def defaults_of(classes: list[Any]) -> dict[str, Any]:
    """Option -> default."""
    found: dict[str, Any] = {}
    for cls in classes:
        own = stored(cls)
        # The command cannot run without them, so whatever is there was given.
        found |= own | {
            f.name: "" for f in dataclasses.fields(cls) if f.name in own and f.default is dataclasses.MISSING
        }
    return found


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
