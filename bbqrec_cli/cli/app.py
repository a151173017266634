"""The Typer app, and the only place where an error becomes a message and an exit status."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import Any

import typer

import bbqrec_cli
from bbqrec_cli.cli import options
from bbqrec_cli.errors import BBQRecError, LackingError, UsageError

COMMANDS = ("prepare", "embed", "tokenize", "collisions", "train", "evaluate", "recommend", "benchmark", "inspect")

app = typer.Typer(
    name="bbqrec",
    help="Semantic IDs from text, pictures and behaviour, and recommendation with them. "
    "Stages: prepare, embed, tokenize, collisions, train, evaluate, recommend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"bbqrec {bbqrec_cli.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


for _name in COMMANDS:
    if __import__("importlib.util").util.find_spec(f"bbqrec_cli.cli.{_name}"):
        import_module(f"bbqrec_cli.cli.{_name}").add_to(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the contract's status: 0, 1, 2, 3, 4 or 130."""
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = sys.argv[1:] if arguments is None else arguments
    options.current_console.json_output = "--json" in arguments
    sys.exit(_run(arguments))


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _run(arguments: list[str]) -> int:
    try:
        status = app(args=arguments, prog_name="bbqrec", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _say(options.interrupted())
    except BBQRecError as error:
        return _say(error)
    except MemoryError:
        return _say(LackingError("out of memory", "a smaller --batch-size"))
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "show"):  # Typer's own usage errors
            return _usage(error)
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
            return _say(LackingError(f"out of memory: {str(error).splitlines()[0]}", "a smaller --batch-size"))
        return _bug(error)


def _say(error: BBQRecError) -> int:
    options.current_console.error(error)
    return error.exit_code


def _usage(error: Any) -> int:
    if options.current_console.json_output:
        return _say(UsageError(error.format_message(), "bbqrec COMMAND --help"))
    error.show()
    return 2


def _bug(error: Exception) -> int:
    if options.current_console.verbose:
        import traceback

        traceback.print_exception(error)
    bug = BBQRecError(f"a bug in bbqrec: {type(error).__name__}: {error}", "run it again with --verbose and report it")
    return _say(bug)
