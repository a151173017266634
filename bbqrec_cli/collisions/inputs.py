"""What is analysed: semantic IDs of a file with the features of their items. I items, d width of a feature."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from bbqrec_cli.collisions.agreement import Agreement, agreement
from bbqrec_cli.collisions.analysis import Ids
from bbqrec_cli.data.merging import check_titles
from bbqrec_cli.errors import DataError
from bbqrec_cli.formats.semantic_id_json import SIGNAL, align, load_index
from bbqrec_cli.hdf5 import read_codes
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.records import Codes, Feature, Features, Vocabulary


def read_ids(path: Path, progress: Progress = SILENT) -> Ids:
    """Item ids, titles ('' in a published index) and semantic IDs of a tokens file, a model file or an index."""
    if path.suffix.lower() != ".json":
        catalogue, codes = read_codes(path)
        return Ids(label=str(path), item_ids=list(catalogue.item_ids), titles=catalogue.titles, codes=codes)
    index = load_index(path)
    if index.note:
        progress.log(f"{path}: {index.note}")
    size = int(index.codes.max()) + 1
    codes = Codes(
        codes=index.codes, modalities=(SIGNAL,), method="published", codebook_size=size, suffix=bool(index.note)
    )
    return Ids(label=str(path), item_ids=index.item_ids, titles=[""] * len(index.item_ids), codes=codes)


def with_features(ids: Ids, features: Features, path: Path, progress: Progress) -> Ids:
    """`ids` with the features of its items, and their titles where it has none.

    Raises:
        DataError: the features are of other items.
    """
    theirs, note = features.catalogue.item_ids, ""
    rows = Vocabulary(ids.item_ids).rows(theirs)
    if Path(ids.label).suffix.lower() == ".json" and np.count_nonzero(rows >= 0) < len(ids.item_ids):
        rows, note = align(ids.item_ids, np.arange(len(ids.item_ids)), theirs, where=ids.label)
    kept = np.flatnonzero(rows >= 0)
    lost = len(ids.item_ids) - len(kept)
    if not len(kept):
        raise DataError(f"{path}: has none of the items of {ids.label}", "give the features file of the same items")
    check_titles(
        ids.item_ids, ids.titles, features.catalogue, old=ids.label, path=path,
        hint="give the features file of the same items",
    )  # fmt: skip
    if lost:
        progress.warn(f"{path}: lacks {lost:,} of the {len(ids.item_ids):,} items of {ids.label}")
    if note:
        progress.log(f"{ids.label}: {note}")
    item_ids, titles = list(ids.item_ids), list(ids.titles)
    for row in kept.tolist() if note else ():  # the index numbers them otherwise
        item_ids[rows[row]] = theirs[row]
    for row in kept if not any(titles) else ():
        titles[rows[row]] = features.catalogue.titles[row]
    placed = {name: placed_at(each, rows[kept], kept, len(ids.item_ids)) for name, each in features.features.items()}
    return dataclasses.replace(ids, item_ids=item_ids, titles=titles, features=placed)


def placed_at(feature: Feature, rows: np.ndarray, theirs: np.ndarray, items: int) -> Feature:
    """A feature (items, d) with the given feature's rows `theirs` at `rows`; absent elsewhere."""
    values, present = np.zeros((items, feature.values.shape[1]), np.float32), np.zeros(items, dtype=bool)
    values[rows], present[rows] = feature.values[theirs], feature.present[theirs]
    return Feature(values=values, present=present, encoder=feature.encoder, normalized=feature.normalized)


def agreements(every: list[Ids]) -> list[tuple[int, int, Agreement]]:
    """The agreement of every two inputs that hold the same items, in any order."""
    found = []
    for one, other in itertools.combinations(range(len(every)), 2):
        a, b = every[one], every[other]
        if set(a.item_ids) != set(b.item_ids):
            continue
        order = Vocabulary(b.item_ids).rows(a.item_ids)
        present = tuple(each.codes.present for each in (a, b))
        ordered = (present[0], None if present[1] is None else present[1][order])
        signals = (a.codes.modalities, b.codes.modalities)
        quantised = min(each.codes.quantised_levels for each in (a, b))
        found.append((one, other, agreement(a.codes.codes, b.codes.codes[order], signals, ordered, levels=quantised)))
    return found
