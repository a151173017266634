"""From what was given, as flags or keywords, in a file and by a recipe, to a stage's configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bbqrec_cli.config import configure, field_name, flag
from bbqrec_cli.errors import UsageError
from bbqrec_cli.recipes import names, recipe


def build(
    classes: Sequence[type], command_name: str, flags: Mapping[str, Any], values: Mapping[str, Any], *, file: str,
    where: str = "the command line",
) -> Any:  # fmt: skip
    """The configuration: `flags` override `values` from `file`, and both override the recipe.

    Of several classes, the first whose required fields are all given is built (`AppendConfig` needs --append), else the
    last. A class with `only_if` also needs these values (`bbqrec benchmark speed`).

    Args:
        file, where: the sources of `values` and `flags`, for the errors.

    Raises:
        UsageError: what is wrong, and whether it comes from the file, the recipe or from `where`.
    """
    from_file = {field_name(key): value for key, value in values.items()}
    given = from_file | dict(flags)
    nested = from_file.get("options")
    from_table = nested.keys() if isinstance(nested, dict) else ()
    origins, brought = dict.fromkeys({*from_file, *from_table} - flags.keys(), file), dict[str, str]()
    needed = [[f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING] for cls in classes]
    fitting = (
        cls
        for cls, required in zip(classes, needed, strict=True)
        if required and set(required) <= given.keys() and getattr(cls, "only_if", {}).items() <= given.items()
    )
    chosen: Any = next(fitting, classes[-1])
    if hasattr(chosen, "alone"):
        known = {f.name for f in dataclasses.fields(chosen)} - (chosen.without & flags.keys())
        for key in (key for key in given if key not in known):
            source = f"{origins[key]}: " if key in origins else ""
            raise UsageError(f"{source}{chosen.alone}: {flag(key)} has no effect", "leave it out")
    elif given.get("recipe") and not chosen.many_methods:
        # What the file's table `options` says wins, as do its other options.
        said = set(map(field_name, from_table))
        settings = {key: value for key, value in recipe(given["recipe"], command_name).items() if key not in said}
        own = settings.keys() - given.keys()
        origins |= dict.fromkeys(own, f"the recipe {given['recipe']}")
        brought = dict.fromkeys(own, "--recipe") if str(given["recipe"]) in names() else {}
        given = settings | given
    return configure(chosen, chosen.completed(given), where=where, origins=origins, brought=brought)
