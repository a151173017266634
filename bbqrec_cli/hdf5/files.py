"""One read and one write function per kind: records in memory <-> datasets in a file, with checks of the values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.errors import BrokenFileError, DataError
from bbqrec_cli.hdf5.catalogue import catalogue_in, catalogue_out, splitting_in, splitting_out
from bbqrec_cli.hdf5.codes import codes_in, codes_out
from bbqrec_cli.hdf5.columns import Column, Columns
from bbqrec_cli.hdf5.schema import KINDS
from bbqrec_cli.hdf5.store import File, Value, open_file, write
from bbqrec_cli.records import (
    Catalogue,
    Codes,
    Dataset,
    Feature,
    Features,
    ItemData,
    ItemEncoder,
    Metrics,
    Tokens,
    TrainedModel,
)

CATALOGUE_KINDS = ("dataset", "features", "tokens", "model")


def write_dataset(path: Path, dataset: Dataset, **provenance: Any) -> None:
    """`provenance`: config, parents, force, as in `store.write`."""
    attributes, datasets = catalogue_out(dataset.catalogue)
    datasets["items/text"] = dataset.texts
    datasets["items/image"] = dataset.images if any(dataset.images) else [b""] * dataset.catalogue.items
    feature_attributes, features = _features_out(dataset.features)
    write(path, "dataset", datasets | features, attributes=attributes | feature_attributes, **provenance)


def read_dataset(path: Path) -> Dataset:
    """A dataset file, whose texts, pictures and precomputed features are read on first use.

    Raises:
        the errors of `open_file`; on first use of a feature, DataError for NaN in it.
    """

    with open_file(path, "dataset") as file:
        catalogue, reader = catalogue_in(file), file.reader()

        def texts() -> list[str]:
            with reader() as again:
                return again.strings("items/text")

        def images() -> list[bytes]:
            with reader() as again:
                return again.blobs("items/image")

        return Dataset(
            catalogue=catalogue, texts=Column(catalogue.items, texts), images=Column(catalogue.items, images),
            features=_features_in(file, catalogue.item_ids),
        )  # fmt: skip


ENCODING = ("content", "mean", "matrix")


def write_features(
    path: Path,
    features: Features,
    *,
    encodings: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    **provenance: Any,
) -> None:
    """encodings: feature -> arrays, see `read_encoding`; `provenance`: config, parents, force, as in `store.write`."""
    attributes, datasets = catalogue_out(features.catalogue)
    feature_attributes, made = _features_out(features.features)
    for name, arrays in (encodings or {}).items():
        made |= {f"features/{name}/{part}": value for part, value in arrays.items()}
    write(path, "features", datasets | made, attributes=attributes | feature_attributes, **provenance)


def read_features(path: Path) -> Features:
    """A features file, whose features are read on first use.

    Raises:
        the errors of `open_file`; on first use of a feature, DataError for NaN in it.
    """
    with open_file(path, "features") as file:
        catalogue = catalogue_in(file)
        return Features(catalogue=catalogue, features=_features_in(file, catalogue.item_ids))


def read_encoding(path: Path, name: str) -> dict[str, np.ndarray]:
    """What a features file holds of how a feature was made, as far as there is any.

    content (I, 2) uint64, digests of the inputs; mean (d,) and matrix (d, D) float32, of whitening.

    Raises: the errors of `open_file`.
    """
    with open_file(path, "features") as file:
        places = {part: f"features/{name}/{part}" for part in ENCODING}
        return {part: file.array(place) for part, place in places.items() if place in file}


def read_item_data(path: Path) -> tuple[Catalogue, ItemData]:
    """The catalogue of a file of any kind that has one, and its item data: semantic IDs, features or neither.

    Raises:
        the errors of `open_file`; on first use of a feature, DataError for NaN in it.
    """
    with open_file(path, "tokens", "features", "dataset", "model") as file:
        catalogue = catalogue_in(file)
        features = _features_in(file, catalogue.item_ids)
        return catalogue, ItemData(ids=catalogue.item_ids, codes=codes_in(file), features=features)


def read_feature_blocks(
    path: Path, names: Sequence[str], starts: Iterable[int], size: int
) -> Iterator[dict[str, Feature]]:
    """Some features of a features file, of the `size` items from each of the rows `starts` on, so that a large one need
    not be read whole.

    Raises: the errors of `open_file`; DataError for NaN.
    """
    with open_file(path, "features") as file:
        about = {name: _about(file, name) for name in names}
        for start in starts:
            rows, found = slice(start, start + size), {}
            ids = Column(size, partial(file.strings, "items/id", rows))
            for name in names:
                values = file.array(f"features/{name}/values", rows)
                check_finite(values, ids, f"{path}: /features/{name}/values", first=start)
                present = file.array(f"features/{name}/present", rows)
                found[name] = Feature(values=values, present=present, **about[name])
            yield found


def read_present(path: Path) -> dict[str, np.ndarray]:
    """Feature -> (I,) bool: the items of a features file that have it. Raises: the errors of `open_file`."""
    with open_file(path, "features") as file:
        return {name: file.array(f"features/{name}/present") for name in file.names("features")}


def write_tokens(path: Path, tokens: Tokens, **provenance: Any) -> None:
    """`provenance`: config, parents, force, as in `store.write`."""
    attributes, datasets = catalogue_out(tokens.catalogue)
    code_attributes, codes = codes_out(tokens.codes)
    attributes |= code_attributes | {"history": tokens.history}
    datasets |= codes
    if tokens.encoder is not None:
        attributes["encoder_inputs"] = tokens.encoder.inputs
        datasets |= {f"encoder/{name}": value for name, value in tokens.encoder.weights.items()}
    write(path, "tokens", datasets, attributes=attributes, **provenance)


def read_tokens(path: Path) -> Tokens:
    """Raises: the errors of `open_file`."""
    with open_file(path, "tokens") as file:
        codes = codes_in(file)
        assert codes is not None  # the schema requires them
        encoder = None
        if file.has_attribute("encoder_inputs"):
            weights = {name: file.array(f"encoder/{name}") for name in file.names("encoder")}
            encoder = ItemEncoder(weights=weights, inputs=file.mapping("encoder_inputs"))
            kinds = {"encoder": str, "normalized": bool, "width": int}
            for about in encoder.inputs.values():
                if not isinstance(about, dict) or {key: type(each) for key, each in about.items()} != kinds:
                    raise BrokenFileError(f"{path}: the attribute encoder_inputs has more or less than {list(kinds)}")
        return Tokens(catalogue=catalogue_in(file), codes=codes, history=file.attribute("history"), encoder=encoder)


EARLIER = "earlier/interactions"
"""Dataset with what the models were trained on that a model goes on from."""


def write_model(path: Path, model: TrainedModel, **provenance: Any) -> None:
    """`provenance`: config, parents, force, as in `store.write`."""
    attributes, datasets = catalogue_out(model.catalogue)
    attributes |= {"model": model.name, "settings": model.settings, "history": model.history}
    attributes |= {"earlier": model.earlier} if model.earlier else {}
    datasets |= {} if model.earlier_interactions is None else {EARLIER: model.earlier_interactions}
    datasets |= {f"weights/{name}": value for name, value in model.weights.items()}
    if model.codes is not None:
        code_attributes, code_datasets = codes_out(model.codes)
        attributes, datasets = attributes | code_attributes, datasets | code_datasets
    if model.features:
        feature_attributes, feature_datasets = _features_out(model.features)
        attributes, datasets = attributes | feature_attributes, datasets | feature_datasets
    write(path, "model", datasets, attributes=attributes, **provenance)


def read_model(path: Path) -> TrainedModel:
    """Raises: the errors of `open_file`."""
    with open_file(path, "model") as file:
        catalogue = catalogue_in(file)
        origin = file.attribute("origin") if file.has_attribute("origin") else {}
        return TrainedModel(
            catalogue=catalogue,
            name=file.attribute("model"),
            settings=file.mapping("settings"),
            weights={name: file.array(f"weights/{name}") for name in file.names("weights")},
            codes=codes_in(file),
            features=_features_in(file, catalogue.item_ids),
            history=file.attribute("history"),
            plugin=str(origin.get("plugin", "")) if isinstance(origin, dict) else "",
            earlier=file.attribute("earlier") if file.has_attribute("earlier") else [],
            earlier_interactions=file.array(EARLIER) if EARLIER in file else None,
        )


def write_metrics(path: Path, metrics: Metrics, **provenance: Any) -> None:
    """`provenance`: config, parents, force, as in `store.write`."""
    datasets: dict[str, Value] = {"users/id": metrics.user_ids, "rank": metrics.ranks.astype(np.int64)}
    for name, values in (("recall", metrics.recall), ("ndcg", metrics.ndcg)):
        datasets |= {f"{name}/{k}": v.astype(np.float32) for k, v in values.items()}
    of_users = {"cold": bool, "history_length": np.int64, "target_interactions": np.int64}
    datasets |= {
        name: values.astype(kind) for name, kind in of_users.items() if (values := getattr(metrics, name)) is not None
    }
    attributes: dict[str, Any] = {"model": metrics.model, "split": metrics.split, "aggregates": metrics.aggregates}
    attributes["confidence"] = {key: list(limits) for key, limits in metrics.confidence.items()}
    attributes |= {"exclude_seen": metrics.exclude_seen, "lists": dict(metrics.lists)}
    attributes |= {"items": metrics.items} if metrics.items else {}
    attributes |= splitting_out(metrics.splitting)
    if metrics.targets is not None:
        datasets["target"] = metrics.targets
    write(path, "metrics", datasets, attributes=attributes, **provenance)


def read_metrics(path: Path) -> Metrics:
    """Raises: the errors of `open_file`."""
    with open_file(path, "metrics") as file:
        means, confidence, ranks = file.mapping("aggregates"), file.mapping("confidence"), file.array("rank")
        pairs = all(isinstance(each, list) and len(each) == 2 for each in confidence.values())
        if not pairs or not all(_is_number(each) for each in (*means.values(), *chain(*confidence.values()))):
            raise BrokenFileError(f"{path}: aggregates is no number, or confidence no two numbers, of each metric")
        if ranks.min(initial=0) < 0:
            raise BrokenFileError(f"{path}: /rank holds {ranks.min()}; ranks begin at 1, and 0 is none")
        return Metrics(
            user_ids=file.strings("users/id"),
            ranks=ranks,
            recall=_by_depth(file, "recall"),
            ndcg=_by_depth(file, "ndcg"),
            aggregates=means,
            confidence={k: tuple(v) for k, v in confidence.items()},
            model=file.attribute("model"),
            split=file.attribute("split"),
            exclude_seen=file.has_attribute("exclude_seen") and bool(file.attribute("exclude_seen")),
            lists=file.mapping("lists") if file.has_attribute("lists") else {},
            cold=file.array("cold") if "cold" in file else None,
            history_length=file.array("history_length") if "history_length" in file else None,
            target_interactions=file.array("target_interactions") if "target_interactions" in file else None,
            targets=file.strings("target") if "target" in file else None,
            splitting=splitting_in(file),
            items=file.count("items") if file.has_attribute("items") else 0,
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _by_depth(file: File, metric: str) -> dict[int, np.ndarray]:
    """k -> (U,) of a metric."""
    names = file.names(metric)
    if wrong := next((name for name in names if not (name.isascii() and name.isdecimal())), None):
        raise BrokenFileError(f"{file.path}: /{metric}/{wrong} is of no depth k")
    return {int(k): file.array(f"{metric}/{k}") for k in names}


def write_checkpoint(
    path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], *, config: Mapping[str, Any]
) -> None:
    """The state of a running stage: arrays by name and a JSON object. Overwrites, atomically."""
    datasets = {f"state/{name.replace('/', '|')}": value for name, value in arrays.items()}
    write(path, "checkpoint", datasets, attributes={"meta": dict(meta)}, config=config, force=True)


def read_checkpoint(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """(arrays, meta, config) of `write_checkpoint`."""
    with open_file(path, "checkpoint") as file:
        arrays = {name.replace("|", "/"): file.array(f"state/{name}") for name in file.names("state")}
        return arrays, file.attribute("meta"), file.attribute("config")


def write_record(path: Path, record: Mapping[str, Any], **provenance: Any) -> None:
    """What became of a benchmark's step. Overwrites, atomically; `provenance`: parents, as in `store.write`."""
    write(path, "record", {}, attributes=record, force=True, **provenance)


