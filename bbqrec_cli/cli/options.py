"""From configuration classes to a Typer command: one declaration makes flag, help panel, TOML key and stored value."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer

from bbqrec_cli.cli import completion
from bbqrec_cli.config import flag, read_toml, role_of
from bbqrec_cli.errors import BBQRecError, InterruptedRunError, UsageError
from bbqrec_cli.settings import build

if typing.TYPE_CHECKING:
    from bbqrec_cli.cli.console import Console

COMMANDS = {
    "prepare": "Turn raw data into a dataset file: prepare SOURCE [PATHS…].",
    "embed": "Encode the texts and pictures of a dataset file as features.",
    "tokenize": "Learn semantic IDs from features and training sequences; with --append, give IDs to new items.",
    "collisions": "Show which items share a semantic ID and why, and how codes are used; compare semantic IDs.",
    "train": "Train a recommender; validation NDCG@10 chooses the epoch.",
    "evaluate": "Measure Recall, NDCG and MRR under full ranking; the metrics file keeps every user's result.",
    "compare": "Compare metrics files: tests, slices, and the users for whom they differ.",
    "recommend": "Recommend items to users of the model file, for a given history, or for JSON lines on stdin.",
    "tune": "Tune models with equal budgets on validation NDCG@10; the best settings become recipes.",
    "benchmark": "Run tokenizers × models × seeds side by side: what is done is kept, what was interrupted goes on.",
    "export": "Write any bbqrec file for others: RecBole, LETTER, MiniOneRec, Parquet, CSV, NumPy, safetensors.",
    "inspect": "Show what a bbqrec file holds: kind, version, shapes, configuration, provenance.",
}
"""All commands, in the order in which data passes through them, with their line in --help."""
COMMON_FLAGS: dict[str, tuple[Any, str]] = {
    "config": (Path, "TOML file of options; flags override it."),
    "json": (bool, "Print the result as one JSON object on stdout."),
    "quiet": (bool, "Show only warnings and errors."),
    "verbose": (bool, "Show more: the parts of each epoch's loss, how codebooks are used, tracebacks of bugs."),
    "plugin": (Path, "Python file that adds models, tokenizers, … of your own; may be repeated."),
}
OFF = "no_"
"""Begins the names of hidden flags that switch off what is off by default, but on in a file or a recipe."""
PANELS = {"input": "Files", "output": "Files", "model": "Options", "fit": "Options", "runtime": "Running"}
"""Role -> title of the panel in --help."""


class CommandOutput:
    """How the running command prints; `cli/app.py` reports errors through it."""

    console: Console | None = None
    json_output = False
    verbose = False
    program = "bbqrec"
    """How it was called: 'bbqrec' or 'python -m bbqrec_cli'."""


def command(
    app: typer.Typer, name: str, *classes: type, arguments: Sequence[str] = ()
) -> Callable[[Callable], Callable]:
    """Register `function(config, console)` as `bbqrec NAME`, with a flag for every field of the configuration classes.

    Where a class has a `registry`, its methods' options are flags too; --help shows those of the chosen method. They
    arrive as the mapping `config.options`. Of several classes, the first whose required fields are all given is built
    (`AppendConfig` needs --append), else the last.

    Args:
        arguments: the command line, for --help's choice.
    """

    def register(function: Callable[[Any, Console], None]) -> Callable:
        chosen, registry = chosen_method(classes[-1], arguments), getattr(classes[-1], "registry", None)

        def run(**given: Any) -> None:
            from bbqrec_cli.cli.console import Console
            from bbqrec_cli.device import rank_of_environment

            common = {key: given.pop(key) for key in COMMON_FLAGS}
            # With several processes, only rank 0 prints.
            silent = rank_of_environment() > 0
            CommandOutput.json_output, CommandOutput.verbose = bool(common["json"]), bool(common["verbose"])
            CommandOutput.console = Console(
                json_output=CommandOutput.json_output,
                quiet=bool(common["quiet"]) or silent,
                verbose=CommandOutput.verbose,
                silent=silent,
            )
            flags = flags_of(given)
            values, file = {}, common["config"]
            if file:
                values = read_toml(file, name, tuple(COMMANDS))
            # Caught here, since Typer would end the program without a message.
            config = None
            try:
                where = f"{CommandOutput.program} {name}"
                config = build(classes, name, flags, values, file=str(file), where=where)
                function(config, CommandOutput.console)
            except KeyboardInterrupt:
                raise interrupted(resumable=hasattr(config, "resume")) from None
            except BrokenPipeError:  # the reader of stdout has closed the pipe (`| head`): nothing to report
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

        run.__doc__ = COMMANDS[name]
        parameters = [*_parameters(classes, registry, chosen), *_common_parameters()]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        app.command(name, epilog=_other_methods(registry, classes[-1], chosen))(run)
        return function

    return register


def flags_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given, `--no-x` as x = False. Raises: UsageError: --x and --no-x."""
    flags = {key: value for key, value in given.items() if value not in (None, [])}
    for key in [key for key in flags if key.startswith(OFF)]:
        del flags[key]
        name = key.removeprefix(OFF)
        if name in flags:
            raise UsageError(f"{flag(name)} and --no-{flag(name)[2:]} exclude each other", "give one of them")
        flags[name] = False
    return flags


