"""What the stages hand each other, in memory. `hdf5/` maps each record to a file kind and back.

U users, I items, E interactions, L levels, M signals, N codes a codebook, D width of a code, d width of a feature.
Rows of items start at 0; there is no padding in any record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

LIST_SEPARATOR = "|"
"""Between the values of a list attribute (genres, categories), as MovieLens writes them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Sequences:
    """Every user's items, oldest first, in compressed rows.

    indptr (U+1,) int64; items (E,) int32, rows of items; timestamps (E,) int64 seconds or None.
    """

    indptr: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, user: int) -> np.ndarray:
        return self.items[self.indptr[user] : self.indptr[user + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[user] for user in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        """Items of each user, (U,)."""
        return np.diff(self.indptr)

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[int]], timestamps: Sequence[Sequence[int]] | None = None) -> Sequences:
        """From one list of item rows a user."""
        indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
        flat = np.fromiter((i for row in rows for i in row), np.int32, indptr[-1])
        times = (
            None if timestamps is None else np.fromiter((t for row in timestamps for t in row), np.int64, indptr[-1])
        )
        return cls(indptr=indptr, items=flat, timestamps=times)

    def without_last(self, count: int) -> Sequences:
        """Every user's sequence less the last `count` items (users that are shorter end up empty)."""
        lengths = np.maximum(self.lengths - count, 0)
        keep = np.arange(len(self.items)) - np.repeat(self.indptr[:-1], self.lengths) < np.repeat(lengths, self.lengths)
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        times = None if self.timestamps is None else self.timestamps[keep]
        return Sequences(indptr=indptr, items=self.items[keep], timestamps=times)


@dataclass(frozen=True, eq=False, kw_only=True)
class Catalogue:
    """Users, items and who took what: the part that travels from `prepare` to the model file.

    attributes: name -> one string an item ('' = missing; the values of a list are joined by LIST_SEPARATOR).
    """

    user_ids: list[str]
    item_ids: list[str]
    titles: list[str]
    sequences: Sequences
    attributes: dict[str, list[str]] = field(default_factory=dict)

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
    """What `prepare` makes. texts: '' = missing; images: encoded pictures (JPEG, PNG, …), b'' = missing."""

    catalogue: Catalogue
    texts: list[str]
    images: list[bytes]
    features: dict[str, Feature] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Features:
    """What `embed` makes: the catalogue and a feature matrix a modality ('text', 'image')."""

    catalogue: Catalogue
    features: dict[str, Feature]


@dataclass(frozen=True, eq=False, kw_only=True)
class Codes:
    """Semantic IDs.

    codes (I, L, M) uint16; modalities: M names; codebook_size N;
    codebooks (1 or M, L, N, D) float32 or None; item_vectors (I, M·D) float32, the quantised v_i of eq. 10, or None;
    present (I, M) bool: which items have which signal, None: all have all (or the file is too old to say).
    """

    codes: np.ndarray
    modalities: tuple[str, ...]
    method: str
    codebook_size: int
    codebooks: np.ndarray | None = None
    item_vectors: np.ndarray | None = None
    present: np.ndarray | None = None

    @property
    def levels(self) -> int:
        return self.codes.shape[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class ItemEncoder:
    """What a tokenizer has learnt to give items codes by, for items that come later.

    weights: parameter -> array; inputs: feature -> {'encoder', 'normalized', 'width'}, what it reads of an item.
    """

    weights: dict[str, np.ndarray]
    inputs: dict[str, dict[str, Any]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokens:
    """What `tokenize` makes: the catalogue and the semantic IDs of its items; history: one row of figures an epoch;
    encoder: None where the codes did not come of features."""

    catalogue: Catalogue
    codes: Codes
    history: list[dict[str, Any]] = field(default_factory=list)
    encoder: ItemEncoder | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedModel:
    """What `train` makes: enough to rebuild the model and to recommend with titles.

    weights: parameter -> array; settings: the model's own configuration; history: one row of figures an epoch.
    codes is None for models that need none.
    """

    catalogue: Catalogue
    name: str
    settings: dict[str, Any]
    weights: dict[str, np.ndarray]
    codes: Codes | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, eq=False, kw_only=True)
class Metrics:
    """What `evaluate` makes.

    users: the evaluated users' ids; ranks (U,) int64, rank of the target from 1, 0 = below the depth that was ranked;
    recall, ndcg: k -> (U,) float32; aggregates: 'recall@10' -> mean; confidence: 'recall@10' -> (low, high);
    cold (U,) bool: whose target has no training interaction, None in files that are too old to say.
    """

    user_ids: list[str]
    ranks: np.ndarray
    recall: dict[int, np.ndarray]
    ndcg: dict[int, np.ndarray]
    aggregates: dict[str, float]
    confidence: dict[str, tuple[float, float]]
    model: str
    split: str
    cold: np.ndarray | None = None
