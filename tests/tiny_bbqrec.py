"""`bbqrec` with everything small, for tests that run examples and snippets of the docs as they stand.

The flags that make a command quick are put after those that were given, so they win.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from bbqrec_cli.cli.app import main
from bbqrec_cli.config import flag
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.recipes import recipe
from bbqrec_cli.tokenizers.registry import TOKENIZERS

SMALL = {
    "tokenize": {"epochs": 2, "warmup_epochs": 1, "codebook_size": 16, "dim": 16, "hidden": 16},
    "train": {"epochs": 1, "width": 16, "layers": 1, "heads": 2},
}
REGISTERED = {"tokenize": TOKENIZERS, "train": MODELS}


def small(arguments: list[str]) -> list[str]:
    """`arguments` and what makes them quick, as far as the method or model has it; --append takes none of it."""
    command = arguments[0] if arguments else ""
    if command == "prepare" and "demo" in arguments:
        return [*arguments, "--size", "small"]
    if command not in SMALL or "--append" in arguments:
        return arguments
    config = REGISTERED[command].config(named(command, arguments))
    known = {field.name for field in dataclasses.fields(config)}
    quick = {name: value for name, value in SMALL[command].items() if name in known}
    return [*arguments, *(word for name, value in quick.items() for word in (flag(name), str(value)))]


def named(command: str, arguments: list[str]) -> str:
    """The method or model that is asked for, by name, by a recipe or by a TOML file's name; bbqrec where none is."""
    if "--recipe" in arguments:
        values = recipe(arguments[arguments.index("--recipe") + 1], command)
        return values.get("method") or values["model"]
    asked = {Path(each).stem for each in arguments if not each.endswith(".h5")}
    return next((name for name in REGISTERED[command] if name in asked), "bbqrec")


if __name__ == "__main__":
    main(small(sys.argv[1:]))
