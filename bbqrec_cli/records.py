"""The records that stages exchange. `hdf5/` maps each record to a file kind and back.

U users, I items, E interactions, L levels, M signals, N codes per codebook, D width of a code, d width of a feature.
Rows of items start at 0; there is no padding in any record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import numpy as np

from bbqrec_cli.frames import Framed

LIST_SEPARATOR = "|"
"""Separates the values of a list attribute (genres, categories), as in MovieLens."""


PARTS = ("train", "validation", "test")
"""The parts of a split, by their number in `Sequences.parts`."""


class Vocabulary(Sequence[str]):
    """Ids in the order of their rows, with lookup in both directions. Equal to any sequence of the same ids.

    Args:
        ids: all distinct; reading a file checks that.
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = list(ids)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        return self._ids[row]

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Vocabulary):
            return self._ids == other._ids
        return isinstance(other, (list, tuple)) and self._ids == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocabulary({self._ids!r})"

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._ids)}

    def row(self, name: str) -> int:
        """The row of an id. Raises: KeyError: an unknown id."""
        return self._rows[name]

    def rows(self, names: Iterable[str]) -> np.ndarray:
        """The row of each id, (n,) int64; -1 for unknown ids."""
        return np.fromiter((self._rows.get(name, -1) for name in names), np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Sequences:
    """The items that each user interacted with, oldest first, in compressed rows.

    indptr (U+1,) int64; items (E,) int32, rows of items; timestamps (E,) int64 seconds or None; parts (E,) uint8: the
    part of `PARTS` that each interaction belongs to, never falling within a user, or None: the last item of a user is
    test, the one before validation (`data/splits.py`).
    """

    indptr: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray | None = None
    parts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, user: int) -> np.ndarray:
        return self.items[self.indptr[user] : self.indptr[user + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[user] for user in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        """Number of interactions of each user, (U,)."""
        return np.diff(self.indptr)

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]], timestamps: Sequence[Sequence[int]] | None = None) -> Sequences:
        """From one list of item rows per user."""
        indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
        flat = np.fromiter((i for row in rows for i in row), np.int32, indptr[-1])
        times = (
            None if timestamps is None else np.fromiter((t for row in timestamps for t in row), np.int64, indptr[-1])
        )
        return cls(indptr=indptr, items=flat, timestamps=times)

    def without_last(self, count: int) -> Sequences:
        """The sequences without the last `count` items of each user; shorter ones become empty."""
        lengths = np.maximum(self.lengths - count, 0)
        return self.kept(self.positions < np.repeat(lengths, self.lengths))

    @property
    def users(self) -> np.ndarray:
        """The user's row of each interaction, (E,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def positions(self) -> np.ndarray:
        """The place of each interaction in its user's sequence, from 0, (E,)."""
        return np.arange(len(self.items)) - np.repeat(self.indptr[:-1], self.lengths)

    def kept(self, keep: np.ndarray) -> Sequences:
        """The interactions where keep (E,) is True, of the same users; without their parts."""
        indptr = np.concatenate([[0], np.cumsum(keep)])[self.indptr].astype(np.int64)
        times = None if self.timestamps is None else self.timestamps[keep]
        return Sequences(indptr=indptr, items=self.items[keep], timestamps=times)


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """By which rule interactions are divided into training, validation and test.

    kind: `last` (the last two items of a user), `time` (by time, the same for all users) or `given` (by the data);
    quantiles, cuts: of `time`, shares of the interactions, and the seconds at which validation and test begin.
    """

    kind: str = "last"
    quantiles: tuple[float, ...] = ()
    cuts: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.kind != "time":
            return {"last": "leave-last-out", "given": "given by the data"}[self.kind]
        days = [str(np.datetime64(cut, "s")).replace("T", " ") for cut in self.cuts]
        return f"by time, validation from {days[0]}, test from {days[1]} UTC"

    @property
    def note(self) -> str:
        """The same where it must be said: '' for leave-last-out."""
        return "" if self == LAST else str(self)


