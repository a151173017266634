"""The Typer app, and the only place where an error becomes a message and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from bbqrec_cli import interrupts, plugins
from bbqrec_cli.cli.options import COMMANDS, COMMON_FLAGS, CommandOutput, interrupted
from bbqrec_cli.cli.streams import fit_streams
from bbqrec_cli.errors import BBQRecError, DiskFullError, InterruptedRunError, UsageError, environment_error


def make_app(arguments: Sequence[str] | None = None) -> typer.Typer:
    """The app.

    Args:
        arguments: the command line. Only the command that it names is imported; the others are stubs with one line of
            help, which is all that `bbqrec --help` shows. None: every command in full.
    """
    made = typer.Typer(
        name="bbqrec",
        help="Semantic IDs from text, pictures and interactions, and recommendation with them. "
        "Stages: prepare, embed, tokenize, collisions, train, evaluate, recommend.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_root)
    named = next((each for each in arguments or () if each in COMMANDS), "")
    for name, about in COMMANDS.items():
        if arguments is None or name == named:
            import_module(f"bbqrec_cli.cli.{name}").add_to(made, arguments or ())
        else:
            made.command(name, help=about)(_stub)
    return made


def _stub() -> None:
    """A command that the command line does not name."""


def __getattr__(name: str) -> Any:
    """`app`: all commands, for the tests and the docs."""
    if name == "app":
        return make_app()
    raise AttributeError(name)


def _version(asked: bool) -> None:
    if asked:
        from bbqrec_cli import __version__

        typer.echo(f"bbqrec {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    plugin: Annotated[
        list[str] | None, typer.Option("--plugin", metavar="PATH", help=COMMON_FLAGS["plugin"][1])
    ] = None,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with a status of docs/scripting.md: 0, 1, 2, 3, 4 or 130."""
    interrupts.listen()
    fit_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    CommandOutput.console, CommandOutput.json_output, CommandOutput.verbose = None, "--json" in arguments, False
    module = Path(sys.argv[0]).parts[-2:] == ("bbqrec_cli", "__main__.py")
    CommandOutput.program = "python -m bbqrec_cli" if module else "bbqrec"
    sys.exit(_run(arguments))


def _warn(message: str) -> None:
    from bbqrec_cli.cli.console import Console
    from bbqrec_cli.device import rank_of_environment

    # With several processes, only rank 0 prints.
    (CommandOutput.console or Console(silent=rank_of_environment() > 0)).warn(message)


def _run(arguments: list[str]) -> int:
    # For completion, the shell passes the typed words in the environment.
    typed = os.environ.get("_TYPER_COMPLETE_ARGS", os.environ.get("COMP_WORDS", "")).split()
    try:
        plugins.take_flag(typed or arguments, complete=not typed)
        plugins.Listener.warn = (lambda message: None) if typed else _warn
        program = "bbqrec" if typed else CommandOutput.program  # the shell's variable for completion is named after it
        status = make_app(typed or arguments)(args=arguments, prog_name=program, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _report_error(interrupted())
    except BBQRecError as error:
        return _report_error(error)
    except SystemExit:  # rich, when the reader of --help has closed the pipe (`| head`)
        return 0
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "show"):  # Typer's own usage errors
            return _usage_error(error)
        if CommandOutput.verbose:
            import traceback

            traceback.print_exception(error)
        return _report_error(meaning_of(error))


def meaning_of(error: Exception) -> BBQRecError:
    """The error for one of another package, of a plugin or of ours."""
    found = environment_error(error)
    # What a plugin imports or opens is its own.
    own = isinstance(error, (ModuleNotFoundError, OSError)) and not isinstance(found, DiskFullError)
    return unexpected(error) if found is None or (own and plugins.at_fault(error)) else found


def unexpected(error: Exception) -> BBQRecError:
    """The error for one that nobody expected: a plugin's, or else a bug."""
    what = f"{type(error).__name__}: {error}"
    if plugin := plugins.at_fault(error):
        return BBQRecError(f"an error in the plugin {plugin}: {what}", "run it again with --verbose to see all of it")
    # What a plugin gave may be wrong where no code of it runs any more.
    or_in = "".join(f" or in the plugin {each}" for each in plugins.loaded())
    return BBQRecError(f"a bug in bbqrec{or_in}: {what}", "run it again with --verbose and report it")


def _report_error(error: BBQRecError) -> int:
    if error.exit_code == InterruptedRunError.exit_code:
        interrupts.ignore()  # the interruption may have been another's, such as that of a step in its own process
    from bbqrec_cli.cli.console import Console

    (CommandOutput.console or Console(json_output=CommandOutput.json_output)).error(error)
    return error.exit_code


def _usage_error(error: Any) -> int:
    if CommandOutput.json_output:
        typed = error.ctx.command_path if error.ctx else CommandOutput.program
        return _report_error(UsageError(f"{typed}: {error.format_message()}", f"{typed} --help"))
    error.show()
    return 2