def interrupted(*, resumable: bool = False) -> InterruptedRunError:
    """The error for an interruption about which the stage itself has nothing to add."""
    hint = "--resume continues from the last checkpoint" if resumable else ""
    return InterruptedRunError("interrupted; no output was changed", hint)


def chosen_method(config_class: type, arguments: Sequence[str]) -> str:
    """The method, model or source that a command line, its --config file or its --recipe names; else the default, or
    '' where it is an argument without one.

    Only for --help: an unreadable or unknown name means the same.
    """
    registry, choice = getattr(config_class, "registry", None), getattr(config_class, "choice", "")
    if registry is None:
        return ""
    named = dict(pairwise(arguments))
    named |= dict(each.split("=", 1) for each in arguments if each.startswith("--") and "=" in each)
    command_name = next((each for each in arguments if each in COMMANDS), "")
    found = named.get(flag(choice), "")
    positional = config_class.__dataclass_fields__[choice].metadata["positional"]  # type: ignore[attr-defined]
    if positional:
        found = next((each for each in arguments if each in registry), "")
    try:
        if config_class.many_methods:  # type: ignore[attr-defined]
            found = config_class.methods({key: named.get(flag(key), ()) for key in (choice, "recipe")})[0]  # type: ignore[attr-defined]
        if not found and "--config" in named:
            found = read_toml(Path(named["--config"]), command_name, tuple(COMMANDS)).get(choice, "")
        if not found and "--recipe" in named:
            from bbqrec_cli.recipes import recipe

            found = recipe(named["--recipe"], command_name).get(choice, "")
    except BBQRecError:  # `run` says it again
        pass
    return found if found in registry else "" if positional else registry.default


def _parameters(classes: Sequence[type], registry: Any, chosen: str) -> list[inspect.Parameter]:
    """Positional arguments; then the flags of the stage and of the chosen method; then, hidden, those of the others."""
    made: dict[str, inspect.Parameter] = {}
    for cls in reversed(classes):
        for f, hint in _fields(cls):
            made.setdefault(f.name, _parameter(f, hint, PANELS[role_of(f)]))
            made |= _switch_off(f, hint)
    for method in sorted(registry or (), key=lambda name: name != chosen):
        title = f"Options of {method}"
        for f, hint in _fields(registry.config(method)):
            made.setdefault(f.name, _parameter(f, hint, title, hidden=method != chosen))
            made |= _switch_off(f, hint)
    positional = [each for each in made.values() if isinstance(each.annotation.__metadata__[0], _ARGUMENT)]
    return [*positional, *(each for each in made.values() if each not in positional)]


def _fields(cls: type) -> list[tuple[dataclasses.Field, Any]]:
    hints = typing.get_type_hints(cls)
    without = getattr(cls, "without", ())
    return [(f, hints[f.name]) for f in dataclasses.fields(cls) if f.metadata.get("help") and f.name not in without]


