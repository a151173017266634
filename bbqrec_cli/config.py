"""Configurations: frozen dataclasses whose fields carry their help, limits and role, checked by name and value.

`option` declares a field once. From that follow the flags and help panels (`cli/options.py`), the TOML keys, the stored
JSON, what a resumed run must agree with, and the key of a benchmark's step.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import keyword
import math
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from bbqrec_cli.errors import LackingError, MissingFileError, UsageError

T = TypeVar("T")

NAMED = 4
"""Methods that a message names, at most."""
ROLES = ("model", "fit", "input", "output", "runtime")
"""What an option concerns.

model: what is built; passed to a model's constructor and stored in its file. fit: how it is learnt or computed.
input: files or folders, identified by content, not path. output: where the result goes. runtime: how to run, which
changes no result beyond rounding. Output files record the first three.
"""


COMMON_FLAGS = ("config", "json", "quiet", "verbose", "plugin", "help")
"""Flags that all commands have, which no option can be called."""


@dataclass(frozen=True)
class Range:
    """Numbers from low to high that `bbqrec tune` tries; log: evenly by order of magnitude."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (", log scale" if self.log else "")


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    role: str = "fit",
    agreed: bool | None = None,
    paper: Any = MISSING,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    short: str = "",
    positional: bool = False,
    repeatable: bool = False,
    hub: bool = False,
    named: bool = False,
    complete: str = "",
    search: Sequence[Any] | Range | None = None,
    hidden: bool = False,
) -> Any:
    """A configuration field.

    Args:
        default: the value if no flag, file or recipe gives one (MISSING: required).
        help: one line for --help and the generated docs.
        role: one of ROLES.
        agreed: whether a resumed run must have the same value; by default for the roles model and fit.
        paper: the BBQRec paper's value, if the default differs.
        choices: the allowed strings, if it is a closed set.
        minimum, maximum: inclusive limits of a number.
        short: a short flag such as '-o'.
        positional: an argument rather than a flag.
        repeatable: a flag that may be repeated, each value used as it is (other tuples: a comma-separated list).
        hub: for role input: the value may also be a name instead of a file, such as a model on a hub.
        named: for role input: each value is NAME=FILE or NAME=FILE:MORE (`named_file`).
        complete: values for shell completion: 'models', 'tokenizers', 'encoders', 'recipes', 'sources', 'suites' or a
            file suffix.
        search: what `bbqrec tune` tries, choices or a Range; () for nothing, None for what the base class says.
        hidden: accepted, but not shown by --help or the generated docs.
    """
    assert role in ROLES
    metadata = {
        "help": help, "role": role, "agreed": role in ("model", "fit") if agreed is None else agreed, "paper": paper,
        "choices": tuple(choices), "minimum": minimum, "maximum": maximum, "short": short, "positional": positional,
        "repeatable": repeatable, "hub": hub, "named": named, "complete": complete, "search": search,
        "hidden": hidden,
    }  # fmt: skip
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """Options of every stage.

    without: those of them that change nothing in this command, which therefore has no flag for them; a TOML file's top
    level, which holds for all commands, may still set them.

    many_methods: the command takes several methods, each with its defaults or a recipe's settings; the class's
    `methods` names them, and the command checks their options.
    """

    without: ClassVar[frozenset[str]] = frozenset()
    many_methods: ClassVar[bool] = False

    seed: int = option(0, "Random seed.", minimum=0)
    device: str = option("auto", "Device: auto, cpu, cuda (or cuda:1, …) or mps.", role="runtime")
    threads: int = option(0, "CPU threads; 0: torch's default.", minimum=0, role="runtime")
    force: bool = option(False, "Overwrite an existing output.", role="output")

    @classmethod
    def completed(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The given options, and those that follow from files which they name."""
        return given


class MethodConfig:
    """The base of the configurations of models, tokenizers and sources.

    A plain default in a subclass (`width: int = 64`) changes that of an option of its bases, and nothing else of it.

    name: the method's name, by default that of the file that declares it (a cell of a notebook has none);
    implementation: 'module:Class', imported only when used; example: a command line with it, for --help.
    """

    name: ClassVar[str] = ""
    implementation: ClassVar[str] = ""
    example: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            module = cls.__module__.rpartition(".")[2]
            cls.name = "" if module == "__main__" else module.replace("_", "-")
        bases = (base for base in reversed(cls.__mro__[1:]) if dataclasses.is_dataclass(base))
        inherited = {f.name: f for base in bases for f in dataclasses.fields(base)}
        for name in vars(cls).keys() & inherited.keys():
            if not isinstance(vars(cls)[name], dataclasses.Field):
                setattr(cls, name, field(default=vars(cls)[name], metadata=inherited[name].metadata))

    @property
    def beyond_paper(self) -> tuple[str, ...]:
        """What carries this configuration's numbers that its paper does not have; tables say it."""
        return ()

    @property
    def idle(self) -> dict[str, str]:
        """Options that have no effect -> the option by whose value they have none; `tune` leaves them alone where that
        is not tuned."""
        return {}

    def without_effect(self, given: Iterable[str]) -> list[str]:
        """A line for each of the options that were given to no effect."""
        why = {name: self.idle[name] for name in sorted(self.idle.keys() & set(given))}
        off = {each: "--no-" if getattr(self, each) is False else "this --" for each in why.values()}
        return [f"{flag(name)} has no effect with {off[each]}{flag(each)[2:]}" for name, each in why.items()]


def role_of(f: dataclasses.Field) -> str:
    """A field's role; '' for a field without `option` metadata (a stage's `options`)."""
    return f.metadata.get("role", "")


def of_role(config: Any, *roles: str) -> dict[str, Any]:
    """Name -> value of the options of `config` with one of the roles; for a configuration class, -> default."""
    return {f.name: getattr(config, f.name, None) for f in dataclasses.fields(config) if role_of(f) in roles}


def shared(config: Any, cls: type) -> dict[str, Any]:
    """Name -> value of the options of `config` that class `cls` has, too."""
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(cls)}


