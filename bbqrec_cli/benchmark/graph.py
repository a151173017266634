"""From a suite to a graph of steps: what runs after what, with a key for all that a step's outcome depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import bbqrec_cli
from bbqrec_cli import program
from bbqrec_cli.benchmark.suite import Data, Suite, System, Tokenizer, method_of, needs
from bbqrec_cli.config import from_mapping, input_files, named_file, stored
from bbqrec_cli.encoders.registry import ENCODERS
from bbqrec_cli.errors import BBQRecError
from bbqrec_cli.hdf5 import sha256
from bbqrec_cli.hdf5.schema import KINDS
from bbqrec_cli.outputs import checkpoint_of
from bbqrec_cli.progress import SILENT
from bbqrec_cli.stages.prepare import PrepareConfig
from bbqrec_cli.tuning.one import OneConfig

MAKES = {kind.made_by.removeprefix("bbqrec "): name for name, kind in KINDS.items()}
"""Stage -> the kind of file that it makes."""
MADE = re.compile(r".+-[0-9a-f]{16}\.\w+\.h5")
"""Names of steps' outputs."""
TUNE = "tune"
"""The stage that is none of `stages`."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a step takes of a machine: CPU threads and GPUs."""

    cpu: int = 1
    gpu: int = 0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One run of a stage.

    label: what people call it; key: SHA-256 of everything that the output depends on; config: the stage's, complete but
    for `resume`; output: the file, whose name holds the key and nothing that may change without it; inputs: option that
    names files -> the keys of the steps that make them, or digests of what is in them; alike: SHA-256 of the settings
    and the data alone, the same for every seed and version of the program: such steps take about as long; tuned: the
    ledger of the trials whose best settings a training has in place of its own.
    """

    stage: str
    label: str
    key: str
    config: Any
    output: Path
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tuned: Path | None = None
    needs: Needs = field(default_factory=Needs)
    alike: str = ""

    @property
    def name(self) -> str:
        """What it does, in words."""
        return f"{self.stage} {self.label}"

    @property
    def checkpoint(self) -> Path:
        """Where the stage leaves its state when it is interrupted."""
        return checkpoint_of(self.output)

    @property
    def record(self) -> Path:
        """Where whoever runs it writes down what it took."""
        return self.output.with_name(self.output.name + ".record")

    @property
    def done(self) -> bool:
        """Whether its output is there: outputs are written whole or not at all, and their names hold their keys."""
        return self.output.exists()

    @property
    def resumable(self) -> bool:
        """Whether the stage can go on from a checkpoint."""
        return any(each.name == "resume" for each in dataclasses.fields(self.config))

    def to_json(self) -> str:
        """All that another process must know to run it."""
        return json.dumps(dataclasses.asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Step:
        """The step of `to_json`, with its typed configuration."""
        said = json.loads(text)
        module, config_class = module_of(said["stage"])
        config = from_mapping(getattr(import_module(module), config_class), said["config"], where=said["label"])
        given = {"config": config, "output": Path(said["output"]), "needs": Needs(**said["needs"])}
        given |= {"tuned": Path(said["tuned"])} if said["tuned"] else {}
        return cls(**(said | given))


def module_of(stage: str) -> tuple[str, str]:
    """The module with a stage's `run`, and the name of its configuration's class there."""
    if stage == TUNE:
        return "bbqrec_cli.tuning.one", "OneConfig"
    return f"bbqrec_cli.stages.{stage}", f"{stage.capitalize()}Config"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A system with a seed on a data set, and the steps that lead to its metrics, in order; cells share steps.

    A tokenizer that no system uses is a cell of its own: system is '' then, and the last step is `tokenize`. A cell
    of a suite with both protocols ends with two `evaluate` steps. unite: the cells whose models are united
    with its own.
    """

    system: str
    tokenizer: str
    seed: int
    steps: tuple[Step, ...]
    data: str = ""
    unite: tuple[Cell, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return labelled(self.system or f"tokenizer {self.tokenizer}", self.data, self.seed)

    @property
    def last(self) -> Step:
        """The step whose output is the cell's, the last of several."""
        return self.steps[-1]

    @property
    def ends(self) -> tuple[Step, ...]:
        """The steps whose outputs are the cell's."""
        return self.evaluations or (self.last,)

    @property
    def own(self) -> tuple[Step, ...]:
        """Its steps without the training of a model from which its tokenizer starts."""
        stages = [step.stage for step in self.steps]
        first = stages.index("tokenize") if "tokenize" in stages else 0
        return tuple(
            step for place, step in enumerate(self.steps) if step.stage not in ("train", TUNE) or place >= first
        )

    def step(self, stage: str) -> Step | None:
        """Its own step of a stage, the first of several, if it has one."""
        return next((step for step in self.own if step.stage == stage), None)

    @property
    def evaluations(self) -> tuple[Step, ...]:
        """Its `evaluate` steps, one per protocol."""
        return tuple(step for step in self.own if step.stage == "evaluate")


@dataclass(frozen=True, kw_only=True)
class Graph:
    """steps: by key, each after those that it needs; cells: what the steps lead to."""

    steps: Mapping[str, Step]
    cells: Sequence[Cell]

    def before(self, step: Step) -> list[Step]:
        """The steps whose outputs it reads."""
        return [self.steps[key] for keys in step.inputs.values() for key in keys if key in self.steps]

    def missing(self, *steps: Step) -> list[Step]:
        """What has to run until the steps are done, in order, each after what it needs."""
        found: dict[str, Step] = {}
        for step in steps:
            if not step.done:
                found |= {each.key: each for each in self.missing(*self.before(step))} | {step.key: step}
        return list(found.values())


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where to compute and the folder of the files: nothing that changes what is computed, but for rounding.

    gpus: whether there are any, so that steps which compute on a device ask for one.
    """

    folder: Path
    device: str = "auto"
    threads: int = 0
    gpus: bool = False


def labelled(name: str, data: str, seed: int | None = None) -> str:
    """'sasrec, seed 0'; where data sets have names, 'sasrec, toys, seed 0'; for all seeds 'sasrec, toys'."""
    return ", ".join(filter(None, (name, data, "" if seed is None else f"seed {seed}")))


def _end(data: Data, steps: Sequence[Step]) -> Path:
    """The file that steps end with, that of the data where there are none."""
    return steps[-1].output if steps else data.file or Path()


def make_graph(suite: Suite, machine: Machine, *, seed: int = 0) -> Graph:
    """All steps and cells, seed by seed, so that a time budget leaves whole comparisons; `seed` is added to each."""
    builder, cells = _Builder(suite=suite, machine=machine), []
    for one in (seed + each for each in suite.seeds):
        for data in suite.data:
            cells += [builder.system_cell(data, each, one) for each in suite.systems if each.runs_on(data)]
            cells += [builder.tokenizer_cell(data, each, one) for each in suite.alone(data)]
    return Graph(steps=builder.steps, cells=cells)


@dataclass(kw_only=True)
class _Builder:
    """Makes steps, each but once. prepared: a data set's name -> its `prepare`, whose source is opened but once;
    contents: digests of files, which are read but once, too, as are sources of the program."""

    suite: Suite
    machine: Machine
    steps: dict[str, Step] = field(default_factory=dict)
    prepared: dict[str, Step] = field(default_factory=dict)
    contents: dict[tuple[Path, bool], str] = field(default_factory=dict)
    sources: Callable[..., str] = field(default_factory=lambda: cache(program.digest))

    @property
    def systems(self) -> dict[str, System]:
        """By name."""
        return {each.name: each for each in self.suite.systems}

    def system_cell(self, data: Data, system: System, seed: int) -> Cell:
        """What leads to a system's metrics."""
        steps = self._train(data, system, seed)
        model, label = steps[-1].output, labelled(system.name, data.name, seed)
        others = tuple(self.system_cell(data, self.systems[name], seed) for name in system.unite)
        unite = tuple(step.output for cell in others if (step := cell.step("train")))
        for each in system.evaluate:
            config = dataclasses.replace(each, model=model, unite=unite)
            said = ", seen items left out" if each.exclude_seen else ""
            steps.append(self._step("evaluate", label + said, config, f"{system.config.model}-seed-{seed}"))
        return Cell(
            system=system.name, tokenizer=system.tokenizer, seed=seed, steps=tuple(steps), data=data.name, unite=others
        )

    def tokenizer_cell(self, data: Data, tokenizer: Tokenizer, seed: int) -> Cell:
        """What leads to a tokenizer's IDs."""
        steps = self._tokenize(data, tokenizer, seed)
        return Cell(system="", tokenizer=tokenizer.name, seed=seed, steps=tuple(steps), data=data.name)

    def _data(self, data: Data, *, features: bool) -> list[Step]:
        """prepare and embed, as far as the data's file does not spare them.

        features: whether what follows reads features; else it neither waits for them nor fails with them.
        """
        steps, base = list[Step](), data.file or Path()
        if data.prepare is not None:
            if data.name not in self.prepared:
                source = data.prepare.source
                self.prepared[data.name] = self._step("prepare", labelled(source, data.name), data.prepare, source)
            steps.append(self.prepared[data.name])
            base = steps[-1].output
        if features and data.kind == "dataset":
            config = dataclasses.replace(data.embed, dataset=base)
            steps.append(self._step("embed", labelled("features", data.name), config, "features"))
        return steps

    def _before(self, data: Data, system: System, seed: int) -> list[Step]:
        """What leads to the file that a system is trained on."""
        if system.tokenizer:
            return self._tokenize(data, self.suite.tokenizers[system.tokenizer], seed)
        return self._data(data, features="features" in needs(system.config))

    def _train(self, data: Data, system: System, seed: int) -> list[Step]:
        """What leads to a system's model, with the tuning, which is the same for all seeds."""
        steps = self._before(data, system, seed)
        config = dataclasses.replace(system.config, input=_end(data, steps), seed=seed)
        tune = [self._tune(data, system, system.tuning)] if system.tuning else []
        label, name = labelled(system.name, data.name, seed), f"{config.model}-seed-{seed}"
        return [*steps, *tune, self._step("train", label, config, name, tuned=tune[0] if tune else None)]

    def _tune(self, data: Data, system: System, tuning: OneConfig) -> Step:
        """The trials of a system, on the IDs of the seed that `[tune]` names."""
        config = dataclasses.replace(tuning, input=_end(data, self._before(data, system, tuning.seed)))
        return self._step(TUNE, labelled(system.name, data.name), config, config.model)

    def _tokenize(self, data: Data, tokenizer: Tokenizer, seed: int) -> list[Step]:
        """What leads to a tokenizer's IDs: the data, and the training of the systems whose models it starts from."""
        reads = tokenizer.config.registry.implementation(tokenizer.config.method).needs_features
        steps = self._data(data, features=reads)
        before = {option: self._train(data, self.systems[name], seed)[-1]
                  for option, name in tokenizer.after.items()}  # fmt: skip
        options = tokenizer.config.options | {option: str(step.output) for option, step in before.items()}
        config = dataclasses.replace(tokenizer.config, features=_end(data, steps), seed=seed, options=options)
        label, name = labelled(tokenizer.name, data.name, seed), f"{config.method}-seed-{seed}"
        return [*steps, *before.values(), self._step("tokenize", label, config, name)]

    def _step(self, stage: str, label: str, config: Any, name: str, *, tuned: Step | None = None) -> Step:
        """name: how the output's begins; tuned: the tuning before a training."""
        kind, method = MAKES[stage], method_of(config)
        if stage == "prepare":
            inputs = self._of_source(config, method)
        else:
            inputs = self._inputs(config) | (self._inputs(method) if method is not None else {})
        inputs |= {"tuned": [tuned.key]} if tuned else {}
        key = key_of(stage, config, method, inputs, self.sources)
        if key not in self.steps:
            name = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
            output, threads = self.machine.folder / f"{name}-{key[:16]}.{kind}.h5", self.machine.threads
            config = dataclasses.replace(config, output=output, device=self.machine.device, threads=threads)
            # A stage that has a precision computes on the device.
            needs = Needs(cpu=max(1, threads), gpu=int(self.machine.gpus and hasattr(config, "precision")))
            self.steps[key] = Step(
                stage=stage, label=label, key=key, config=config, output=output, inputs=inputs, needs=needs,
                alike=self._alike(stage, config, method, inputs), tuned=tuned.output if tuned else None,
            )  # fmt: skip
        return self.steps[key]

    def _alike(self, stage: str, config: Any, method: Any, inputs: Mapping[str, Sequence[str]]) -> str:
        """See `Step`: of what the steps before have in common, too."""
        common = {name: [self.steps[key].alike if key in self.steps else key for key in keys]
                  for name, keys in inputs.items()}  # fmt: skip
        return digest_of(facts(config, method, common) | {"stage": stage, "seed": None})

    def _inputs(self, config: Any) -> dict[str, list[str]]:
        """Option that names files -> for each file the key of the step that makes it, or a digest of what is in it."""
        made = {step.output: key for key, step in self.steps.items()}
        of_format = {f.name for f in dataclasses.fields(config) if f.metadata.get("complete", "").startswith(".")}
        found: dict[str, list[str]] = {}
        for option, path in input_files(config):
            found.setdefault(option, []).append(made.get(path) or self._content(path, option not in of_format))
        for f in dataclasses.fields(config):
            if f.metadata.get("named") and f.name in found:
                found[f.name] = [self._named(value, f.name not in of_format) for value in getattr(config, f.name)]
        return found

    def _of_source(self, config: PrepareConfig, method: Any) -> dict[str, list[str]]:
        """The same of `prepare`: of what its source reads, whatever else lies beside it. What is downloaded is what the
        options say."""
        found = self._inputs(method)
        if getattr(method, "download_pictures", False):
            found.pop("images", None)
        if getattr(method, "download", ""):
            return found | {"paths": [json.dumps(dataclasses.asdict(method), default=str)]}
        try:
            files, pictures = read_by(config, method)
        except BBQRecError:  # the step will fail and say so
            return self._inputs(config) | found
        named = {"named": [self._content(path, False) for path in pictures]} if pictures else {}
        return found | {"paths": [f"{name} {self._content(path, False)}" for name, path in files]} | named

    def _content(self, path: Path, named: bool) -> str:
        if (path, named) not in self.contents:
            self.contents[path, named] = content(path, named=named)
        return self.contents[path, named]

    def _named(self, value: str, named: bool) -> str:
        """NAME=FILE:MORE with the digest of what is in the file or folder in place of its path."""
        name, file, more = named_file(value)
        return f"{name}={self.contents.get((Path(file), named), file)}:{more}"


def key_of(
    stage: str, config: Any, method: Any, inputs: Mapping[str, Sequence[str]], sources: Callable[..., str]
) -> str:
    """SHA-256 of all that a step's outcome depends on.

    Args:
        config, method: the stage's options and those of its method (None without one); where they lead the files to
            and how they are run does not count.
        inputs: what is in the files that the options name.
        sources: `program.digest`, or what remembers it.
    """
    modules, given = [module_of(stage)[0]], facts(config, method, inputs)
    for cls in (type(method),) if method is not None else encoders_of(config):
        modules += [cls.__module__, cls.implementation.partition(":")[0]]
    given |= {"stage": stage, "version": bbqrec_cli.__version__, "layout": KINDS[MAKES[stage]].version}
    return digest_of([given, sources(*modules)])


def facts(config: Any, method: Any, inputs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A step's options and those of its method, with what is in files in place of their paths."""

    def of(options: Any) -> dict[str, Any]:
        named = stored(options)
        return named | {name: inputs[name] for name in named.keys() & inputs.keys()}

    given = of(config) | ({"options": of(method)} if method is not None else {})
    return given | {name: inputs[name] for name in ("named", "tuned") if name in inputs}


def digest_of(values: Any) -> str:
    """SHA-256 of what JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def encoders_of(config: Any) -> list[Any]:
    """The configurations of the encoders that plugins add and an `EmbedConfig` names."""
    names = [getattr(config, f"{modality}_model", "") for modality in ("text", "image")]
    names += [named_file(each)[1] for each in getattr(config, "encoder", ())]
    return [ENCODERS.config(name) for name in names if name in ENCODERS]


def read_by(config: PrepareConfig, method: Any) -> tuple[list[tuple[str, Path]], list[Path]]:
    """The files that a source reads, with their names in a folder that it is given, since these may say what a file is
    (`.tsv`, `train/`), and the pictures, or folders of them, that it finds by itself.

    Raises: BBQRecError: it cannot be opened.
    """
    from bbqrec_cli.data.sources.exported import files_of_order
    from bbqrec_cli.data.sources.registry import open_source

    paths = [Path(path) for path in config.paths]
    source: Any = open_source(config.source, paths, method, seed=config.seed, progress=SILENT)
    pictures = source.named_files() if hasattr(source, "named_files") else []
    folder = getattr(source, "images", None)
    if folder and not getattr(method, "images", None) and not getattr(method, "download_pictures", False):
        pictures.append(folder)
    names = [next((path.relative_to(each).as_posix() for each in paths if each in path.parents), path.name)
             for path in source.files]  # fmt: skip
    order = [(path.name, path) for path in files_of_order(paths) if path not in source.files]
    return [*zip(names, source.files, strict=True), *order], [path for path in pictures if path.exists()]


def same_pictures(config: PrepareConfig, inputs: Mapping[str, Sequence[str]]) -> bool:
    """Whether the pictures of a source are those of a step's inputs (`Graph._of_source`)."""
    method = method_of(config)
    if getattr(method, "download_pictures", False):
        return True
    given = getattr(method, "images", None)
    found = [*([Path(given)] if given else []), *read_by(config, method)[1]]
    now = [content(path, named=False) for path in found]
    return now == [*(inputs["images"] if given else []), *inputs.get("named", [])]


def content(path: Path, *, named: bool) -> str:
    """A digest of what is in a file or folder, which may lie anywhere.

    named: a file's own name counts, too, since it may say the format (`.tsv`, `_5.json.gz`). In a folder all names do.
    """
    if not path.is_dir():
        return f"{path.name} {sha256(path)}" if named else sha256(path)
    files = sorted(each for each in path.rglob("*") if each.is_file())
    inside = {each.relative_to(path).as_posix(): sha256(each) for each in files}
    return hashlib.sha256(json.dumps(inside).encode()).hexdigest()