def read_record(path: Path) -> dict[str, Any]:
    """The `record` of `write_record`; 'curves', 'alike' and 'settings' where it has them.

    Raises: the errors of `open_file`.
    """
    with open_file(path, "record") as file:
        found = {key: file.attribute(key) for key in KINDS["record"].attributes}
        found |= {key: file.attribute(key) for key in ("curves", "alike", "settings") if file.has_attribute(key)}
    return found


def write_benchmark(path: Path, state: Mapping[str, Any], **provenance: Any) -> None:
    """What a suite came to. Overwrites, atomically; `provenance`: config, parents, as in `store.write`.

    Args:
        state: data, name of a data set -> {'users': ids of its U evaluated users, 'cells': name -> ranks (U,) of their
            targets}; steps, key -> the step's record; results, all that was made of the cells.
    """
    datasets: dict[str, Value] = {}
    for name, found in state["data"].items():
        datasets[f"data/{name}/users"] = found["users"]
        datasets |= {f"data/{name}/cells/{cell}": ranks.astype(np.int64) for cell, ranks in found["cells"].items()}
    attributes = {"steps": state["steps"], "results": state["results"]}
    write(path, "benchmark", datasets, attributes=attributes, force=True, **provenance)


def read_benchmark(path: Path) -> dict[str, Any]:
    """The `state` of `write_benchmark`; of version 1, whose one data set has no name, it is called 'data'.

    Raises: the errors of `open_file`.
    """
    with open_file(path, "benchmark") as file:
        places = {name: (f"data/{name}/users", f"data/{name}/cells") for name in file.names("data")}
        if "users/id" in file:
            places = {"data": ("users/id", "cells")}
        data: dict[str, Any] = {}
        for name, (users, cells) in places.items():
            ranks = {each: file.array(f"{cells}/{each}") for each in file.names(cells)}
            data[name] = {"users": file.strings(users), "cells": ranks}
        return {"data": data, "steps": file.attribute("steps"), "results": file.attribute("results")}


