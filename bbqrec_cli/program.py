"""A digest of the sources that a step runs: of the modules that it imports, as far as they belong to this program.

Imports are read, not run, and those inside functions count too. Comments, docstrings, the help texts of options, what
`tune` tries for them and imports for the type checker do not: what changes no result changes no digest.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any


def digest(*modules: str) -> str:
    """SHA-256 of the sources of `modules` and of all that they import from the packages that they lie in."""
    sums = {name: _read(path, path.stat().st_mtime_ns, name)[0] for name, path in closure(*modules).items()}
    return hashlib.sha256(repr(sorted(sums.items())).encode()).hexdigest()


def closure(*modules: str) -> dict[str, Path]:
    """Module -> file of `modules`, all that they import from their packages, and the packages on the way."""
    homes = {name.partition(".")[0] for name in modules}
    found: dict[str, Path] = {}
    todo = list(modules)
    while todo:
        parts = todo.pop().split(".")
        # The last parts of an imported name may be what a module defines.
        for name in (".".join(parts[: count + 1]) for count in range(len(parts))):
            path = None if name in found or parts[0] not in homes else file_of(name)
            if path is not None:
                found[name] = path
                todo += _read(path, path.stat().st_mtime_ns, name)[1]
    return found


@cache
def file_of(module: str) -> Path | None:
    """The file of a module or package; None where there is none of that name."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # __main__
        return None
    if spec is None or spec.origin is None:
        return None
    if not rest:
        return Path(spec.origin)
    for folder in map(Path, spec.submodule_search_locations or ()):
        path = folder.joinpath(*rest)
        for each in (path.with_suffix(".py"), path / "__init__.py"):
            if each.is_file():
                return each
    return None


@cache
def _read(path: Path, changed: int, module: str) -> tuple[str, tuple[str, ...]]:
    """A source file's digest without what only explains, and the dotted names that it imports. changed: its time."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        _strip(node)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = tuple(dict.fromkeys(_imports(tree, package)))
    return hashlib.sha256(repr(_plain(tree)).encode()).hexdigest(), names


def _strip(node: ast.AST) -> None:
    """Take docstrings, texts that stand alone, help texts and `if TYPE_CHECKING:` out of a node."""
    for name, value in ast.iter_fields(node):
        if isinstance(value, list):
            setattr(node, name, [each for each in value if not _explains(each)])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "option":
        node.args = node.args[:1]
        node.keywords = [each for each in node.keywords if each.arg not in ("help", "search")]


def _explains(node: Any) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            yield from (f"{start}.{each.name}" for each in node.names)


def _plain(value: Any) -> Any:
    """A tree without places in the file and without what is empty, which Python versions write differently."""
    if isinstance(value, ast.AST):
        fields = ((name, _plain(each)) for name, each in ast.iter_fields(value) if each not in (None, []))
        return type(value).__name__, *fields
    return [_plain(each) for each in value] if isinstance(value, list) else value
