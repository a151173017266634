"""What a suite file says, checked by table and key before any work begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bbqrec_cli.config import did_you_mean, from_mapping, load_toml, option
from bbqrec_cli.errors import MissingFileError, UsageError
from bbqrec_cli.stages.embed import EmbedConfig
from bbqrec_cli.stages.evaluate import EvaluateConfig
from bbqrec_cli.stages.prepare import PrepareConfig
from bbqrec_cli.stages.tokenize import TokenizeConfig
from bbqrec_cli.stages.train import TrainConfig

LONGEST_NAME = 60
BUILT_IN = Path(__file__).parent / "suites"
_OURS = (
    "seed", "device", "threads", "force", "resume", "output", "dataset", "features", "input", "against", "split", "k",
    "options",
)  # fmt: skip
"""Options of the stages that the benchmark sets itself."""


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A `[[tokenizer]]` table: config without files and seed; resolved: the method's options, defaults filled in.

    reported: items in collisions that a paper reports, to be shown beside ours.
    after: options that name a system of the suite, whose model file they will be, and that system.
    """

    name: str
    config: TokenizeConfig
    resolved: Any
    reported: int | None = None
    after: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class System:
    """A `[[system]]` table; tokenizer: the name of one, or '' for a model without semantic IDs."""

    name: str
    tokenizer: str
    config: TrainConfig
    resolved: Any


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite file. Either `file` is there or `prepare`; `kind` is the kind of `file`, or 'dataset'."""

    name: str
    seeds: tuple[int, ...]
    prepare: PrepareConfig | None
    embed: EmbedConfig
    file: Path | None
    kind: str
    tokenizers: dict[str, Tokenizer]
    systems: tuple[System, ...]
    evaluate: EvaluateConfig
    text: str
    """The file itself, for the report."""


def load_suite(name: str) -> Suite:
    """The suite in the file `name`, or the built-in one of that name.

    Raises:
        MissingFileError: no such file or built-in suite.
        UsageError: anything in it that does not fit, named by table and key.
    """
    path = Path(name)
    if not path.suffix and not path.is_file():
        path = BUILT_IN / f"{name}.toml"
        if not path.exists():
            known = sorted(each.stem for each in BUILT_IN.glob("*.toml"))
            raise MissingFileError(
                f"{name}: neither a suite file nor a built-in suite ({', '.join(known)}){did_you_mean(name, known)}"
            )
    values, text = load_toml(path, "suite")
    _only(values, ("name", "seeds", "split", "k", "data", "evaluate", "tokenizer", "system"), str(path))
    head = from_mapping(_Head, {k: values[k] for k in ("name", "seeds", "split", "k") if k in values}, where=str(path))
    if not head.name or not all(c.isalnum() or c in "-_." for c in head.name):
        raise UsageError(f"{path}: name is {head.name!r}; letters, digits, '-', '_' and '.' are needed")
    if not head.seeds or len(set(head.seeds)) < len(head.seeds) or not head.k:
        raise UsageError(
            f"{path}: seeds is {list(head.seeds)}, k is {list(head.k)}; different seeds and a k are needed"
        )
    names = _names(values.get("system", []))
    made = _tables(values, "tokenizer", path, lambda table, where: _tokenizer(table, where, path.parent, names))
    tokenizers = {each.name: each for each in made}
    systems = _tables(values, "system", path, lambda table, where: _system(table, where, tokenizers))
    if not systems and not tokenizers:
        raise UsageError(f"{path}: neither a [[system]] nor a [[tokenizer]] table; at least one is needed")
    _check_after(made, {each.name: each for each in systems}, path)
    prepare, embed, file, kind = _data(values.get("data"), path)
    _check_input(tokenizers, systems, kind, path)
    where = f"{path}: [evaluate]"
    evaluate = _stage(EvaluateConfig, _table(values.get("evaluate", {}), where), where, also=("model",))
    evaluate = dataclasses.replace(evaluate, split=head.split, k=tuple(sorted(set(head.k))))
    return Suite(
        name=head.name, seeds=head.seeds, prepare=prepare, embed=embed, file=file, kind=kind, tokenizers=tokenizers,
        systems=tuple(systems), evaluate=evaluate, text=text,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Head:
    name: str = option()
    seeds: tuple[int, ...] = option((0,), minimum=0)
    split: str = option("test", choices=("test", "validation"))
    k: tuple[int, ...] = option((5, 10), minimum=1)


def _tables(values: Mapping[str, Any], key: str, path: Path, make: Callable[[dict, str], Any]) -> list[Any]:
    """Every `[[key]]` table, each with a name of its own."""
    tables = values.get(key, [])
    if not isinstance(tables, list):
        raise UsageError(f"{path}: {key} is one table; write [[{key}]]")
    made: list[Any] = []
    for number, table in enumerate(tables, 1):
        table = _table(table, f"{path}: [[{key}]] number {number}")
        name = table.get("name")
        if not isinstance(name, str) or not name:
            raise UsageError(f"{path}: [[{key}]] number {number} has no name")
        if not name.isprintable() or "/" in name or len(name) > LONGEST_NAME:
            what = f"a line of at most {LONGEST_NAME} characters without '/' is needed"
            raise UsageError(f"{path}: [[{key}]] number {number}: name is {name!r}; {what}")
        if name in {each.name for each in made}:
            raise UsageError(f"{path}: two [[{key}]] tables are named {name!r}")
        made.append(
            make({k: v for k, v in table.items() if k != "name"} | {"name": name}, f"{path}: [[{key}]] {name!r}")
        )
    return made


def _names(tables: Any) -> set[str]:
    """The names of `[[system]]` tables that have not been checked yet."""
    return {str(each.get("name")) for each in tables if isinstance(each, dict)} if isinstance(tables, list) else set()


def _tokenizer(table: dict[str, Any], where: str, folder: Path, systems: set[str]) -> Tokenizer:
    """An option that names a file may name one of the `systems` instead, but for a published index."""
    from bbqrec_cli.tokenizers.registry import FILES, tokenizer_config

    name, reported, after = table.pop("name"), table.pop("reported", None), {}
    if reported is not None and (not isinstance(reported, int) or isinstance(reported, bool) or reported < 0):
        raise UsageError(f"{where}: reported is {reported!r}; a number of items in collisions is needed")
    for key, value in list(table.items()):
        if key.replace("-", "_") not in FILES or not value:
            continue
        if isinstance(value, str) and value in systems and key != "index":
            after[key.replace("-", "_")] = value
        elif isinstance(value, str):
            table[key] = str(_there(value, where, folder))
        elif isinstance(value, list):
            table[key] = [str(_there(str(each), where, folder)) for each in value]
    config = _stage(TokenizeConfig, table, where, open_ended=True)
    resolved = _options(where, tokenizer_config, config.method, config)
    return Tokenizer(name=name, config=config, resolved=resolved, reported=reported, after=after)


def _check_after(tokenizers: list[Tokenizer], systems: Mapping[str, System], path: Path) -> None:
    """Raises: UsageError: a tokenizer that starts from a system which cannot be trained before it."""
    for tokenizer in tokenizers:
        for key, name in tokenizer.after.items():
            if systems[name].tokenizer or systems[name].config.model == "popularity":
                raise UsageError(
                    f"{path}: [[tokenizer]] {tokenizer.name!r}: {key} names the system {name!r}, which is no "
                    "sequence model without a tokenizer",
                    'a [[system]] with model = "sasrec", or a model file',
                )


def _system(table: dict[str, Any], where: str, tokenizers: Mapping[str, Tokenizer]) -> System:
    from bbqrec_cli.models.registry import model_config

    name, tokenizer = table.pop("name"), table.pop("tokenizer", "")
    if tokenizer and tokenizer not in tokenizers:
        known = ", ".join(tokenizers) or "there is none"
        raise UsageError(
            f"{where}: tokenizer is {tokenizer!r}; known: {known}{did_you_mean(str(tokenizer), tokenizers)}"
        )
    config = _stage(TrainConfig, {"model": name} | table, where, open_ended=True)
    resolved = _options(where, model_config, config.model, config)
    return System(name=name, tokenizer=tokenizer, config=config, resolved=resolved)


def _options(where: str, check: Callable[..., Any], name: str, config: TokenizeConfig | TrainConfig) -> Any:
    """The checked options of the method or model `name`."""
    try:
        return check(name, config.options, paper=config.paper)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", error.hint) from None


def _stage(
    cls: type, table: Mapping[str, Any], where: str, *, open_ended: bool = False, also: tuple[str, ...] = ()
) -> Any:
    """Configuration `cls` of a table; open_ended: keys that it does not know are the method's or model's options."""
    values = {key.replace("-", "_"): value for key, value in table.items()}
    for key in values:
        if key in (*_OURS, *also):
            raise UsageError(f"{where}: {key} is set by the benchmark")
    if open_ended:
        known = {f.name for f in dataclasses.fields(cls)}
        values = {k: v for k, v in values.items() if k in known} | {
            "options": {k: v for k, v in values.items() if k not in known}
        }
    return from_mapping(cls, values, where=where)


def _data(table: Any, path: Path) -> tuple[PrepareConfig | None, EmbedConfig, Path | None, str]:
    from bbqrec_cli.hdf5 import open_file

    where = f"{path}: [data]"
    table = _table(table or {}, where)
    _only(table, ("source", "file", "prepare", "embed"), where)
    if ("source" in table) == ("file" in table):
        raise UsageError(f'{where} needs either source = ["demo"], or another source with its paths, or file = "…"')
    embed = _embed(table.get("embed", {}), f"{path}: [data.embed]", path.parent)
    if "source" in table:
        return _prepare(table, path), embed, None, "dataset"
    if "prepare" in table or not isinstance(table["file"], str):
        raise UsageError(f"{where}: a file is a path, and needs no [data.prepare]")
    file = _there(table["file"], where, path.parent)
    with open_file(file, "dataset", "features", "tokens") as opened:
        return None, embed, file, opened.kind


def _prepare(data: Mapping[str, Any], path: Path) -> PrepareConfig:
    where = f"{path}: [data]"
    source = [data["source"]] if isinstance(data["source"], str) else data["source"]
    if not isinstance(source, list) or not source or not all(isinstance(each, str) for each in source):
        raise UsageError(f'{where}: source is {source!r}; a list such as ["s3rec", "FOLDER"] is needed')
    paths = [str(_there(each, where, path.parent)) for each in source[1:]]
    where = f"{path}: [data.prepare]"
    values = _table(data.get("prepare", {}), where)
    if "source" in values or "paths" in values:
        raise UsageError(f"{where}: the source and its paths are given in [data]", 'source = ["s3rec", "FOLDER"]')
    for key in ("items", "images"):
        if isinstance(values.get(key), str):
            values[key] = str(_there(values[key], where, path.parent))
    return _stage(PrepareConfig, {"source": source[0], "paths": paths} | values, where)


def _embed(table: Any, where: str, folder: Path) -> EmbedConfig:
    """A model may be a folder, but need not be: what lies beside the suite file is taken."""
    values = _table(table, where)
    for key in ("text_model", "image_model"):
        key = key if key in values else key.replace("_", "-")
        if isinstance(values.get(key), str) and values[key] and (folder / values[key]).is_dir():
            values[key] = str(folder / values[key])
    return _stage(EmbedConfig, values, where)


def _there(name: str, where: str, folder: Path) -> Path:
    """The path `name` of a suite file in `folder`: so the same command works from anywhere.

    Raises:
        MissingFileError: nothing is there.
    """
    path = folder / name
    if not path.exists():
        raise MissingFileError(f"{where}: {path} is not there", "paths are relative to the suite file's folder")
    return path


def _check_input(tokenizers: Mapping[str, Tokenizer], systems: list[System], kind: str, path: Path) -> None:
    """Raises: UsageError: a model without the semantic IDs that it needs, or a tokenizer without features."""
    from importlib import import_module

    from bbqrec_cli.models.registry import MODELS

    if tokenizers and kind == "tokens":
        raise UsageError(f"{path}: a [[tokenizer]], but the data is a tokens file already", "give a features file")
    for system in systems:
        module, name = MODELS[system.config.model][0].split(":")
        where = f"{path}: [[system]] {system.name!r}"
        if not system.tokenizer and kind != "tokens" and getattr(import_module(module), name).needs_codes:
            raise UsageError(f"{where}: the model {system.config.model} needs a tokenizer", 'tokenizer = "…"')


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where} is {value!r}; a table is needed")
    return dict(value)


def _only(values: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in values:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{did_you_mean(key, known)}; known: {', '.join(known)}")
