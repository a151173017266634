"""Where systems are good: their last metric over groups of users, by history, target and what is known of the target.

U evaluated users, I items.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bbqrec_cli.benchmark.findings import Sliced
from bbqrec_cli.benchmark.graph import Cell
from bbqrec_cli.benchmark.layouts import UNSEEN
from bbqrec_cli.benchmark.results import Loaded, damage, per_user
from bbqrec_cli.benchmark.suite import Suite
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.evaluation.comparison import OF_USERS, in_order_of, range_name
from bbqrec_cli.grouping import group_codes
from bbqrec_cli.hdf5 import open_file, read_catalogue, read_codes, read_features
from bbqrec_cli.records import Catalogue, Metrics
from bbqrec_cli.stages.evaluate import SLICES


def slices_of(suite: Suite, cells: Sequence[Cell], loaded: Loaded) -> list[Sliced]:
    """All slices, as far as the files that they need are there. The metric is the last one with seen items as in the
    first protocol of the suite."""
    metric = [name for name in suite.metrics if not name.endswith(UNSEEN)][-1]
    found = []
    for data, systems in loaded.items():
        if not systems:
            continue
        first = next(iter(next(iter(systems.values())).values()))[0]
        values = {name: {seed: in_order_of(first, each[0], per_user(each, metric)) for seed, each in seeds.items()}
                  for name, seeds in systems.items()}  # fmt: skip
        means = {name: np.mean(list(of.values()), axis=0) for name, of in values.items()}
        for which, edges in SLICES.items():
            if (by := getattr(first, which)) is not None:
                group = np.searchsorted(edges, by)
                names = [
                    range_name(low, high)
                    for low, high in zip([0, *(e + 1 for e in edges)], [*edges, None], strict=True)
                ]
                found += [sliced(data, metric, OF_USERS[which], names, dict.fromkeys(means, group), means)]
        own = [cell for cell in cells if cell.data == data]
        if (targets := targets_of(own, suite.split, first)) is None:
            continue
        found += [*by_modality(data, metric, own, targets, means), *by_id(data, metric, own, targets, values)]
    return found


def sliced(
    data: str, metric: str, by: str, names: Sequence[str], groups: Mapping[str, np.ndarray],
    means: Mapping[str, np.ndarray],
) -> Sliced:  # fmt: skip
    """groups: system -> every user's group (U,), a place in `names`; means: system -> (U,)."""
    every = list(groups.values())
    same = all(np.array_equal(each, every[0]) for each in every)
    kept = [n for n in range(len(names)) if any((each == n).any() for each in every)]
    rows = {
        system: [float(means[system][group == n].mean()) if (group == n).any() else None for n in kept]
        for system, group in groups.items()
    }
    users = [int((every[0] == n).sum()) if same else 0 for n in kept]
    return Sliced(data, metric, by, [names[n] for n in kept], users, rows)


def targets_of(cells: Sequence[Cell], split: str, metrics: Metrics) -> np.ndarray | None:
    """The target (U,) of every row of the metrics, a row of the catalogue; None where it is not known for sure."""
    catalogue = catalogue_of(cells)
    if catalogue is None:
        return None
    held = getattr(split_of(catalogue.sequences), split)
    users = [catalogue.user_ids[user] for user in held.users]
    return held.targets if users == metrics.user_ids else None


def catalogue_of(cells: Sequence[Cell]) -> Catalogue | None:
    """The data set that cells have in common, of the first file that is there."""
    for path in sources_of(cells):
        if path.exists() and not damage(path):
            return read_catalogue(path)
    return None


def sources_of(cells: Sequence[Cell]) -> Iterator[Path]:
    """Files that hold the data set: what the first step makes, or what it reads, and so on."""
    steps = {step.key: step for cell in cells for step in cell.steps if step.stage != "evaluate"}
    for step in steps.values():
        for option in ("dataset", "features", "input"):
            if (path := getattr(step.config, option, None)) is not None:
                yield path
        yield step.output


def by_modality(
    data: str, metric: str, cells: Sequence[Cell], targets: np.ndarray, means: Mapping[str, np.ndarray]
) -> list[Sliced]:
    """By whether the target has a text and a picture; nothing where all have both."""
    for path in sources_of(cells):
        if not path.exists() or damage(path):
            continue
        with open_file(path) as file:
            if file.kind != "features":
                continue
        features = read_features(path).features
        lacking = {name: ~feature.present[targets] for name, feature in features.items()}
        if not any(each.any() for each in lacking.values()):
            return []
        kinds, group = np.unique(np.stack(list(lacking.values())[::-1], axis=1), axis=0, return_inverse=True)
        said = [" and ".join(name for name, lacks in zip(lacking, kind[::-1], strict=True) if lacks) for kind in kinds]
        names, group = [f"lacks {each}" if each else "has all" for each in said], group.reshape(-1)
        return [sliced(data, metric, "what the target has", names, dict.fromkeys(means, group), means)]
    return []


def by_id(
    data: str, metric: str, cells: Sequence[Cell], targets: np.ndarray, values: Mapping[str, Mapping[int, np.ndarray]]
) -> list[Sliced]:
    """By whether another item has the target's semantic ID, of the systems that have one; every seed by its own IDs.

    values: system -> seed -> (U,).
    """
    groups: dict[str, list[np.ndarray]] = {}
    flat: dict[str, list[np.ndarray]] = {}
    for cell in cells:
        step = cell.step("tokenize")
        if step is None or cell.unite or cell.seed not in values.get(cell.system, ()):
            continue
        if step.output.exists() and not damage(step.output):
            _, codes = read_codes(step.output)
            token, sharing = group_codes(codes.codes)
            groups.setdefault(cell.system, []).append((sharing[token] > 1)[targets].astype(np.int64))
            flat.setdefault(cell.system, []).append(values[cell.system][cell.seed])
    if not any(each.any() for every in groups.values() for each in every):
        return []
    names = ["an ID of its own", "an ID that others have, too"]
    both = [{name: np.concatenate(each) for name, each in of.items()} for of in (groups, flat)]
    made = sliced(data, metric, "the target's semantic ID", names, *both)
    several = any(len(each) > 1 for each in groups.values())
    return [dataclasses.replace(made, users=[0] * len(made.users)) if several else made]
