"""What a suite file says, checked by table and key before any work begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.budgets import read_tune, tuning_of
from bbqrec_cli.benchmark.checks import chosen, named, only, table, there
from bbqrec_cli.benchmark.files import BUILT_IN, HEAD, given_data, read_suite, suite_file
from bbqrec_cli.benchmark.layouts import UNSEEN, Known, Layout, Published, layouts, published
from bbqrec_cli.benchmark.published import known_data, numbers
from bbqrec_cli.benchmark.sweeps import expand
from bbqrec_cli.config import StageConfig, configure, from_mapping, named_file, option, role_of
from bbqrec_cli.data.sources.opening import expanded
from bbqrec_cli.errors import UsageError
from bbqrec_cli.evaluation.metrics import METRICS
from bbqrec_cli.models.registry import model_settings
from bbqrec_cli.recipes import recipe
from bbqrec_cli.stages.embed import EmbedConfig
from bbqrec_cli.stages.evaluate import EvaluateConfig
from bbqrec_cli.stages.prepare import PrepareConfig
from bbqrec_cli.stages.tokenize import TokenizeConfig
from bbqrec_cli.stages.train import TrainConfig
from bbqrec_cli.tokenizers.options._codebooks import LARGEST_SIZE
from bbqrec_cli.tuning.one import OneConfig


@dataclass(frozen=True, kw_only=True)
class Data:
    """A `[data]` table. Either `file` is there or `prepare`; `kind` is the kind of `file`, or 'dataset'.

    name: '' where the suite has one data set without a name; published: the one of published.toml that it is, ''
    if it is none of these.
    """

    name: str
    published: str = ""
    prepare: PrepareConfig | None
    embed: EmbedConfig
    file: Path | None
    kind: str


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A `[[tokenizer]]` table: config without files and seed; data: the names of the data sets that it is for.

    reported: items in collisions that a paper reports, to be shown beside ours.
    after: options that name a system of the suite, whose model file they will be, and that system.
    """

    name: str
    config: TokenizeConfig
    data: tuple[str, ...]
    reported: int | None = None
    after: Mapping[str, str] = field(default_factory=dict)

    def runs_on(self, data: Data) -> bool:
        """Whether it is for a data set."""
        return data.name in self.data


