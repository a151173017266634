from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from bbqrec_cli.config import MethodConfig
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.program import closure, digest, file_of

STAGE = '''"""What it does."""
from __future__ import annotations

from typing import TYPE_CHECKING

from toyprogram.shared import LIMIT  # a comment

if TYPE_CHECKING:
    from toyprogram.types import Kind

TABLE = {"a": 1}
"""What is in it."""


def run(kind: Kind) -> int:
    """Run."""
    from toyprogram.deep.inner import value

    return value + LIMIT
'''


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A package; `program("shared", old, new)` changes a file of it. The digest of its module `stage`."""
    package = tmp_path / "toyprogram"
    (package / "deep").mkdir(parents=True)
    files = {
        "__init__": "", "stage": STAGE, "shared": "LIMIT = option(3, 'How many.', minimum=1, search=(1, 2))\n",
        "types": "Kind = int\n",
        "deep/__init__": "from toyprogram.deep.other import more\n", "deep/inner": "value = 1\n",
        "deep/other": "more = 2\n", "unused": "nothing = 1\n",
    }  # fmt: skip
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    file_of.cache_clear()

    def changed(name: str = "", old: str = "", new: str = "") -> str:
        if name:
            path = package / f"{name}.py"
            assert old in path.read_text()
            time.sleep(0.01)  # another time of change
            path.write_text(path.read_text().replace(old, new))
        return digest("toyprogram.stage")

    return changed


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stage", '"""What it does."""', '"""What else it does."""'),
        ("stage", '"""Run."""', "# Run."),
        ("stage", '    """Run."""\n', ""),
        ("stage", '"""What is in it."""', ""),
        ("stage", "# a comment", "# another"),
        ("stage", 'TABLE = {"a": 1}', 'TABLE = {\n    "a": 1,\n}'),
        ("shared", "'How many.'", "'How many there are.'"),
        ("shared", "search=(1, 2)", "search=(1, 3)"),
        ("types", "int", "str"),
        ("unused", "1", "2"),
    ],
)
def test_what_only_explains_does_not_count(program, name, old, new):
    before = program()
    assert program(name, old, new) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("stage", '"a": 1', '"a": 2'),
        ("stage", "value + LIMIT", "value - LIMIT"),
        ("shared", "option(3", "option(4"),
        ("shared", "minimum=1", "minimum=2"),
        ("deep/inner", "1", "2"),
        ("deep/other", "2", "3"),
    ],
)
def test_what_is_imported_counts(program, name, old, new):
    """Inside functions, too, and what the packages on the way import."""
    before = program()
    assert program(name, old, new) != before


def test_the_closure_of_a_stage():
    found = closure("bbqrec_cli.stages.train")
    assert {"bbqrec_cli", "bbqrec_cli.stages.train", "bbqrec_cli.training.trainer", "bbqrec_cli.hdf5.store"} <= set(
        found
    )
    assert not {name for name in found if name.startswith(("bbqrec_cli.cli", "bbqrec_cli.models.sasrec"))}
    assert all(Path(path).is_file() for path in found.values())


@dataclass(frozen=True, kw_only=True)
class ToyConfig(MethodConfig):
    """A model that lies elsewhere."""

    implementation: ClassVar[str] = "toymodel:Toy"
    name: ClassVar[str] = "toy"


MODEL = '''
from bbqrec_cli.models.base import Recommender


class Toy(Recommender):
    """Nothing."""
    answer = 1
'''


def test_keys_change_with_the_model_that_is_named(graph, tmp_path, monkeypatch):
    """Of that system alone, and not with its docstring."""
    path = tmp_path / "toymodel.py"
    path.write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    file_of.cache_clear()
    MODELS.add(ToyConfig)
    try:

        def keys() -> dict[str, str]:
            made = graph(('name = "popularity"', 'name = "toy"'))
            return {step.name: step.key for step in made.steps.values()}

        before = keys()
        path.write_text(MODEL.replace("Nothing.", "Something."))
        assert keys() == before
        time.sleep(0.01)
        path.write_text(MODEL.replace("answer = 1", "answer = 2"))
        after = keys()
    finally:
        MODELS.remove("toy")
    assert {name for name in before if before[name] != after[name]} == {
        f"{stage} toy, seed {seed}" for stage in ("train", "evaluate") for seed in (0, 1)
    }
