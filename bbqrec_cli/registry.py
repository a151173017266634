"""Registries: a folder of options files, one per method; a file's name is the method's name.

An options file declares one configuration class (`config.MethodConfig`). The first line of its docstring is the
method's line in --help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from bbqrec_cli.config import MethodConfig, did_you_mean
from bbqrec_cli.errors import UsageError


class Registry:
    """Method name -> configuration class and implementation.

    Args:
        package: the package of the options files; files that begin with '_' are shared by several.
        option: the flag that chooses a method, for the messages.
        default: the method that is used if none is named; it is listed first.
        advise: an unknown name -> what to type instead.
    """

    def __init__(
        self,
        package: str,
        *,
        option: str,
        default: str,
        advise: Callable[[str], str] = lambda name: "--help describes each",
    ) -> None:
        self.package, self.option, self.default, self._advise = package, option, default, advise
        self._added: dict[str, type[MethodConfig]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __len__(self) -> int:
        return len(self.names())

    def names(self) -> tuple[str, ...]:
        """All methods, the default first."""
        files = (each.name for each in iter_modules(import_module(self.package).__path__))
        found = {name.replace("_", "-") for name in files if not name.startswith("_")} | set(self._added)
        return tuple(sorted(found, key=lambda name: (name != self.default, name)))

    def add(self, config: type[MethodConfig]) -> None:
        """Register a method whose options are not in the package's folder."""
        self._added[config.name] = config

    def remove(self, name: str) -> None:
        """Remove a method that was added."""
        del self._added[name]

    def config(self, name: str) -> Any:
        """The configuration class of a method.

        Raises:
            UsageError: an unknown method; the message has the nearest name.
        """
        if name not in self:
            known = f"known: {', '.join(self.names())}{did_you_mean(str(name), self.names())}"
            raise UsageError(f"{self.option} is {name!r}; {known}", self._advise(str(name)))
        if name in self._added:
            return self._added[name]
        module = import_module(f"{self.package}.{name.replace('-', '_')}")
        return next(each for each in vars(module).values() if getattr(each, "__module__", "") == module.__name__)

    def about(self, name: str) -> str:
        """The first line of the docstring of a method's configuration."""
        return (self.config(name).__doc__ or "").strip().splitlines()[0]

    def implementation(self, name: str) -> Any:
        """Import and return the class that a method's configuration names."""
        module, attribute = self.config(name).implementation.split(":")
        return getattr(import_module(module), attribute)