def read_catalogue(path: Path) -> Catalogue:
    """The catalogue of a file of any kind that has one. Raises: the errors of `open_file`."""
    with open_file(path, *CATALOGUE_KINDS) as file:
        return catalogue_in(file)


def read_codes(path: Path) -> tuple[Catalogue, Codes]:
    """The semantic IDs of a tokens or model file.

    Raises:
        DataError: a model without semantic IDs; the errors of `open_file`.
    """
    with open_file(path, "tokens", "model") as file:
        codes = codes_in(file)
        if codes is None:
            raise DataError(f"{path}: the model {file.attribute('model')} has no semantic IDs", "give a tokens file")
        return catalogue_in(file), codes


def describe(path: Path) -> dict[str, Any]:
    """Kind, version, configuration, parents, the kind's own short attributes, and datasets of any file."""
    with open_file(path) as file:
        long = {"history", "earlier", "meta", "steps", "results"}
        try:
            epochs = {"epochs": len(file.attribute("history"))} if file.has_attribute("history") else {}
            if file.has_attribute("earlier"):
                epochs["earlier_epochs"] = sum(len(each["history"]) for each in file.attribute("earlier"))
        except (TypeError, KeyError):
            raise BrokenFileError(f"{path}: the attributes history and earlier are no lists of epochs") from None
        return {
            "path": str(path),
            "kind": file.kind,
            "schema_version": file.attribute("schema_version"),
            "bbqrec_version": file.attribute("bbqrec_version"),
            "created": file.attribute("created"),
            "config": file.mapping("config"),
            "parents": _parents(file),
            "attributes": epochs | {key: file.attribute(key) for key in file.own_attributes() if key not in long},
            "datasets": file.tree(),
        }