def stored(config: Any) -> dict[str, Any]:
    """The options of `config` that an output file records, ready for JSON."""
    return _plain(of_role(config, "model", "fit", "input"))


def agreed(config: Any) -> dict[str, Any]:
    """The options that must be equal in a resumed run, without input files, ready for JSON."""
    return _plain({f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.metadata.get("agreed")})


def input_files(*configs: Any) -> list[tuple[str, Path]]:
    """(option, path) of every file or folder that options of role 'input' name; names on a hub are left out."""
    found = []
    for config in configs:
        for f in dataclasses.fields(config):
            value = getattr(config, f.name) if role_of(f) == "input" else None
            for each in value if isinstance(value, tuple) else (value,):
                each = named_file(each)[1] if f.metadata.get("named") else each
                if each and not (f.metadata["hub"] and not Path(each).exists()):
                    found.append((f.name, Path(each)))
    return found


def named_file(value: str) -> tuple[str, str, str]:
    """The parts of NAME=FILE:MORE; '' for those that are not there. The colon of a drive (C:\\…) belongs to FILE."""
    name, _, rest = value.partition("=")
    drive = rest[:2] if rest[1:3] in (":\\", ":/") else ""
    file, _, more = rest[len(drive) :].partition(":")
    return name, drive + file, more


def check_files(config: Any) -> None:
    """Raises: MissingFileError: a file that an option of role 'input' names does not exist."""
    for name, path in input_files(config):
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file", f"{flag(name)} names an input file")


def of_paper(cls: type) -> dict[str, Any]:
    """Option -> the paper's value, for the options whose default differs."""
    declared = {f.name: f.metadata.get("paper", MISSING) for f in dataclasses.fields(cls)}
    return {name: value for name, value in declared.items() if value is not MISSING}