def option_help(f: dataclasses.Field) -> str:
    """The help of a field: text, choices, default, and the paper's value."""
    meta, text = f.metadata, f.metadata["help"]
    if meta["choices"] and not all(c in text for c in meta["choices"]):
        text += f" One of: {', '.join(meta['choices'])}."
    said = [f"default: {value}" for value in filter(None, [_text(f.default)])]
    said += [f"paper: {_text(meta['paper']) or 'off'}"] if meta["paper"] is not dataclasses.MISSING else []
    return f"{text} [{'; '.join(said)}]" if said else text


def _text(default: Any) -> str:
    if default is dataclasses.MISSING or default is None or default == "" or default is False:
        return ""
    return ",".join(map(str, default)) if isinstance(default, tuple) else "on" if default is True else str(default)


# readable=False: the stage reports a file that cannot be read, with the path, a hint and its own exit status.
def _parameter(f: dataclasses.Field, hint: Any, panel: str, *, hidden: bool = False) -> inspect.Parameter:
    meta, kind = f.metadata, _plain_type(hint)
    text = option_help(f).replace("[", r"\[")  # else rich reads square brackets as a style
    complete = completion.completer(meta["complete"], meta["choices"])
    common: dict[str, Any] = {"help": text, "show_default": False, "rich_help_panel": panel, "autocompletion": complete}
    if meta["positional"]:
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if typing.get_origin(hint) is tuple:
            return _make(f.name, list[str], typer.Argument(**common), None)
        info = typer.Argument(**common, metavar=f.name.upper(), readable=False)
        return _make(f.name, kind, info, inspect.Parameter.empty if required else None)
    names = [flag(f.name) + (f"/--no-{f.name.replace('_', '-')}" if kind is bool and f.default is True else "")]
    names += [meta["short"]] if meta["short"] else []
    kind = list[str] if meta.get("repeatable") else kind
    return _make(f.name, kind, typer.Option(*names, **common, hidden=hidden or meta["hidden"], readable=False), None)


def _switch_off(f: dataclasses.Field, hint: Any) -> dict[str, inspect.Parameter]:
    """The hidden flag `--no-x` of an option that is off by default; {} for others."""
    if _plain_type(hint) is not bool or f.default is not False:
        return {}
    name = OFF + f.name
    return {name: _make(name, bool, typer.Option(flag(name), hidden=True, show_default=False), None)}


def _common_parameters() -> list[inspect.Parameter]:
    made = []
    for name, (kind, text) in COMMON_FLAGS.items():
        default = False if kind is bool else None
        info = typer.Option(
            flag(name), help=text, show_default=False, readable=False, rich_help_panel=PANELS["runtime"],
            autocompletion=completion.completer({"config": ".toml", "plugin": ".py"}.get(name, "")),
        )  # fmt: skip
        made.append(_make(name, kind, info, default))
    return made


_ARGUMENT = type(typer.Argument())


def _other_methods(registry: Any, config_class: type, chosen: str) -> str | None:
    """The example of the method that --help shows, and one line for each other one."""
    if registry is None:
        return None
    choice = config_class.choice  # type: ignore[attr-defined]
    positional = config_class.__dataclass_fields__[choice].metadata["positional"]  # type: ignore[attr-defined]
    typed = choice.upper() if positional else flag(choice)
    examples = {name: f" Example: {each}" if (each := registry.config(name).example) else "" for name in registry}
    lines = [examples[chosen].strip()] if examples.get(chosen) else []
    lines += [f"{'Other values' if chosen else 'Values'} of {typed}; add one to --help for its options:"]
    lines += [
        f"{name}: {registry.about(name)}{'' if chosen else examples[name]}" for name in registry if name != chosen
    ]
    return "\n\n".join(line.replace("[", r"\[") for line in lines)


def _make(name: str, kind: Any, info: Any, default: Any) -> inspect.Parameter:
    kind = kind if default is inspect.Parameter.empty or isinstance(default, bool) else kind | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _plain_type(hint: Any) -> Any:
    args = [a for a in typing.get_args(hint) if a is not type(None)]
    if typing.get_origin(hint) is tuple:
        return str
    kind = args[0] if args and typing.get_origin(hint) is not dict else hint
    return str if typing.get_origin(kind) is tuple else kind
