"""From a suite to steps: what is run with what, and a key for everything that its outcome depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bbqrec_cli
from bbqrec_cli.benchmark.suite import Suite, System
from bbqrec_cli.config import stored
from bbqrec_cli.hdf5 import sha256
from bbqrec_cli.hdf5.schema import KINDS

MAKES = {"prepare": "dataset", "embed": "features", "tokenize": "tokens", "train": "model", "evaluate": "metrics"}
"""Stage -> the kind of file that it makes."""
_INPUTS = {
    "prepare": ("paths", "items", "images"), "embed": ("dataset",), "tokenize": ("features",), "train": ("input",),
    "evaluate": ("model", "against"),
}  # fmt: skip
"""Stage -> options that name files: what is in them counts, not where they lie."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One run of a stage.

    label: what people call it; key: SHA-256 of everything that the output depends on; config: the stage's, complete but
    for `resume`; output: the file, whose name holds the key.
    """

    stage: str
    label: str
    key: str
    config: Any
    output: Path

    @property
    def checkpoint(self) -> Path:
        """Where the stage leaves its state when it is interrupted."""
        return self.output.with_name(self.output.name + ".checkpoint")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A system with a seed, and the steps that lead to its metrics, in order; cells share their common steps."""

    system: str
    seed: int
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        return f"{self.system}, seed {self.seed}"

    @property
    def key(self) -> str:
        return self.steps[-1].key


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where to compute and the folder of the files: nothing that changes what is computed, but for rounding."""

    folder: Path
    device: str = "auto"
    threads: int = 0


def make_plan(suite: Suite, machine: Machine, *, seed: int = 0) -> list[Cell]:
    """All cells, seed by seed, so that a time budget leaves whole comparisons. `seed` is added to every seed.

    Raises:
        MissingFileError: a file that the suite names does not exist.
    """
    root = (suite.file, sha256(suite.file)) if suite.file else (Path(), "")
    data = _data_steps(suite, machine, root)
    base = (data[-1].output, data[-1].key) if data else root
    return [_cell(suite, machine, each, seed + one, data, base) for one in suite.seeds for each in suite.systems]


def _data_steps(suite: Suite, machine: Machine, root: tuple[Path, str]) -> tuple[Step, ...]:
    """prepare and embed, as far as the suite's file does not spare them. root: that file and its digest."""
    steps: list[Step] = []
    if suite.prepare is not None:
        files = _digests([*suite.prepare.paths, suite.prepare.items, suite.prepare.images])
        steps.append(_step("prepare", suite.prepare.source, suite.prepare, [files], machine))
        root = steps[-1].output, steps[-1].key
    if suite.kind == "dataset" and any(system.tokenizer for system in suite.systems):
        config = dataclasses.replace(suite.embed, dataset=root[0])
        steps.append(_step("embed", "features", config, [root[1]], machine))
    return tuple(steps)


def _cell(
    suite: Suite, machine: Machine, system: System, seed: int, data: tuple[Step, ...], base: tuple[Path, str]
) -> Cell:
    """base: the file that the data steps end with, and its key."""
    steps, (path, above) = list(data), base
    if system.tokenizer:
        tokenizer = suite.tokenizers[system.tokenizer]
        config = dataclasses.replace(tokenizer.config, features=path, seed=seed)
        about = [above, stored(tokenizer.resolved), _digests([getattr(tokenizer.resolved, "index", "")])]
        steps.append(_step("tokenize", f"{tokenizer.name}, seed {seed}", config, about, machine))
        path, above = steps[-1].output, steps[-1].key
    train = dataclasses.replace(system.config, input=path, seed=seed)
    label = f"{system.name}, seed {seed}"
    steps.append(_step("train", label, train, [above, stored(system.resolved)], machine))
    evaluate = dataclasses.replace(suite.evaluate, model=steps[-1].output)
    steps.append(_step("evaluate", label, evaluate, [steps[-1].key], machine))
    return Cell(system=system.name, seed=seed, steps=tuple(steps))


def _step(stage: str, label: str, config: Any, about: Sequence[Any], machine: Machine) -> Step:
    """about: what the outcome depends on beside the stage's own configuration: keys of inputs, resolved options."""
    kind = MAKES[stage]
    own = {name: value for name, value in stored(config).items() if name not in (*_INPUTS[stage], "options")}
    facts = [stage, own, list(about), bbqrec_cli.__version__, KINDS[kind].version]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-")
    output = machine.folder / f"{name}-{key[:12]}.{kind}.h5"
    config = dataclasses.replace(config, output=output, device=machine.device, threads=machine.threads)
    return Step(stage=stage, label=label, key=key, config=config, output=output)


def _digests(paths: Sequence[Path | str | None]) -> dict[str, str]:
    """name -> SHA-256 of every file that is named or lies in a folder that is named; what is not there is left out."""
    found = {}
    for path in (Path(each) for each in paths if each):
        inside = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        found |= {each.relative_to(path.parent).as_posix(): sha256(each) for each in inside if each.is_file()}
    return found
