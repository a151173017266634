"""All figures of one file's IDs. I items, L levels, M signals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bbqrec_cli.collisions.causes import Causes, causes
from bbqrec_cli.collisions.depths import Depth, codebook_figures, codebooks, depths, largest_groups
from bbqrec_cli.collisions.duplicates import DUPLICATE, VICTIM, Duplicates, judge_duplicates
from bbqrec_cli.collisions.near import Near, near_items
from bbqrec_cli.collisions.neighbours import NeighbourRecall, cosine_by_depth, neighbour_recall
from bbqrec_cli.collisions.usage import Codebook
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.records import Codes, Feature

SHOWN = 20
"""Items listed per group."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Ids:
    """Semantic IDs to analyse. label: the file's name; titles: '' = missing; features: name -> (I, d)."""

    label: str
    item_ids: list[str]
    titles: list[str]
    codes: Codes
    features: Mapping[str, Feature] = field(default_factory=dict)

    def about(self, row: int) -> dict[str, str]:
        """An item for a list, by its row."""
        return {"id": self.item_ids[row], "title": self.titles[row]}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """groups: number of groups and closest pairs to list; near: the bound of near-collisions (0: off; they also need
    quantised vectors); neighbours: k; sample: number of query items."""

    groups: int = 10
    near: float = 0.0
    neighbours: int = 10
    sample: int = 20_000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Group:
    """Items that share a whole ID. code: levels × signals; size: their number; items: ids and titles of the first.

    duplicates, victims: their numbers (see `duplicates.py`); lacking: signal -> number of items without it; cosine:
    feature -> mean over the pairs, None without pairs.
    """

    code: list[list[int]]
    size: int
    items: list[dict[str, str]]
    duplicates: int
    victims: int
    lacking: dict[str, int]
    cosine: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What `bbqrec collisions --json` prints of a file, except `counts`, which the plots show.

    counts: (signal, level) -> (N,) number of items with each code; alike: feature -> mean cosine of two items that
    share the first 0, 1, …, L levels.
    """

    input: str
    method: str
    signals: tuple[str, ...]
    codebook_size: int
    items: int
    depths: list[Depth]
    codebooks: list[Codebook]
    causes: Causes
    duplicates: Duplicates
    groups: list[Group]
    near: Near | None
    near_items: list[list[dict[str, str]]]
    neighbours: list[NeighbourRecall]
    alike: dict[str, list[float | None]]
    counts: dict[tuple[str, int], np.ndarray]

    @property
    def distinct(self) -> int:
        """Number of distinct whole IDs."""
        return self.depths[-1].distinct

    @property
    def colliding_items(self) -> int:
        """Items that share their whole ID with another one (the paper's Table 5)."""
        return self.depths[-1].colliding_items

    def to_json(self) -> dict[str, Any]:
        """The analysis as plain values."""
        values = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("counts", "near_items")
        }
        near = values.pop("near")
        if near is not None:
            pairs = zip(near.closest, self.near_items, strict=True)
            closest = [{"distance": pair.distance, "items": items} for pair, items in pairs]
            near = dataclasses.asdict(near) | {"closest": closest}
        plain = {name: _plain(value) for name, value in values.items()}
        counts = {"distinct": self.distinct, "colliding_items": self.colliding_items, "levels": len(self.depths)}
        return plain | counts | {"near": near}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def analyse(ids: Ids, settings: Settings, progress: Progress = SILENT) -> Analysis:
    """The analysis; parts for which features or quantised vectors are missing are empty.

    Raises:
        MissingPackageError: near-collisions are asked for, and faiss is not installed.
    """
    codes, signals = ids.codes, ids.codes.modalities
    present = codes.present
    counts = codebooks(codes.codes, signals, codes.level_sizes, present)
    rows = sampled(len(codes.codes), settings)
    near = _near(ids, settings, rows, progress)
    kept: list[NeighbourRecall] = []
    if codes.item_vectors is not None and ids.features:
        kept = neighbour_recall(
            ids.features, codes.item_vectors, signals, k=settings.neighbours, rows=rows, progress=progress
        )
    judged, verdict = judge_duplicates(codes.codes, ids.titles, ids.features)
    return Analysis(
        input=ids.label, method=codes.method, signals=signals, codebook_size=codes.level_sizes[0],
        items=len(codes.codes), depths=depths(codes.codes, counts),
        codebooks=codebook_figures({key: counts[key] for key in counts if key[1] <= codes.quantised_levels}),
        causes=causes(codes.codes[:, : codes.quantised_levels], signals, present), duplicates=judged,
        groups=[_group(ids, each, verdict, present) for each in largest_groups(codes.codes, settings.groups)],
        near=near, near_items=[[ids.about(p.first), ids.about(p.second)] for p in near.closest] if near else [],
        neighbours=kept, counts=counts,
        alike={name: cosine_by_depth(codes.codes, feature) for name, feature in ids.features.items()},
    )  # fmt: skip


def sampled(items: int, settings: Settings) -> np.ndarray:
    """Sorted rows of the query items: all, or a random `sample` of them."""
    if items <= settings.sample:
        return np.arange(items)
    from bbqrec_cli.seeds import numpy_generator

    return np.sort(numpy_generator(settings.seed, "sample").choice(items, settings.sample, replace=False))


def _near(ids: Ids, settings: Settings, rows: np.ndarray, progress: Progress) -> Near | None:
    if not settings.near or ids.codes.item_vectors is None:
        return None
    return near_items(
        ids.codes.item_vectors, ids.codes.codes, ids.codes.modalities, near=settings.near, rows=rows,
        pairs=settings.groups, progress=progress,
    )  # fmt: skip


def _group(ids: Ids, rows: np.ndarray, verdict: np.ndarray, present: np.ndarray | None) -> Group:
    """rows (n,): the items that share an ID."""
    lacking = (
        {} if present is None else dict(zip(ids.codes.modalities, (~present[rows]).sum(axis=0).tolist(), strict=True))
    )
    return Group(
        code=ids.codes.codes[rows[0]].tolist(), size=len(rows), items=[ids.about(row) for row in rows[:SHOWN]],
        duplicates=int((verdict[rows] == DUPLICATE).sum()), victims=int((verdict[rows] == VICTIM).sum()),
        lacking={name: count for name, count in lacking.items() if count},
        cosine={name: _mean_cosine(feature, rows) for name, feature in ids.features.items()},
    )  # fmt: skip


def _mean_cosine(feature: Feature, rows: np.ndarray) -> float | None:
    """Of all pairs of the group."""
    group = Feature(values=feature.values[rows], present=feature.present[rows])
    return cosine_by_depth(np.zeros((len(rows), 0, 1), dtype=np.uint16), group)[0]