def _parents(file: File) -> list[dict[str, Any]]:
    found, keys = file.attribute("parents"), ("path", "kind", "sha256")
    listed = isinstance(found, list) and all(isinstance(each, dict) for each in found)
    if not listed or not all(isinstance(each.get(key), str) for each in found for key in keys):
        raise BrokenFileError(f"{file.path}: the attribute parents is no list of inputs ({', '.join(keys)})")
    return found


def _features_out(features: Mapping[str, Feature]) -> tuple[dict[str, Any], dict[str, Value]]:
    about = {name: {"encoder": f.encoder, "normalized": f.normalized} for name, f in features.items()}
    datasets: dict[str, Value] = {}
    for name, f in features.items():
        datasets[f"features/{name}/values"] = f.values.astype(np.float32, copy=False)
        datasets[f"features/{name}/present"] = f.present.astype(bool, copy=False)
    return {"features": about}, datasets


def _features_in(file: File, item_ids: Sequence[str]) -> Columns[Feature]:
    """The features of an opened file, read on first use by opening it again."""
    path, reader, names = file.path, file.reader(), file.names("features")
    for name in names:
        for part in ("values", "present"):
            if f"features/{name}/{part}" not in file:
                raise BrokenFileError(f"{path}: /features/{name}/{part} is missing")

    def read(name: str) -> Feature:
        with reader() as again:
            about = _about(again, name)
            values, present = again.array(f"features/{name}/values"), again.array(f"features/{name}/present")
        check_finite(values, item_ids, f"{path}: /features/{name}/values")
        return Feature(values=values, present=present, **about)

    return Columns(names, read)


