"""From a configuration dataclass to a Typer command: one declaration makes flag, TOML key and stored value."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from bbqrec_cli.cli.console import Console
from bbqrec_cli.config import flag, from_mapping, nearest, read_toml
from bbqrec_cli.errors import InterruptedRunError, UsageError

COMMANDS = ("prepare", "embed", "tokenize", "collisions", "train", "evaluate", "recommend", "benchmark", "inspect")
_TALK = {
    "config": (Path, "TOML file of options; flags win over it."),
    "json": (bool, "Print the result as one JSON object on stdout."),
    "quiet": (bool, "No progress, no notes."),
    "verbose": (bool, "Show tracebacks."),
}
current_console = Console()
"""The console of the running command; `cli/app.py` reports errors through it."""


def command(app: typer.Typer, name: str, config_class: type, *extra: type) -> Callable[[Callable], Callable]:
    """Register `function(config, console)` as `bbqrec NAME`, with a flag for every field of `config_class`.

    The flags of `extra` dataclasses (the options of the registered methods or models) are offered too; the given ones
    arrive as the mapping `config.options`, so `config_class` must then have that field.
    """

    def register(function: Callable[[Any, Console], None]) -> Callable:
        fields = _fields(config_class, *extra)

        def run(**given: Any) -> None:
            global current_console
            talk = {key: given.pop(key) for key in _TALK}
            json_output, quiet, verbose = (bool(talk[key]) for key in ("json", "quiet", "verbose"))
            current_console = Console(json_output=json_output, quiet=quiet, verbose=verbose)
            flags = {key: value for key, value in given.items() if value not in (None, [])}
            values, file = {}, talk["config"]
            if file:
                values = read_toml(file, name, COMMANDS)
            # Caught here, since Typer would end the program without a word.
            try:
                function(build(config_class, flags, extra, values, file=str(file)), current_console)
            except KeyboardInterrupt:
                raise interrupted() from None
            except BrokenPipeError:  # the reader of stdout has gone (`| head`): nothing to report, nobody to tell
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

        run.__doc__ = function.__doc__
        run.__signature__ = inspect.Signature([*_parameters(fields), *_talk_parameters()])  # type: ignore[attr-defined]
        app.command(name)(run)
        return function

    return register


def interrupted() -> InterruptedRunError:
    """What is said where the stage itself has nothing to add."""
    return InterruptedRunError(
        "interrupted; no output was changed", "stages with --resume go on from their last checkpoint"
    )


def build(
    config_class: type, flags: dict[str, Any], extra: tuple[type, ...], values: dict[str, Any], *, file: str
) -> Any:
    """The configuration of `flags` and, where they are silent, of `values` from `file`.

    Keys that only an `extra` dataclass knows go into `options`; a file may hold that table too, as output files do.

    Raises:
        UsageError: what is wrong, and whether it stands in the file or on the command line.
    """
    own = {f.name for f in dataclasses.fields(config_class)}
    others = {f.name for each in extra for f in dataclasses.fields(each)} - own
    for key in values:
        if key.replace("-", "_") not in own | others:
            raise UsageError(f"{file}: unknown option {key!r}{nearest(key, own | others)}")
    given = {key.replace("-", "_"): value for key, value in values.items()} | flags
    origins = {key: file for key in given if key not in flags}
    if extra and isinstance(given.get("options", {}), dict):
        options = {key: given.pop(key) for key in list(given) if key in others}
        given["options"] = given.get("options", {}) | options
    return from_mapping(config_class, given, where="the command line", origins=origins)


def _fields(*classes: type) -> dict[str, tuple[dataclasses.Field, Any, list[str]]]:
    """name -> (field, type, defaults said in --help), first declaration first."""
    found: dict[str, tuple[dataclasses.Field, Any, list[str]]] = {}
    for number, each in enumerate(classes):
        hints = typing.get_type_hints(each)
        for f in dataclasses.fields(each):
            if not f.metadata.get("help"):
                continue
            said = _default_text(f)
            label = said if number == 0 or not said else f"{said} ({getattr(each, 'method', each.__name__)})"
            if f.name not in found:
                found[f.name] = (f, hints[f.name], [label] if label else [])
            elif label and found[f.name][0].default != f.default:
                found[f.name][2].append(label)
    return found


def _default_text(f: dataclasses.Field) -> str:
    default = f.default if f.default is not dataclasses.MISSING else None
    if default is None or default == "" or default is False:
        return ""
    return ",".join(map(str, default)) if isinstance(default, tuple) else "on" if default is True else str(default)


def _parameters(fields: dict[str, tuple[dataclasses.Field, Any, list[str]]]) -> list[inspect.Parameter]:
    positional = [p for p in fields.values() if p[0].metadata.get("positional")]
    flags = [p for p in fields.values() if not p[0].metadata.get("positional")]
    return [_parameter(*p) for p in (*positional, *flags)]


# readable=False: whether a file can be read is the stage's to say, with the path, a hint and another exit status.
def _parameter(f: dataclasses.Field, hint: Any, defaults: list[str]) -> inspect.Parameter:
    meta = f.metadata
    about = meta["help"]
    if meta["choices"] and not all(c in about for c in meta["choices"]):
        about += f" One of: {', '.join(meta['choices'])}."
    if defaults:
        about += f" [default: {'; '.join(defaults)}]"
    about = escape(about)  # else rich takes what stands in square brackets for a style
    kind = _plain_type(hint)
    if meta["positional"]:
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if typing.get_origin(hint) is tuple:
            return _make(f.name, list[str], typer.Argument(help=about, show_default=False), None)
        info = typer.Argument(help=about, show_default=False, metavar=f.name.upper(), readable=False)
        return _make(f.name, kind, info, inspect.Parameter.empty if required else None)
    names = [flag(f.name) + (f"/--no-{f.name.replace('_', '-')}" if kind is bool and f.default is True else "")]
    names += [meta["short"]] if meta["short"] else []
    kind = list[str] if meta.get("repeatable") else kind
    return _make(f.name, kind, typer.Option(*names, help=about, show_default=False, readable=False), None)


def _talk_parameters() -> list[inspect.Parameter]:
    made = []
    for name, (kind, about) in _TALK.items():
        default = False if kind is bool else None
        info = typer.Option(flag(name), help=about, show_default=False, readable=False)
        made.append(_make(name, kind, info, default))
    return made


def _make(name: str, kind: Any, info: Any, default: Any) -> inspect.Parameter:
    kind = kind if default is inspect.Parameter.empty or isinstance(default, bool) else kind | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _plain_type(hint: Any) -> Any:
    args = [a for a in typing.get_args(hint) if a is not type(None)]
    if typing.get_origin(hint) is tuple:
        return str
    kind = args[0] if args and typing.get_origin(hint) is not dict else hint
    return str if typing.get_origin(kind) is tuple else kind