@dataclass(frozen=True, kw_only=True)
class System:
    """A `[[system]]` table; tokenizer: the name of one, or '' for a model without semantic IDs; evaluate: one per
    protocol of the suite; data: as above; unite: systems whose lists are united with this one's; tuning: what is tried
    before it is trained, None for nothing."""

    name: str
    tokenizer: str
    config: TrainConfig
    evaluate: tuple[EvaluateConfig, ...]
    data: tuple[str, ...]
    unite: tuple[str, ...] = ()
    tuning: OneConfig | None = None

    def runs_on(self, data: Data) -> bool:
        """Whether it is for a data set."""
        return data.name in self.data


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite file; exclude_seen: the protocols, whether seen items are left out of the ranking; text: the file itself,
    for the report."""

    name: str
    seeds: tuple[int, ...]
    split: str
    k: tuple[int, ...]
    exclude_seen: tuple[bool, ...]
    data: tuple[Data, ...]
    tokenizers: Mapping[str, Tokenizer]
    systems: tuple[System, ...]
    published: tuple[Published, ...]
    layouts: tuple[Layout, ...]
    text: str

    @property
    def metrics(self) -> tuple[str, ...]:
        """'recall@5', … of its depths, of every protocol."""
        return shown_metrics(self.k, self.exclude_seen)

    def alone(self, data: Data) -> list[Tokenizer]:
        """The tokenizers that no system uses on a data set."""
        used = {system.tokenizer for system in self.systems if system.runs_on(data)}
        return [each for name, each in self.tokenizers.items() if name not in used and each.runs_on(data)]


def shown_metrics(
    depths: Collection[int], protocols: Collection[bool], which: Collection[str] = ("recall", "ndcg")
) -> tuple[str, ...]:
    """'recall@5', …, 'ndcg@10'; of two protocols also 'recall@5-unseen', …, with seen items left out."""
    names = tuple(f"{name}@{k}" for name in which for k in depths)
    return names + tuple(name + UNSEEN for name in names) if len(protocols) > 1 else names


def needs(config: TrainConfig) -> frozenset[str]:
    """What the model reads of the items beside their interactions: 'codes', 'features'."""
    return config.registry.implementation(config.model).needed(model_settings(method_of(config)))


def method_of(config: Any) -> Any:
    """The checked options of the method, model or source that a stage's configuration chooses; None without a choice.

    Raises:
        UsageError: there is no such method, or it has no such option.
    """
    registry = getattr(config, "registry", None)
    if registry is None:
        return None
    name = getattr(config, config.choice)
    return from_mapping(registry.config(name), config.options, where=f"{registry.option} {name}")


def load_suite(name: str, *, data: Sequence[str] = (), train_minutes: float = 0.0) -> Suite:
    """The suite in the file `name`, or the built-in one of that name.

    Paths in it are relative to the file's folder, in a built-in suite to the current one.

    Args:
        data: data sets in the place of the suite's own, see `given_data`.
        train_minutes: limit on every training that the suite gives none; 0: none.

    Raises:
        MissingFileError: no such file or built-in suite, or a file that the suite names.
        UsageError: anything in it that does not fit, named by table and key.
    """
    path, folder = suite_file(name)
    values, text = read_suite(path)
    if data:
        values["data"], folder_of_data = given_data(data), Path()
    elif "data" not in values and folder == Path() and path.parent == BUILT_IN:
        needs = f" ({values['needs']})" if "needs" in values else ""
        raise UsageError(f"the suite {name} needs data{needs}", "--data beauty=beauty-features.h5")
    else:
        folder_of_data = folder
    return _Reader(path, folder, values, folder_of_data, train_minutes).suite(text)


@dataclass(frozen=True, kw_only=True)
class _Head:
    name: str = option()
    seeds: tuple[int, ...] = option((0,), minimum=0)
    split: str = option("test", choices=("test", "validation"))
    k: tuple[int, ...] = option((5, 10), minimum=1)
    about: str = option("")
    needs: str = option("")
    suites: tuple[str, ...] = option(())
    exclude_seen: str = option("false", choices=("false", "true", "both"))

    @property
    def protocols(self) -> tuple[bool, ...]:
        """See `Suite.exclude_seen`."""
        return {"false": (False,), "true": (True,), "both": (False, True)}[self.exclude_seen]


class _Reader:
    """Reads a suite's tables, one after the other; every method raises what `load_suite` does."""

    def __init__(
        self, path: Path, folder: Path, values: Mapping[str, Any], folder_of_data: Path, train_minutes: float
    ) -> None:
        self.path, self.folder, self.values, self.folder_of_data = path, folder, values, folder_of_data
        self.limit: dict[str, Any] = {"minutes": train_minutes} if train_minutes else {}

    def suite(self, text: str) -> Suite:
        """All of it."""
        head = self._head()
        self.tables = {key: named(self.values, key, self.path) for key in ("tokenizer", "system")}
        sweeps = expand(named(self.values, "sweep", self.path), self.tables, self.path)
        self.data = self._every_data()
        evaluate = table(self.values.get("evaluate", {}), f"{self.path}: [evaluate]")
        self._evaluate(evaluate, head, f"{self.path}: [evaluate]")
        self.tune = read_tune(self.values, self.path, self.limit.get("minutes", 0.0))
        self.tokenizers = {name: self._tokenizer(name, each) for name, each in self.tables["tokenizer"].items()}
        systems = tuple(self._system(name, each, evaluate, head) for name, each in self.tables["system"].items())
        if not systems and not self.tokenizers:
            raise UsageError(f"{self.path}: neither a [[system]] nor a [[tokenizer]] table; at least one is needed")
        self._check_input(systems)
        self._check_after({each.name: each for each in systems})
        self._check_unite({each.name: each for each in systems})
        known = Known(
            systems=[each.name for each in systems], tokenizers=list(self.tokenizers), sweeps=sweeps,
            used=[each.tokenizer for each in systems], data=[each.name for each in self.data],
            metrics=shown_metrics(head.k, head.protocols, tuple(METRICS)),
        )  # fmt: skip
        reported = [*published(self.values, known, self.path)]
        for data in (each for each in self.data if each.published):
            reported += numbers(data.published, data.name, known.metrics, head.protocols)
        return Suite(
            name=head.name, seeds=head.seeds, split=head.split, k=head.k, exclude_seen=head.protocols, data=self.data,
            tokenizers=self.tokenizers, systems=systems, published=tuple(reported),
            layouts=layouts(self.values, known, self.path), text=text,
        )  # fmt: skip

    def _head(self) -> _Head:
        given = {key: self.values[key] for key in HEAD if key in self.values}
        if isinstance(given.get("exclude_seen"), bool):
            given["exclude_seen"] = str(given["exclude_seen"]).lower()
        head = from_mapping(_Head, given, where=str(self.path))
        if not head.name or not all(c.isalnum() or c in "-_." for c in head.name):
            raise UsageError(f"{self.path}: name is {head.name!r}; letters, digits, '-', '_' and '.' are needed")
        if not head.seeds or len(set(head.seeds)) < len(head.seeds):
            raise UsageError(f"{self.path}: seeds is {list(head.seeds)}; different seeds are needed", "seeds = [0, 1]")
        if not head.k:
            raise UsageError(f"{self.path}: k is []; a depth of the ranking is needed", "k = [5, 10]")
        return dataclasses.replace(head, k=tuple(sorted(set(head.k))))

    def _every_data(self) -> tuple[Data, ...]:
        """One `[data]`, or every `[[data]]` by name."""
        data = self.values.get("data", {})
        if isinstance(data, list):
            every = named(self.values, "data", self.path).items()
            return tuple(self._data(name, each, f"{self.path}: [[data]] {name!r}") for name, each in every)
        return (self._data("", table(data, f"{self.path}: [data]"), f"{self.path}: [data]"),)

    def _data(self, name: str, data: dict[str, Any], where: str) -> Data:
        from bbqrec_cli.hdf5 import open_file

        only(data, ("source", "file", "prepare", "embed", "published"), where)
        known = chosen(data.get("published", ""), ("", *known_data()), f"{where}: published", several=False)[0]
        if ("source" in data) == ("file" in data):
            raise UsageError(f'{where} needs either source = ["demo"], or another source with its paths, or file = "…"')
        embed, _ = self._stage(EmbedConfig, table(data.get("embed", {}), f"{where}, embed"), f"{where}, embed")
        if "source" in data:
            prepare = self._prepare(data, where)
            return Data(name=name, published=known, prepare=prepare, embed=embed, file=None, kind="dataset")
        if "prepare" in data or not isinstance(data["file"], str):
            raise UsageError(f"{where}: a file is a path, and needs no [data.prepare]")
        file = there(data["file"], where, self.folder_of_data)
        with open_file(file, "dataset", "features", "tokens") as opened:
            return Data(name=name, published=known, prepare=None, embed=embed, file=file, kind=opened.kind)

    def _prepare(self, data: Mapping[str, Any], where: str) -> PrepareConfig:
        source = [data["source"]] if isinstance(data["source"], str) else data["source"]
        if not isinstance(source, list) or not source or not all(isinstance(each, str) for each in source):
            raise UsageError(f'{where}: source is {source!r}; a list such as ["s3rec", "FOLDER"] is needed')
        given = expanded([self.folder_of_data / each for each in source[1:]])
        paths = tuple(str(there(str(each), where, Path())) for each in given)
        values = table(data.get("prepare", {}), f"{where}, prepare")
        if "source" in values or "paths" in values:
            what = f"{where}, prepare: the source and its paths are given in [data]"
            raise UsageError(what, 'source = ["s3rec", "FOLDER"]')
        config, _ = self._stage(PrepareConfig, values | {"source": source[0]}, f"{where}, prepare")
        return dataclasses.replace(config, paths=paths)

    def _tokenizer(self, name: str, values: dict[str, Any]) -> Tokenizer:
        where, reported = f"{self.path}: [[tokenizer]] {name!r}", values.pop("reported", None)
        if reported is not None and (not isinstance(reported, int) or isinstance(reported, bool) or reported < 0):
            raise UsageError(f"{where}: reported is {reported!r}; a number of items in collisions is needed")
        data = self._data_of(values, where)
        config, after = self._stage(TokenizeConfig, values, where, systems=self.tables["system"])
        # One size for all data sets of a table.
        if getattr(method_of(config), "codebook_size", None) == 0:
            config = dataclasses.replace(config, options=config.options | {"codebook_size": LARGEST_SIZE})
        return Tokenizer(name=name, config=config, data=data, reported=reported, after=after)

    def _system(self, name: str, values: dict[str, Any], evaluate: Mapping[str, Any], head: _Head) -> System:
        where, tokenizer = f"{self.path}: [[system]] {name!r}", values.pop("tokenizer", "")
        at_the_top(("exclude_seen",), values, where)
        if tokenizer:
            chosen(tokenizer, self.tokenizers, f"{where}: tokenizer", several=False)
        if name in self.tokenizers and tokenizer != name:
            what = f"{where}: a tokenizer has that name, and it is not this system's"
            raise UsageError(what, "tables would mix the two: give one another name")
        unite = chosen(values.pop("unite", []), self.tables["system"], f"{where}: unite", optional=True)
        own = table(values.pop("evaluate", {}), f"{where}, evaluate")
        one = self._evaluate({**evaluate, **own}, head, f"{where}, evaluate")
        made = tuple(dataclasses.replace(one, exclude_seen=protocol) for protocol in head.protocols)
        data = self._data_of(values, where)
        if tokenizer:
            data = tuple(each for each in data if each in self.tokenizers[tokenizer].data)
        tuned, given = values.pop("tune", True), tuple(values)
        config, _ = self._stage(TrainConfig, values, where, model=name, **self.limit)
        # Of a recipe, the settings count and not the protocol, which is the same for all systems.
        config = dataclasses.replace(config, exclude_seen=head.protocols == (True,))
        return System(
            name=name, tokenizer=tokenizer, config=config, evaluate=made, data=data, unite=unite,
            tuning=tuning_of(config, given, tuned, self.tune, where),
        )  # fmt: skip

    def _evaluate(self, values: dict[str, Any], head: _Head, where: str) -> EvaluateConfig:
        at_the_top(("split", "k", "exclude_seen"), values, where)
        config, _ = self._stage(EvaluateConfig, values, where)
        return dataclasses.replace(config, split=head.split, k=head.k)

    def _data_of(self, values: dict[str, Any], where: str) -> tuple[str, ...]:
        """The data sets that a table is for: those that its key `data` names, or all."""
        names = tuple(each.name for each in self.data)
        return chosen(values.pop("data"), names, f"{where}: data") if "data" in values else names

    def _stage(
        self, cls: type, values: dict[str, Any], where: str, *, systems: Collection[str] = (), **defaults: Any
    ) -> tuple[Any, dict[str, str]]:
        """Configuration `cls` of a table, and which of its options name one of the `systems` instead of a file.

        defaults: values that a recipe and the table win over.
        """
        ours = {f.name for f in dataclasses.fields(cls) if f.name in _OURS or _is_file(f) or role_of(f) == "output"}
        for key in values:
            if key in ours:
                raise UsageError(f"{where}: {key} is set by the benchmark")
        origins = {}
        try:
            if values.get("recipe"):
                command = cls.__name__.removesuffix("Config").lower()
                name = str(values.pop("recipe"))
                name = str(there(name, where, self.folder)) if name.endswith(".toml") else name
                settings = recipe(name, command)
                origins = dict.fromkeys(settings.keys() - values.keys(), f"{where}, its recipe")
                values = settings | values
            values = defaults | values
            registry = getattr(cls, "registry", None)
            method = registry.config(values.get(cls.choice, registry.default)) if registry else None  # type: ignore[attr-defined]
        except UsageError as error:
            raise UsageError(f"{where}: {error.message}", error.hint) from None
        values, after = self._placed((cls, method), values, where, systems)
        return configure(cls, values, where=where, origins=origins), after

    def _placed(
        self, classes: tuple[type, type | None], values: dict[str, Any], where: str, systems: Collection[str]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The options with paths in the suite's folder, less those that name a system."""
        values, after = dict(values), {}
        inputs = [f for cls in classes if cls for f in dataclasses.fields(cls) if role_of(f) == "input"]
        for f in inputs:
            value = values.get(f.name)
            if isinstance(value, list) and f.metadata["named"]:
                values[f.name] = [self._placed_name(str(each), where, hub=f.metadata["hub"]) for each in value]
            elif isinstance(value, list):
                values[f.name] = [str(there(str(each), where, self.folder)) for each in value]
            elif isinstance(value, str) and value in systems and f.metadata["complete"] == ".h5":
                after[f.name] = values.pop(f.name)
            # What may also be a name on a hub is a folder, or else that.
            elif isinstance(value, str) and value and not (f.metadata["hub"] and not (self.folder / value).is_dir()):
                values[f.name] = str(there(value, where, self.folder))
        return values, after

    def _placed_name(self, value: str, where: str, *, hub: bool) -> str:
        """NAME=FILE:MORE with the file in the suite's folder."""
        name, file, more = named_file(value)
        if file and not (hub and not (self.folder / file).is_dir()):
            file = str(there(file, where, self.folder))
        return f"{name}={file}" + (f":{more}" if more else "")

    def _check_input(self, systems: tuple[System, ...]) -> None:
        """Raises: UsageError: a model without the semantic IDs that it needs, or a tokenizer without features."""
        tokens = {data.name for data in self.data if data.kind == "tokens"}
        for tokenizer in self.tokenizers.values():
            if tokens & set(tokenizer.data):
                what = f"{self.path}: [[tokenizer]] {tokenizer.name!r}, but the data is a tokens file already"
                raise UsageError(what, "give a features file")
        for system in systems:
            if "codes" in needs(system.config) and not system.tokenizer and not tokens.issuperset(system.data):
                where = f"{self.path}: [[system]] {system.name!r}"
                raise UsageError(f"{where}: the model {system.config.model} needs a tokenizer", 'tokenizer = "…"')

    def _check_after(self, systems: Mapping[str, System]) -> None:
        """Raises: UsageError: a tokenizer that starts from a system which cannot be trained before it."""
        for tokenizer in self.tokenizers.values():
            for key, name in tokenizer.after.items():
                where, system = f"{self.path}: [[tokenizer]] {tokenizer.name!r}: {key}", systems[name]
                if system.tokenizer or needs(system.config) or not hasattr(method_of(system.config), "epochs"):
                    raise UsageError(
                        f"{where} names the system {name!r}, which is no sequence model of items alone",
                        'a [[system]] with model = "sasrec", or a model file',
                    )
                if not set(tokenizer.data) <= set(system.data):
                    raise UsageError(f"{where} names the system {name!r}, which is not for the same data sets")

    def _check_unite(self, systems: Mapping[str, System]) -> None:
        """Raises: UsageError: a system that is united with one that is united itself, or is not for its data sets."""
        for system in systems.values():
            for other in (systems[name] for name in system.unite):
                where = f"{self.path}: [[system]] {system.name!r}: unite names {other.name!r}"
                if other.unite or other is system or system.unite.count(other.name) > 1:
                    raise UsageError(
                        f"{where}, which is no other system of a single model", "name each model's system once"
                    )
                if not set(system.data) <= set(other.data):
                    raise UsageError(f"{where}, which is not for the same data sets")


def at_the_top(keys: Sequence[str], values: Mapping[str, Any], where: str) -> None:
    """Raises: UsageError: a table has one of the keys that the whole suite has."""
    for key in keys:
        if key in values:
            raise UsageError(f"{where}: {key} is set by the benchmark", f"{key} at the top of the suite")


_OURS = (*(f.name for f in dataclasses.fields(StageConfig)), "resume")
"""Options of the stages that the benchmark sets itself, beside inputs and outputs."""


def _is_file(f: dataclasses.Field) -> bool:
    return role_of(f) == "input" and not f.metadata["hub"] and not f.metadata["named"]
