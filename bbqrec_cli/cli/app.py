"""The Typer app, and the only place where an error becomes a message and an exit status."""

from __future__ import annotations

import errno
import signal
import sys
import traceback
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import typer

import bbqrec_cli
from bbqrec_cli.cli import options
from bbqrec_cli.cli.options import COMMANDS
from bbqrec_cli.errors import (
    BBQRecError,
    DiskFullError,
    InterruptedRunError,
    LackingError,
    MissingPackageError,
    UsageError,
)

_NO_MEMORY = ("out of memory", "can't allocate memory", "unable to allocate")
"""What CUDA, torch and NumPy say."""


def make_app(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """The app; it starts faster with only the command that is run."""
    made = typer.Typer(
        name="bbqrec",
        help="Semantic IDs from text, pictures and behaviour, and recommendation with them. "
        "Stages: prepare, embed, tokenize, collisions, train, evaluate, recommend.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_root)
    for name in commands:
        import_module(f"bbqrec_cli.cli.{name}").add_to(made)
    return made


def __getattr__(name: str) -> Any:
    """`app`: all commands, for the tests and the docs."""
    if name == "app":
        return make_app()
    raise AttributeError(name)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"bbqrec {bbqrec_cli.__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with a status of docs/scripting.md: 0, 1, 2, 3, 4 or 130."""
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = sys.argv[1:] if arguments is None else arguments
    options.current_console.json_output = "--json" in arguments
    sys.exit(_run(arguments))


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _run(arguments: list[str]) -> int:
    command = next((each for each in arguments if not each.startswith("-")), "")
    try:
        app = make_app([command] if command in COMMANDS else COMMANDS)
        status = app(args=arguments, prog_name="bbqrec", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _say(options.interrupted())
    except BBQRecError as error:
        return _say(error)
    except SystemExit:  # rich, when the reader of --help has gone (`| head`)
        return 0
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "show"):  # Typer's own usage errors
            return _usage(error)
        if options.current_console.verbose:
            traceback.print_exception(error)
        bug = f"a bug in bbqrec: {type(error).__name__}: {error}"
        return _say(_lacking(error) or BBQRecError(bug, "run it again with --verbose and report it"))


def _lacking(error: Exception) -> LackingError | None:
    """What the environment lacks, where that is what an exception of somebody else's code means."""
    said = str(error)
    if isinstance(error, MemoryError) or any(each in said.lower() for each in _NO_MEMORY):
        what = f"out of memory: {said.splitlines()[0]}" if said else "out of memory"
        return LackingError(what, "a smaller --batch-size, a smaller model, or a larger machine")
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("bbqrec_cli"):
        package = str(error.name).split(".")[0]
        return MissingPackageError(f"the package {package} is not installed", "pip install --upgrade bbqrec")
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return DiskFullError(said, "free some space") if full else LackingError(said or type(error).__name__)
    return None


def _say(error: BBQRecError) -> int:
    if error.exit_code == InterruptedRunError.exit_code:
        # Whoever presses Ctrl-C again gets no traceback of what Python is tidying up.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    options.current_console.error(error)
    return error.exit_code


def _usage(error: Any) -> int:
    if options.current_console.json_output:
        return _say(UsageError(error.format_message(), "bbqrec COMMAND --help"))
    error.show()
    return 2
