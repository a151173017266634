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
from bbqrec_cli.benchmark.suite import Suite, System, Tokenizer
from bbqrec_cli.config import stored
from bbqrec_cli.hdf5 import sha256
from bbqrec_cli.hdf5.schema import KINDS
from bbqrec_cli.tokenizers.registry import FILES

MAKES = {"prepare": "dataset", "embed": "features", "tokenize": "tokens", "train": "model", "evaluate": "metrics"}
"""Stage -> the kind of file that it makes."""
_INPUTS = {
    "prepare": ("paths", "items", "images"), "embed": ("dataset",), "tokenize": ("features",), "train": ("input",),
    "evaluate": ("model", "against"),
}  # fmt: skip
"""Stage -> options that name files: what is in them counts, not where they lie."""
_PLACES = {"embed": ("text_model", "image_model"), "tokenize": FILES}
"""Stage -> options that count by what is in the files or folder where they name some, and as they stand otherwise."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One run of a stage.

    label: what people call it; key: SHA-256 of everything that the output depends on; config: the stage's, complete but
    for `resume`; output: the file, whose name holds the key and nothing that may change without it.
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
    """A system with a seed, and the steps that lead to its metrics, in order; cells share their common steps.

    A tokenizer that no system uses is a cell of its own: system is '' then, and the last step is `tokenize`.
    """

    system: str
    tokenizer: str
    seed: int
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.system or f'tokenizer {self.tokenizer}'}, seed {self.seed}"

    @property
    def last(self) -> Step:
        """The step whose output is the cell's."""
        return self.steps[-1]

    @property
    def own(self) -> tuple[Step, ...]:
        """Its steps without the training of a model from which its tokenizer starts."""
        stages = [step.stage for step in self.steps]
        first = stages.index("tokenize") if "tokenize" in stages else 0
        return tuple(step for place, step in enumerate(self.steps) if step.stage != "train" or place >= first)

    def step(self, stage: str) -> Step | None:
        """Its own step of a stage, if it has one."""
        return next((step for step in self.own if step.stage == stage), None)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where to compute and the folder of the files: nothing that changes what is computed, but for rounding."""

    folder: Path
    device: str = "auto"
    threads: int = 0


def make_plan(suite: Suite, machine: Machine, *, seed: int = 0) -> list[Cell]:
    """All cells, seed by seed, so that a time budget leaves whole comparisons. `seed` is added to every seed."""
    root = (suite.file, sha256(suite.file)) if suite.file else (Path(), "")
    data = _data_steps(suite, machine, root)
    base = (data[-1].output, data[-1].key) if data else root
    used = {system.tokenizer for system in suite.systems}
    unused = [each for name, each in suite.tokenizers.items() if name not in used]
    cells = []
    for one in (seed + each for each in suite.seeds):
        cells += [_system_cell(suite, machine, each, one, data, base) for each in suite.systems]
        for each in unused:
            steps = (*data, *_tokenize(suite, each, machine, one, base))
            cells.append(Cell(system="", tokenizer=each.name, seed=one, steps=steps))
    return cells


def _data_steps(suite: Suite, machine: Machine, root: tuple[Path, str]) -> tuple[Step, ...]:
    """prepare and embed, as far as the suite's file does not spare them. root: that file and its digest."""
    steps: list[Step] = []
    if suite.prepare is not None:
        raw = [*map(Path, suite.prepare.paths), suite.prepare.items, suite.prepare.images]
        steps.append(_step("prepare", suite.prepare.source, suite.prepare, [_contents(raw)], machine))
        root = steps[-1].output, steps[-1].key
    if suite.kind == "dataset" and suite.tokenizers:
        config = dataclasses.replace(suite.embed, dataset=root[0])
        steps.append(_step("embed", "features", config, [root[1]], machine))
    return tuple(steps)