def search_of(cls: type, name: str) -> Sequence[Any] | Range:
    """What `bbqrec tune` tries for an option of `cls`, () for nothing: as the nearest class says it that says it."""
    declared = (vars(base).get("__dataclass_fields__", {}).get(name) for base in cls.__mro__)
    said = (f.metadata.get("search") for f in declared if f is not None)
    return next((search for search in said if search is not None), ())


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values, default=str))


def from_mapping(
    cls: type[T], values: Mapping[str, Any], *, where: str, origins: Mapping[str, str] = types.MappingProxyType({})
) -> T:
    """Build configuration `cls` from `values`, refusing unknown keys and bad values by name.

    Args:
        cls: a frozen dataclass made of `option` fields.
        values: key to value; keys may use '-' for '_'.
        where: the source of the values, for the errors ('the command line', 'run.toml').
        origins: key -> its source, for keys from elsewhere.

    Raises:
        UsageError: an unknown key (with the nearest match), a wrong type, a value outside its limits.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    clean: dict[str, Any] = {}
    for key, value in values.items():
        name = field_name(key)
        if name not in fields:
            raise UsageError(f"{origins.get(key, where)}: unknown option {key!r}{did_you_mean(name, fields)}")
        clean[name] = check_value(fields[name], hints[name], value, where=origins.get(key, where))
    missing = [n for n, f in fields.items() if n not in clean and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise UsageError(f"{where}: {flag(missing[0])} is needed")
    return cls(**clean)


def configure(
    cls: type, given: Mapping[str, Any], *, where: str, origins: Mapping[str, str] = types.MappingProxyType({}),
    brought: Mapping[str, str] = types.MappingProxyType({}),
) -> Any:  # fmt: skip
    """Build configuration `cls` from `given`; if it has a `registry`, options of its method go into `options`.

    A file may also hold the table `options`, as output files do. origins: as for `from_mapping`; brought: key -> the
    flag that brings it, for keys that cannot be left out themselves.

    Raises:
        UsageError: as `from_mapping`; an option of other methods only.
    """
    given, own, registry = dict(given), _names(cls), getattr(cls, "registry", None)
    if registry is not None and isinstance(given.get("options", {}), dict):
        stage: Any = cls
        one = () if stage.many_methods else (given.get(stage.choice, registry.default),)
        methods: tuple[str, ...] = one or stage.methods(given)
        of_method = {name for method in methods for name in _names(registry.config(method))}
        if clash := sorted(own & of_method):
            what = f"{flag(clash[0])} is an option of the command itself"
            raise UsageError(f"{' or '.join(methods)}: {what}; a method cannot have it", "rename it in the plugin")
        for key in given.keys() - own - of_method:
            others = [name for name in registry if name not in methods and key in _names(registry.config(name))]
            if others:
                takes = ", ".join(flag(name) for name in sorted(of_method)) or "no options"
                out = f"{brought[key]} or {flag(stage.choice)}" if key in brought else flag(key)
                hint = f"leave {out} out; {' or '.join(methods)} takes {takes}"
                have = ", ".join(others[:NAMED]) + (f" and {len(others) - NAMED} more" if len(others) > NAMED else "")
                lacks = f"{' or '.join(methods)} has no {key.replace('_', ' ')}"
                raise UsageError(f"{origins.get(key, where)}: {lacks}; {flag(key)} is an option of {have}", hint)
            raise UsageError(f"{origins.get(key, where)}: unknown option {key!r}{did_you_mean(key, own | of_method)}")
        options = {key: given.pop(key) for key in list(given) if key not in own}
        given["options"] = given.get("options", {}) | options
        for method in one:
            from_mapping(registry.config(method), given["options"], where=where, origins=origins)
    return from_mapping(cls, given, where=where, origins=origins)


def _names(cls: type) -> set[str]:
    return {f.name for f in dataclasses.fields(cls)}


def did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    """' (did you mean …?)' for the known name closest to `name`, or ''."""
    folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def flag(name: str) -> str:
    """`codebook_size` -> `--codebook-size`, `from_` -> `--from`."""
    return "--" + name.rstrip("_").replace("_", "-")


def field_name(key: str) -> str:
    """`codebook-size` -> `codebook_size`, `from` -> `from_`: no field can be called as a word of Python."""
    name = key.replace("-", "_")
    return name + "_" if keyword.iskeyword(name) else name


def check_value(f: dataclasses.Field, hint: Any, value: Any, *, where: str) -> Any:
    """`value` as the field's type, inside its limits.

    Raises:
        UsageError: otherwise, naming the flag, the value and what is allowed.
    """
    if f.metadata.get("repeatable") and isinstance(value, str):
        value = [value] if value else []
    value = _coerce(f.name, hint, value, where)
    if value is None:
        return None
    choices, low, high = (f.metadata.get(k) for k in ("choices", "minimum", "maximum"))
    for each in value if isinstance(value, tuple) else (value,):
        if choices and each not in choices:
            raise UsageError(
                f"{where}: {flag(f.name)} is {each!r}; allowed: {', '.join(choices)}{did_you_mean(str(each), choices)}"
            )
        if (low is not None and not each >= low) or (high is not None and not each <= high):
            limits = f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
            raise UsageError(f"{where}: {flag(f.name)} is {each}; it must be {limits}")
        if isinstance(each, int) and abs(each) >= LARGEST:
            raise UsageError(f"{where}: {flag(f.name)} is {each}; a smaller number is needed")
        if isinstance(each, float) and not math.isfinite(each):
            raise UsageError(f"{where}: {flag(f.name)} is {each}; a finite number is needed")
    return value


LARGEST = 2**63
"""A whole number beyond this is none that an option could mean."""
_NEEDED = {
    int: "an integer", float: "a number", bool: "true or false", str: "a string", Path: "a path", dict: "a table"
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
        if isinstance(value, Path):
            value = [value]
        if not isinstance(value, (list, tuple)):
            raise UsageError(
                f"{where}: {flag(name)} is {value!r}; a list is needed",
                f"in a TOML file {name} = [{json.dumps(value, default=str)}]",
            )
        return tuple(_coerce(name, inner, v, where) for v in value)
    if hint in (Path, str) and isinstance(value, (str, Path)):
        return hint(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < LARGEST else math.inf
    if hint in (int, float) and isinstance(value, str):
        try:
            return hint(value)
        except (ValueError, OverflowError):
            pass
    if isinstance(hint, type) and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise UsageError(f"{where}: {flag(name)} is {value!r}; {_NEEDED.get(hint, hint.__name__)} is needed")
    return value


def load_toml(path: Path, what: str) -> tuple[dict[str, Any], str]:
    """A TOML file's values and its text. what: the file's description, for the error.

    Raises:
        MissingFileError: no such file.
        UsageError: not TOML. LackingError: no permission.
    """
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib
    try:
        text = path.read_text(encoding="utf-8-sig")
        return tomllib.loads(text), text
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such {what} file") from None
    except PermissionError:
        raise LackingError(f"{path}: no permission to read it") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", "give a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from None


def read_toml(path: Path, section: str, sections: Collection[str]) -> dict[str, Any]:
    """The options of a command in a TOML file: its top level, for all commands, overridden by the command's table.

    Args:
        section: the command.
        sections: all commands, that is the allowed tables.

    Raises:
        MissingFileError: no such file.
        UsageError: not TOML, or a table that is not a command.
    """
    values, _ = load_toml(path, "configuration")
    for name, value in values.items():
        if isinstance(value, dict) and name not in (*sections, "options"):
            raise UsageError(f"{path}: unknown table [{name}]{did_you_mean(name, sections)}")
    shared = {key: value for key, value in values.items() if key not in sections}
    own = values.get(section, {})
    if not isinstance(own, dict):
        raise UsageError(f"{path}: {section} is {own!r}; a table [{section}] is needed")
    return shared | own
