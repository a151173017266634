"""The import rules of docs/architecture.md: only downwards, and what is heavy only where it is needed."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import bbqrec_cli

PACKAGE = Path(bbqrec_cli.__file__).parent
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
GROUND_FLOOR = (
    "errors", "config", "plugins", "registry", "seeds", "progress", "device", "origin", "frames", "records", "grouping",
    "hdf5", "interrupts", "recipes", "settings", "locks", "outputs",
)  # fmt: skip
LIBRARIES = (
    "pages", "data", "formats", "collisions", "decoding", "training", "models", "evaluation", "encoders", "tokenizers",
    "serving",
)  # fmt: skip
"""In the order of docs/architecture.md: each imports only what stands before it, and the ground floor."""
LIGHT = {"__future__", "bbqrec_cli", "typer", "rich"}


def part(name: str) -> str:
    """`stages/embed.py` -> stages, `config.py` -> config."""
    return name.split("/")[0].removesuffix(".py")


@cache
def imports(tree: ast.AST, *, at_import: bool = False) -> tuple[str, ...]:
    """Dotted names that are imported; at_import: only those that importing the module brings in."""
    return tuple(_imports(tree, at_import))


def _imports(tree: ast.AST, at_import: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the layer"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif at_import and (isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or type_checking(node)):
            continue
        else:
            yield from _imports(node, at_import)


def type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def inner(names: Iterable[str]) -> set[str]:
    """The parts of bbqrec_cli among imported names."""
    return {name.split(".")[1] for name in names if name.startswith("bbqrec_cli.")}


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {name: ast.parse(path.read_text(encoding="utf-8"), filename=name) for name, path in FILES.items()}


def test_the_rules_see_what_they_should():
    tree = ast.parse("import h5py as h\nif TYPE_CHECKING:\n    import torch\ndef f():\n    from a.b import c\n")
    assert imports(tree) == ("h5py", "torch", "a.b.c")
    assert imports(tree, at_import=True) == ("h5py",)
    assert inner(["bbqrec_cli.stages.embed.run", "numpy"]) == {"stages"}


def test_nothing_imports_what_python_code_calls(trees):
    """api.py stands beside cli/; the package's own file looks it up by name, and imports it for types."""
    for name, tree in trees.items():
        if name != "__init__.py":
            assert "api" not in inner(imports(tree)), name
    assert inner(imports(trees["api.py"])) & {"stages", "cli"} == {"stages", "cli"}
    assert not inner(imports(trees["api.py"], at_import=True)) & {"stages", "cli", "hdf5", "serving"}


def test_only_hdf5_imports_h5py(trees):
    guilty = {name for name, tree in trees.items() if any(i.split(".")[0] == "h5py" for i in imports(tree))}
    assert {part(name) for name in guilty} == {"hdf5"}


def test_only_cli_knows_typer_and_rich(trees):
    for name, tree in trees.items():
        known = {i.split(".")[0] for i in imports(tree)} & {"typer", "rich", "click"}
        assert not known or part(name) == "cli", f"{name} imports {known}"


def test_only_cli_prints_and_exits(trees):
    for name, tree in trees.items():
        if part(name) == "cli":
            continue
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in ("print", "sys.exit", "exit", "quit", "input"), f"{name}:{node.lineno} calls {called}"
            used = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            assert used not in ("sys.stdout", "sys.stderr"), f"{name}:{node.lineno} uses {used}"


def test_nothing_runs_what_it_reads(trees):
    banned = {"eval", "exec", "torch.load", "pickle.load", "pickle.loads", "np.load", "joblib.load"}
    for name, tree in trees.items():
        assert "pickle" not in {i.split(".")[0] for i in imports(tree)}, name
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert called not in banned, f"{name}:{node.lineno} calls {called}"
            assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"{name}:{node.lineno}: bare except"


def test_a_stage_imports_no_stage_and_no_cli(trees):
    for name, tree in trees.items():
        if part(name) == "stages":
            assert not inner(imports(tree)) & {"stages", "cli", "tuning", "benchmark"}, name


def test_tuning_knows_no_benchmark(trees):
    """A benchmark tunes; not the other way round."""
    for name, tree in trees.items():
        if part(name) in ("tuning", "benchmark"):
            above = {"cli", "benchmark"} if part(name) == "tuning" else {"cli"}
            assert not inner(imports(tree)) & above, name


def test_libraries_have_an_order(trees):
    """Each imports only those before it, and no stage."""
    for name, tree in trees.items():
        if part(name) in LIBRARIES:
            before = LIBRARIES[: LIBRARIES.index(part(name)) + 1]
            above = inner(imports(tree)) - {*before, *GROUND_FLOOR, "__version__"}
            assert not above, f"{name} imports {above}"


def test_the_ground_floor_knows_nothing_above(trees):
    for name, tree in trees.items():
        if part(name) in GROUND_FLOOR:
            above = inner(imports(tree)) - {*GROUND_FLOOR, "__version__"}
            assert not above, f"{name} imports {above}"


def test_training_knows_no_model_and_evaluation_none_of_them(trees):
    """What training and evaluation know of models is a protocol."""
    for name, tree in trees.items():
        named = {each for each in imports(tree) if each.startswith(("bbqrec_cli.models.", "bbqrec_cli.tokenizers."))}
        if part(name) == "training":
            assert not named, f"{name} imports {named}"
        if part(name) == "evaluation":
            assert all(each.startswith("bbqrec_cli.models.base.") for each in named), f"{name} imports {named}"


def test_no_circles(trees):
    """Files that import each other, also inside functions, cannot be understood one at a time."""
    modules = {dotted(name) for name in FILES}
    edges = {dotted(name): targets(tree, modules) - {dotted(name)} for name, tree in trees.items()}
    assert not circles(edges)


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a", "b", "c"}
    assert not circles({"a": {"b"}, "b": {"c"}, "c": set()})


def dotted(name: str) -> str:
    """`stages/embed.py` -> bbqrec_cli.stages.embed."""
    return "bbqrec_cli." + name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def targets(tree: ast.AST, modules: set[str]) -> set[str]:
    """The modules that a file imports, also inside functions and for types only."""
    return {each for name in imports(tree) for each in {name, name.rpartition(".")[0]} & modules}


def circles(edges: dict[str, set[str]]) -> set[str]:
    """Whatever is left when files that import nothing that is left are taken away, and those that nothing imports."""
    left = dict(edges)
    while True:
        imported = set().union(*left.values()) if left else set()
        kept = {name: found & left.keys() for name, found in left.items() if found & left.keys() and name in imported}
        if kept.keys() == left.keys():
            return set(left)
        left = kept


def test_cli_and_stages_import_nothing_heavy(trees):
    """Directly; what they import of this package is covered by test_cli, which runs --help."""
    import sys

    for name, tree in trees.items():
        if part(name) in ("cli", "stages") or name == "__main__.py":
            heavy = {i.split(".")[0] for i in imports(tree, at_import=True)} - LIGHT - sys.stdlib_module_names
            assert not heavy, f"{name} imports {heavy} at module level"


def test_files_and_commands_stay_small(trees):
    for name, path in FILES.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        is_command = part(name) == "cli" and path.stem not in ("app", "console", "options")
        assert lines < (100 if is_command else 450), f"{name}: {lines} lines"