def _system_cell(
    suite: Suite, machine: Machine, system: System, seed: int, data: tuple[Step, ...], base: tuple[Path, str]
) -> Cell:
    """base: the file that the data steps end with, and its key."""
    steps, (path, above) = list(data), base
    if system.tokenizer:
        steps += _tokenize(suite, suite.tokenizers[system.tokenizer], machine, seed, base)
        path, above = steps[-1].output, steps[-1].key
    train = _train(system, machine, seed, (path, above))
    evaluate = dataclasses.replace(suite.evaluate, model=train.output)
    name = f"{system.config.model}-seed-{seed}"
    steps += [train, _step("evaluate", train.label, evaluate, [train.key], machine, name=name)]
    return Cell(system=system.name, tokenizer=system.tokenizer, seed=seed, steps=tuple(steps))


def _train(system: System, machine: Machine, seed: int, base: tuple[Path, str]) -> Step:
    """base: the file that it is trained on and its key."""
    config = dataclasses.replace(system.config, input=base[0], seed=seed)
    name = f"{system.config.model}-seed-{seed}"
    about = [base[1], stored(system.resolved)]
    return _step("train", f"{system.name}, seed {seed}", config, about, machine, name=name)


def _tokenize(
    suite: Suite, tokenizer: Tokenizer, machine: Machine, seed: int, base: tuple[Path, str]
) -> tuple[Step, ...]:
    """The step itself, and before it the training of the systems whose models it starts from.

    base: the features file and its key.
    """
    systems = {each.name: each for each in suite.systems}
    before = {option: _train(systems[name], machine, seed, base) for option, name in tokenizer.after.items()}
    options = tokenizer.config.options | {option: str(step.output) for option, step in before.items()}
    config = dataclasses.replace(tokenizer.config, features=base[0], seed=seed, options=options)
    name = f"{config.method}-seed-{seed}"
    about = [base[1], stored(tokenizer.resolved) | {option: step.key for option, step in before.items()}]
    return *before.values(), _step("tokenize", f"{tokenizer.name}, seed {seed}", config, about, machine, name=name)


def _step(stage: str, label: str, config: Any, about: Sequence[Any], machine: Machine, *, name: str = "") -> Step:
    """about: what the outcome depends on beside the stage's own configuration: keys of inputs, resolved options."""
    kind = MAKES[stage]
    own = {key: value for key, value in stored(config).items() if key not in (*_INPUTS[stage], "options")}
    settled = [_settled(stage, each) for each in (own, *about)]
    facts = [stage, settled, bbqrec_cli.__version__, KINDS[kind].version]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    name = re.sub(r"[^A-Za-z0-9.]+", "-", name or label).strip("-")
    output = machine.folder / f"{name}-{key[:16]}.{kind}.h5"
    config = dataclasses.replace(config, output=output, device=machine.device, threads=machine.threads)
    return Step(stage=stage, label=label, key=key, config=config, output=output)


def _settled(stage: str, facts: Any) -> Any:
    """Options, with what is in a file or folder in place of its name; anything else as it is."""
    if not isinstance(facts, dict):
        return facts
    return facts | {key: _named(facts[key]) for key in _PLACES.get(stage, ()) if facts.get(key)}


def _named(value: Any) -> Any:
    """What is in the file or folder that an option names, or in each of a list; a value that names none as it is."""
    if isinstance(value, list):
        return [_named(each) for each in value]
    return _inside(Path(value)) if Path(value).exists() else value


def _contents(paths: Sequence[Path | None]) -> list[Any]:
    """What is in raw data, in order. A file's own name counts with it: it says the format (`.tsv`, `_5.json.gz`)."""
    return [path and (_inside(path) if path.is_dir() else [path.name, _inside(path)]) for path in paths]


def _inside(path: Path) -> Any:
    """A file's SHA-256; of a folder, those of its files by their names in it."""
    if not path.is_dir():
        return sha256(path)
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return {each.relative_to(path).as_posix(): sha256(each) for each in files}
