"""What the shell completes after an option: methods, models, encoders, recipes, sources, suites, choices and files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Complete = Callable[[str], list[str]]


def completer(what: str, choices: Sequence[str] = ()) -> Complete | None:
    """The function that completes an option's value.

    what: the option's `complete` (see `config.option`); a suffix such as '.h5' means files.
    """
    if choices:
        return lambda incomplete: _starting(choices, incomplete)
    if what.startswith("."):
        return lambda incomplete: files(incomplete, what)
    return (lambda incomplete: _starting(_names(what), incomplete)) if what else None


def files(incomplete: str, suffix: str) -> list[str]:
    """Files with a suffix, and folders."""
    folder, slash, start = incomplete.rpartition("/")
    try:
        found = sorted(Path(folder or slash or ".").iterdir())
    except OSError:
        return []
    shown = [each for each in found if each.name.startswith(start) and (start or not each.name.startswith("."))]
    kept = [f"{each.name}/" if each.is_dir() else each.name for each in shown if each.is_dir() or each.suffix == suffix]
    return [folder + slash + name for name in kept]


def _names(what: str) -> Iterable[str]:
    if what == "recipes":
        from bbqrec_cli.recipes import names

        return names()
    if what == "suites":
        from bbqrec_cli.benchmark.files import built_in

        return built_in()
    if what == "models":
        from bbqrec_cli.models.registry import MODELS

        return MODELS
    if what == "tokenizers":
        from bbqrec_cli.tokenizers.registry import TOKENIZERS

        return TOKENIZERS
    if what == "encoders":
        from bbqrec_cli.encoders.registry import DESCRIPTOR, ENCODERS

        return [DESCRIPTOR, *ENCODERS]
    from bbqrec_cli.data.sources.registry import SOURCES

    return SOURCES


def _starting(known: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in known if name.startswith(incomplete)]
