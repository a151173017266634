"""Which options of a file's configuration differ from the defaults of the command and method that made it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from bbqrec_cli.config import stored

MADE_BY = {
    "dataset": "prepare:PrepareConfig", "features": "embed:EmbedConfig", "tokens": "tokenize:TokenizeConfig",
    "model": "train:TrainConfig", "metrics": "evaluate:EvaluateConfig",
}  # fmt: skip
"""Kind of file -> the configuration of the command that writes it, in `stages/`."""
Rows = list[tuple[str, ...]]


def options_of(kind: str, config: dict[str, Any]) -> tuple[dict[str, Any], Rows, Rows]:
    """What a file's configuration records beside options; then a row for each option that differs from the default,
    or whose default is not known (of a method that is not installed), and for each that does not. An option at `auto`,
    or without a default, is not counted as differing for what it came to."""
    defaults = defaults_of(kind, config)
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
        if value == default or default == "auto" or (default is None and not value):
            usual.append((key, value_text(value)))
        else:
            said = "" if default in ("", [], ()) else f"default {value_text(default)}"
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
