"""Configurations: frozen dataclasses whose fields carry their help and limits, checked by name and value.

`option` declares a field once; the flags (`cli/options.py`), the TOML keys and the stored JSON all follow from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bbqrec_cli.errors import MissingFileError, UsageError

T = TypeVar("T")


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    short: str = "",
    positional: bool = False,
    repeatable: bool = False,
    stored: bool = True,
) -> Any:
    """A configuration field.

    Args:
        default: the value when neither flag nor file gives one (MISSING: required).
        help: one line for --help and the generated docs.
        choices: the allowed strings, if it is a closed set.
        minimum, maximum: inclusive limits of a number.
        short: a short flag such as '-o'.
        positional: an argument rather than a flag.
        repeatable: a flag that may be given several times, each value taken as it is (others: a comma-separated list).
        stored: whether it belongs to the configuration that the output file records.
    """
    metadata = {
        "help": help, "choices": tuple(choices), "minimum": minimum, "maximum": maximum, "short": short,
        "positional": positional, "repeatable": repeatable, "stored": stored,
    }  # fmt: skip
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What every stage takes."""

    seed: int = option(0, "Seed of every random choice.", minimum=0)
    device: str = option("auto", "auto, cpu, cuda (or cuda:1, …), mps.", stored=False)
    threads: int = option(0, "CPU threads; 0 leaves it to torch.", minimum=0, stored=False)
    force: bool = option(False, "Overwrite an existing output.", stored=False)


def from_mapping(
    cls: type[T], values: Mapping[str, Any], *, where: str, origins: Mapping[str, str] = types.MappingProxyType({})
) -> T:
    """Build configuration `cls` from `values`, refusing unknown keys and bad values by name.

    Args:
        cls: a frozen dataclass made of `option` fields.
        values: key to value; keys may use '-' for '_'.
        where: what the error names as the source ('the command line', 'run.toml').
        origins: the same for the keys that come from elsewhere.

    Raises:
        UsageError: an unknown key (with the nearest match), a wrong type, a value outside its limits.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    clean: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in fields:
            raise UsageError(f"{origins.get(key, where)}: unknown option {key!r}{nearest(name, fields)}")
        clean[name] = check_value(fields[name], hints[name], value, where=origins.get(key, where))
    missing = [n for n, f in fields.items() if n not in clean and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise UsageError(f"{where}: {flag(missing[0])} is needed")
    return cls(**clean)


def papers(cls: type, options: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """The options with which the paper ran configuration `cls`, its `PAPER`; those that are given win over them.

    Args:
        what: whose they are, for the message ('--method rqvae').

    Raises:
        UsageError: it has no such setting.
    """
    setting = getattr(cls, "PAPER", None)
    if setting is None:
        raise UsageError(f"--paper: {what} has no setting of the paper's", "--paper is for bbqrec; leave it out")
    return {**setting, **{key.replace("-", "_"): value for key, value in options.items()}}


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """' (did you mean …?)' for the known name closest to `name`, or ''."""
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def flag(name: str) -> str:
    """`codebook_size` -> `--codebook-size`."""
    return "--" + name.replace("_", "-")


def check_value(f: dataclasses.Field, hint: Any, value: Any, *, where: str) -> Any:
    """`value` as the field's type, inside its limits.

    Raises:
        UsageError: otherwise, naming the flag, the value and what is allowed.
    """
    value = _coerce(f.name, hint, value, where)
    if value is None:
        return None
    choices, low, high = (f.metadata.get(k) for k in ("choices", "minimum", "maximum"))
    for each in value if isinstance(value, tuple) else (value,):
        if choices and each not in choices:
            raise UsageError(
                f"{where}: {flag(f.name)} is {each!r}; allowed: {', '.join(choices)}{nearest(str(each), choices)}"
            )
        if (low is not None and not each >= low) or (high is not None and not each <= high):
            limits = f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
            raise UsageError(f"{where}: {flag(f.name)} is {each}; it must be {limits}")
    return value


_NEEDED = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path", dict: "a table"
}  # fmt: skip


def _coerce(name: str, hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
        origin = typing.get_origin(hint)
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        if isinstance(value, str):
            value = [v for v in value.split(",") if v]
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{where}: {flag(name)} is {value!r}; a list is needed")
        return tuple(_coerce(name, inner, v, where) for v in value)
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float) and isinstance(value, str):
        try:
            return hint(value)
        except ValueError:
            pass
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise UsageError(f"{where}: {flag(name)} is {value!r}; {_NEEDED.get(hint, hint.__name__)} is needed")
    return value


def load_toml(path: Path, what: str) -> tuple[dict[str, Any], str]:
    """A TOML file's values and its text; what: what it is called when it is not there.

    Raises:
        MissingFileError: no such file.
        UsageError: not TOML.
    """
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef]
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), text
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such {what} file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from None


def read_toml(path: Path, section: str, sections: Collection[str]) -> dict[str, Any]:
    """The options of a command in a TOML file: the file's top level, which holds for every command, then its own table.

    Args:
        section: the command.
        sections: all commands: the tables that there may be.

    Raises:
        MissingFileError: no such file.
        UsageError: not TOML, or a table that is no command's.
    """
    values, _ = load_toml(path, "configuration")
    for name, value in values.items():
        if isinstance(value, dict) and name not in (*sections, "options"):
            raise UsageError(f"{path}: unknown table [{name}]{nearest(name, sections)}")
    shared = {key: value for key, value in values.items() if key not in sections}
    own = values.get(section, {})
    if not isinstance(own, dict):
        raise UsageError(f"{path}: {section} is {own!r}; a table [{section}] is needed")
    return shared | own


def stored(config: Any) -> dict[str, Any]:
    """The part of `config` that an output file records, ready for JSON."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.metadata.get("stored", True)}
    return json.loads(json.dumps(values, default=str))