LAST = Splitting()
"""The protocol's split, and that of files which name none."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Catalogue:
    """Users, items and interactions: copied from `prepare` through all files to the model file.

    attributes: name -> one string per item ('' = missing; the values of a list are joined by LIST_SEPARATOR);
    splitting: how the sequences are divided (unless by `last`, they have `parts`).
    user_ids and item_ids may be given as lists.
    """

    user_ids: Vocabulary
    item_ids: Vocabulary
    titles: list[str]
    sequences: Sequences
    attributes: dict[str, list[str]] = field(default_factory=dict)
    splitting: Splitting = LAST

    def __post_init__(self) -> None:
        for name in ("user_ids", "item_ids"):
            ids = getattr(self, name)
            object.__setattr__(self, name, ids if isinstance(ids, Vocabulary) else Vocabulary(ids))

    @property
    def users(self) -> int:
        return len(self.user_ids)

    @property
    def items(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True, eq=False, kw_only=True)
class Feature:
    """One modality of every item: values (I, d) float32, present (I,) bool. Absent rows hold zeros and are masked."""

    values: np.ndarray
    present: np.ndarray
    encoder: str = ""
    normalized: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """The result of `prepare`. texts: '' = missing; images: encoded pictures (JPEG, PNG, …), b'' = missing.

    When read from a file, each column is read on first use.
    """

    catalogue: Catalogue
    texts: Sequence[str]
    images: Sequence[bytes]
    features: Mapping[str, Feature] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Features:
    """The result of `embed`: the catalogue and a feature per modality ('text', 'image'), read on first use."""

    catalogue: Catalogue
    features: Mapping[str, Feature]


@dataclass(frozen=True, eq=False, kw_only=True)
class Codes:
    """Semantic IDs.

    codes (I, L, M) uint16; modalities: M names; codebook_size N, of the largest level;
    codebooks (1 or M, L, N, D) float32 or None; item_vectors (I, M·D) float32, the quantised v_i of eq. 10, or None;
    present (I, M) bool: which items have which signal; None: all have all, or an old file does not say;
    suffix: the last level tells items of equal IDs apart. Codebooks, which that level has not, say so as well.
    """

    codes: np.ndarray
    modalities: tuple[str, ...]
    method: str
    codebook_size: int
    codebooks: np.ndarray | None = None
    item_vectors: np.ndarray | None = None
    present: np.ndarray | None = None
    suffix: bool = False

    @property
    def levels(self) -> int:
        return self.codes.shape[1]

    @property
    def quantised_levels(self) -> int:
        """Levels without one that tells items of equal IDs apart."""
        return self.levels - self.suffix if self.codebooks is None else self.codebooks.shape[1]

    @property
    def level_sizes(self) -> list[int]:
        """Codes of each level. All codes of one that tells items of equal IDs apart occur: it counts from 0."""
        quantised = self.quantised_levels
        counted = [int(level.max(initial=0)) + 1 for level in self.codes[:, quantised:].swapaxes(0, 1)]
        if self.codebooks is not None:
            size = self.codebooks.shape[2]
        elif self.codebook_size in counted:  # it is the size of the largest level
            size = int(self.codes[:, :quantised].max(initial=0)) + 1
        else:
            size = self.codebook_size
        return [size] * quantised + counted


@dataclass(frozen=True, eq=False, kw_only=True)
class ItemData:
    """What a model is built from: the ids of I items, and the codes and features that it `needs`.

    codes: None if there are none; features: modality -> (I, d), read on first use.
    """

    ids: Vocabulary
    codes: Codes | None = None
    features: Mapping[str, Feature] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False, kw_only=True)
class ItemEncoder:
    """The learnt encoder of a tokenizer, with which new items get codes.

    weights: parameter -> array; inputs: feature -> {'encoder', 'normalized', 'width'}, the features that it reads.
    """

    weights: dict[str, np.ndarray]
    inputs: dict[str, dict[str, Any]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokens:
    """The result of `tokenize`: the catalogue and the semantic IDs of its items. history: one row of figures per epoch;
    encoder: None if the tokenizer cannot encode new items."""

    catalogue: Catalogue
    codes: Codes
    history: list[dict[str, Any]] = field(default_factory=list)
    encoder: ItemEncoder | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedModel:
    """The result of `train`: what is needed to rebuild the model and to recommend with titles.

    weights: parameter -> array; settings: the model's own configuration; history: one row of figures per epoch.
    codes and features are those that the model needs; plugin: the distribution that the model comes from, '' for
    bbqrec's own. earlier: of the models that it goes on from (`train --from`), the first one first: 'history', and
    'validation', the figures before the epochs that followed; earlier_interactions (n,): `training_digests` of all that
    these were trained on.
    """

    catalogue: Catalogue
    name: str
    settings: dict[str, Any]
    weights: dict[str, np.ndarray]
    codes: Codes | None = None
    features: Mapping[str, Feature] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    plugin: str = ""
    earlier: list[dict[str, Any]] = field(default_factory=list)
    earlier_interactions: np.ndarray | None = None

    @property
    def data(self) -> ItemData:
        """What the model is built from."""
        return ItemData(ids=self.catalogue.item_ids, codes=self.codes, features=self.features)


@dataclass(frozen=True, eq=False, kw_only=True)
class Metrics(Framed):
    """The result of `evaluate`, in a frame one row per user.

    user_ids: the users of U targets; ranks (U,) int64, rank of the target from 1, 0 = below the ranked depth; recall,
    ndcg: k -> (U,) float32; aggregates: 'recall@10' -> mean; confidence: 'recall@10' -> (low, high); exclude_seen:
    whether the items of a user's history were left out of the ranking; lists: 'coverage@10', 'popularity@10', figures
    of what is recommended; cold (U,) bool: users whose target has no training interaction; history_length (U,) int64,
    of the whole history; target_interactions (U,) int64, the training interactions of the target; targets (U,): their
    item ids; splitting: that of the interactions; items: how many were ranked. A user with several targets has a row
    for each. What old files do not have is empty, None or 0.
    """

    user_ids: list[str]
    ranks: np.ndarray
    recall: dict[int, np.ndarray]
    ndcg: dict[int, np.ndarray]
    aggregates: dict[str, float]
    confidence: dict[str, tuple[float, float]]
    model: str
    split: str
    exclude_seen: bool = False
    lists: Mapping[str, float] = field(default_factory=dict)
    cold: np.ndarray | None = None
    history_length: np.ndarray | None = None
    target_interactions: np.ndarray | None = None
    targets: list[str] | None = None
    splitting: Splitting = LAST
    items: int = 0

    def columns(self) -> dict[str, list[Any]]:
        """user, target (old files have none), rank (None below the ranked depth), recall@k and ndcg@k, and of a user
        what the file has besides."""
        found: dict[str, list[Any]] = {"user": list(self.user_ids)}
        found |= {"target": list(self.targets)} if self.targets is not None else {}
        found["rank"] = [rank or None for rank in self.ranks.tolist()]
        for name, values in (("recall", self.recall), ("ndcg", self.ndcg)):
            found |= {f"{name}@{k}": values[k].tolist() for k in sorted(values)}
        more = {name: getattr(self, name) for name in ("cold", "history_length", "target_interactions")}
        return found | {name: values.tolist() for name, values in more.items() if values is not None}