def _about(file: File, name: str) -> dict[str, Any]:
    """What a file says of how a feature was made. Raises: BrokenFileError: something that no feature has."""
    about = file.mapping("features").get(name, {}) if file.has_attribute("features") else {}
    kinds = {"encoder": str, "normalized": bool}
    if not isinstance(about, dict) or not all(isinstance(each, kinds.get(key, ())) for key, each in about.items()):
        raise BrokenFileError(f"{file.path}: the attribute features says more of {name} than {' and '.join(kinds)}")
    return about


LARGEST = 1e15
"""Of a feature's numbers: a sum of squares of some thousand stays within float32."""


def check_finite(values: np.ndarray, item_ids: Sequence[str], where: str, *, first: int = 0) -> None:
    """Raises: DataError naming the first item whose feature holds what nothing can be computed from: NaN, infinity or
    a number whose square overflows. values (n, d), rows from `first`."""
    bad = np.flatnonzero(~(np.abs(values) <= LARGEST).all(axis=1))
    if len(bad):
        what = f"a number beyond {LARGEST:g}" if np.isfinite(values[bad]).all() else "NaN or infinity"
        raise DataError(
            f"{where}: {what} in {len(bad)} of {len(values)} items, "
            f"first in item {item_ids[bad[0]]!r} (row {first + bad[0]})",
            "correct the feature, or mark the item as missing",
        )
