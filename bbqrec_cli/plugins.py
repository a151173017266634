"""Methods from outside: entry points of installed packages, and single files that the variable BBQREC_PLUGINS names.

Both are looked for when a registry is first asked for its names. What cannot be loaded is said, and left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import bbqrec_cli
from bbqrec_cli.errors import BBQRecError, MissingFileError, UsageError
from bbqrec_cli.progress import warn_python

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

VARIABLE = "BBQREC_PLUGINS"
"""The environment variable with the paths of files; child processes inherit it."""
FLAG = "--plugin"


@dataclass(frozen=True)
class Origin:
    """Where a method comes from: an installed distribution with its version, or a file by its name."""

    distribution: str = ""
    version: str = ""
    file: str = ""

    def __str__(self) -> str:
        return f"the file {self.file}" if self.file else f"{self.distribution} {self.version}".strip()


def own() -> Origin:
    """The origin of what this package brings."""
    return Origin("bbqrec", bbqrec_cli.__version__)


def origin_of(cls: type) -> Origin:
    """The origin of a class that is registered by hand: the file that declares it, if it lies in one."""
    path = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return Origin(file=Path(path).name if path else cls.__module__)


class Listener:
    """Who hears of a plugin that cannot be loaded; the command line puts its console here."""

    warn: Callable[[str], None] = staticmethod(warn_python)


@contextmanager
def left_out(plugin: str) -> Iterator[None]:
    """Turn an error of a plugin's code into a warning that names it."""
    try:
        yield
    except BBQRecError as error:
        Listener.warn(f"the plugin {plugin} is left out: {error.message}")
    except (Exception, SystemExit) as error:
        Listener.warn(f"the plugin {plugin} is left out: {_said(error)}")


def _said(error: BaseException) -> str:
    said = str(error).splitlines()[:1] or ["no message"]
    return f"{type(error).__name__}: {said[0]}"


def at_fault(error: BaseException) -> str:
    """The file and line of a plugin whose code an error passed through last, ''  if it is none's."""
    import traceback

    tops, found = {*_loaded.values(), *_modules}, ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in tops:
            found = f"{Path(frame.f_code.co_filename).name}, line {line}"
    return found


_modules = set[str]()
"""Top modules of the entry points."""


def entry_points(group: str) -> list[tuple[EntryPoint, Origin]]:
    """The entry points of a group in the installed distributions, in the order of their names."""
    from importlib.metadata import entry_points

    found = []
    for point in entry_points(group=group):
        about = point.dist
        _modules.add(point.module.partition(".")[0])
        found.append((point, Origin(about.name, about.version) if about else Origin(point.value)))
    return sorted(found, key=lambda each: (each[0].name, each[1].distribution))


_loaded: dict[str, str] = {}
"""Path of a file that was loaded, or could not be -> its module's name."""


def load_files() -> None:
    """Run the files that BBQREC_PLUGINS names, each once; they register by `Registry.add`."""
    for path in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        if path not in _loaded:
            _loaded[path] = Path(path).stem
            with left_out(Path(path).name):
                _run(Path(path).resolve())


def loaded() -> list[str]:
    """The plugins that were looked for: names of files, and of the modules of entry points."""
    return sorted({*(Path(path).name for path in _loaded), *_modules})


def is_file(module: str) -> bool:
    """Whether a module is that of a file that BBQREC_PLUGINS names."""
    return module in _loaded.values()


def _run(path: Path) -> None:
    """Import a file as the module of its name, as if its folder were on Python's path for it alone.

    Raises:
        MissingFileError: no such file.
        UsageError: another module has this name, or it is that of a module inside a package.
    """
    name = path.stem
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    if "." in name:
        raise UsageError(f"{path.name} has a dot in its name; rename the file")
    there = sys.modules.get(name)
    spec = getattr(there, "__spec__", None) if there else find_spec(name) if name.isidentifier() else None
    taken = there is not None or spec is not None
    if taken and (spec is None or not spec.origin or Path(spec.origin).resolve() != path):
        raise UsageError(f"there is another Python module of the name {name}; rename the file")
    if there is not None:
        return
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError("not a Python file (.py)")
    sys.modules[name] = module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def take_flag(arguments: MutableSequence[str], *, complete: bool = True) -> None:
    """Take every `--plugin FILE` out of a command line, wherever it stands, and put the file into BBQREC_PLUGINS.

    complete: not for completion, where files may be half typed.

    Raises:
        MissingFileError: no such file.
    """
    named, place = [], 0
    while place < len(arguments):
        flag, equals, value = arguments[place].partition("=")
        if flag != FLAG or (not equals and place + 1 == len(arguments)):  # without a value, Typer says so
            place += 1
            continue
        named.append(value if equals else arguments[place + 1])
        del arguments[place : place + (1 if equals else 2)]
    missing = [each for each in named if not Path(each).is_file()]
    if missing and complete:
        raise MissingFileError(f"{FLAG} {missing[0]}: no such file", "give the path of a Python file")
    found = [str(Path(each).resolve()) for each in named if each not in missing]
    if found:
        paths = dict.fromkeys([*os.environ.get(VARIABLE, "").split(os.pathsep), *found])
        os.environ[VARIABLE] = os.pathsep.join(filter(None, paths))


def plugin_flags() -> list[str]:
    """The words of a command line that name the files of BBQREC_PLUGINS, as they are seen from the current folder."""
    paths = [Path(each) for each in os.environ.get(VARIABLE, "").split(os.pathsep) if each]
    here = Path.cwd()
    seen = (path.relative_to(here) if path.is_relative_to(here) else path for path in paths)
    return [word for path in seen for word in (FLAG, str(path))]
