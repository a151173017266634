"""Registries: a folder of options files, one per method; a file's name is the method's name. Plugins add to them.

An options file declares one configuration class (`config.MethodConfig`). The first line of its docstring is the
method's line in --help.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Collection, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from bbqrec_cli import plugins
from bbqrec_cli.config import COMMON_FLAGS, MethodConfig, did_you_mean, flag, role_of
from bbqrec_cli.errors import BBQRecError, LackingError, UsageError
from bbqrec_cli.plugins import Origin


class Registry:
    """Method name -> configuration class and implementation.

    Args:
        package: the package of the options files; files that begin with '_' are shared by several. '': none.
        option: the flag that chooses a method, for the messages.
        default: the method that is used if none is named; it is listed first.
        advise: an unknown name -> what to type instead.
        group: the entry points by which installed packages add methods.
        base: what the configurations derive from.
        reserved: names that have a meaning of their own.
    """

    def __init__(
        self,
        package: str,
        *,
        option: str,
        default: str,
        advise: Callable[[str], str] = lambda name: "--help describes each",
        group: str = "",
        base: type[MethodConfig] = MethodConfig,
        reserved: Collection[str] = (),
    ) -> None:
        self.package, self.option, self.default, self._advise = package, option, default, advise
        self.group, self._base, self._reserved = group, base, reserved
        self._added: dict[str, tuple[type[MethodConfig], Origin]] = {}
        self._asked = False

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __len__(self) -> int:
        return len(self.names())

    def names(self) -> tuple[str, ...]:
        """All methods, the default first."""
        self._ask_plugins()
        return tuple(sorted(self._own() | set(self._added), key=lambda name: (name != self.default, name)))

    def _own(self) -> frozenset[str]:
        return _methods_of(self.package) if self.package else frozenset()

    def _ask_plugins(self) -> None:
        if not self._asked:
            self._asked = True
            for point, origin in plugins.entry_points(self.group) if self.group else ():
                with plugins.left_out(f"{point.name} of {origin}"):
                    self._register(point.load(), origin, name=point.name)
        plugins.load_files()

    def add(self, config: type[MethodConfig]) -> None:
        """Register a method whose options are not in the package's folder. A class may be registered anew.

        Raises:
            UsageError: the name is taken, or the class is no configuration of a method.
        """
        self._ask_plugins()
        self._register(config, plugins.origin_of(config))

    def _register(self, config: Any, origin: Origin, *, name: str = "") -> None:
        """name: what the entry point says, '' without one."""
        check_method(config, self._base)
        if name and name != config.name:
            raise UsageError(f'the class says the name {config.name!r}; write name: ClassVar[str] = "{name}" into it')
        if (owner := self._owner(config)) is not None:
            raise UsageError(f"{self.option} {config.name}, which {origin} adds, is one of {owner} already")
        self._added[config.name] = config, origin

    def _owner(self, config: type[MethodConfig]) -> Origin | None:
        """Who has the name of a configuration already; None for nobody, or for an earlier definition of the class."""
        if config.name in self._own() or config.name in self._reserved:
            return plugins.own()
        there, origin = self._added.get(config.name, (config, None))
        same = (there.__module__, there.__qualname__) == (config.__module__, config.__qualname__)
        return None if same else origin

    def remove(self, name: str) -> None:
        """Remove a method that was added."""
        del self._added[name]

    def origin(self, name: str) -> Origin:
        """Where a method comes from. Raises: UsageError: an unknown method."""
        self.config(name)
        return self._added[name][1] if name in self._added else plugins.own()

    def recorded(self, name: str) -> dict[str, Any]:
        """What an output file says of the plugin that brought a method; {} for one of this package."""
        origin = {key: value for key, value in dataclasses.asdict(self.origin(name)).items() if value}
        return {"plugin": origin} if name in self._added else {}

    def config(self, name: str) -> Any:
        """The configuration class of a method.

        Raises:
            UsageError: an unknown method; the message has the nearest name.
        """
        if name not in self:
            known = f"known: {', '.join(self.names())}{did_you_mean(str(name), self.names())}"
            raise UsageError(f"{self.option} is {name!r}; {known}", self._advise(str(name)))
        if name in self._added:
            return self._added[name][0]
        module = import_module(f"{self.package}.{name.replace('-', '_')}")
        return next(each for each in vars(module).values() if getattr(each, "__module__", "") == module.__name__)

    def about(self, name: str) -> str:
        """The first line of the docstring of a method's configuration."""
        return (self.config(name).__doc__ or "").strip().splitlines()[0]

    def implementation(self, name: str) -> Any:
        """Import and return the class that a method's configuration names.

        Raises:
            LackingError: the code of a plugin cannot be imported.
        """
        module, attribute = self.config(name).implementation.split(":")
        try:
            return getattr(import_module(module), attribute)
        except Exception as error:
            if name not in self._added or isinstance(error, BBQRecError):
                raise
            what = f"{self.option} {name} of {self.origin(name)} cannot be loaded: {type(error).__name__}: {error}"
            raise LackingError(
                what, f"{self.config(name).__name__}.implementation names {module}:{attribute}"
            ) from error


@cache
def _methods_of(package: str) -> frozenset[str]:
    files = (each.name.replace("_", "-") for each in iter_modules(import_module(package).__path__))
    return frozenset(name for name in files if not name.startswith("-"))


def check_method(config: Any, base: type[MethodConfig]) -> None:
    """Raises: UsageError: not a configuration of a method that commands could offer."""
    if not (isinstance(config, type) and issubclass(config, base) and dataclasses.is_dataclass(config)):
        raise UsageError(f"{config!r} is no dataclass that derives from {base.__name__}")
    if not config.name:
        what = f"{config.__name__} has no name; one that no file declares needs it"
        raise UsageError(what, 'name: ClassVar[str] = "mine"')
    if config.implementation.count(":") != 1:
        what = f"{config.__name__}.implementation is {config.implementation!r}"
        raise UsageError(f"{what}; 'module:Class' is needed")
    for f in dataclasses.fields(config):
        if not role_of(f):
            raise UsageError(f"{config.__name__}.{f.name} is not declared by option(…)")
        if f.name in COMMON_FLAGS or f.metadata["short"]:
            what = f.metadata["short"] or flag(f.name)
            raise UsageError(f"{config.__name__}.{f.name}: {what} is no flag for an option of a method")
    try:
        hints = typing.get_type_hints(config)
    except NameError as error:
        raise UsageError(f"the types of {config.__name__} cannot be read: {error}") from error
    for f in dataclasses.fields(config):
        if not _kinds(hints[f.name]) <= {int, float, str, bool, Path}:
            needed = "int, float, str, bool, Path or a tuple of one of them is needed"
            raise UsageError(f"{config.__name__}.{f.name} is of the type {hints[f.name]}; {needed}")


def _kinds(hint: Any) -> set[Any]:
    """The types that a hint is made of: int of `tuple[int, ...] | None`."""
    inside = [each for each in typing.get_args(hint) if each not in (type(None), ...)]
    return set().union(*map(_kinds, inside)) if inside else {hint}
