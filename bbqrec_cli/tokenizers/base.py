"""What every tokenizer gets and gives, and the figures that tell whether its codebooks are in use.

I items, d width of a feature, L levels, M signals, N codes, D width of a code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from bbqrec_cli.collisions.usage import perplexity
from bbqrec_cli.data.splits import HeldOut
from bbqrec_cli.errors import CollapseError
from bbqrec_cli.grouping import count_colliding_items
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import Codes, Feature, ItemEncoder, Sequences
from bbqrec_cli.training.trainer import RunSettings


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenizerInput:
    """features: modality -> (I, d); train: the training part of the sequences and nothing else.

    validation serves the figures that are reported; no gradient, k-means or choice of a checkpoint sees it.

    sample (I,): where the tokenizer is fitted on some items of a catalogue, their rows in it, in rising order. Then the
    features are theirs alone, while item_ids, train and validation speak of the whole catalogue.
    """

    item_ids: Sequence[str]
    features: Mapping[str, Feature]
    train: Sequences
    validation: HeldOut | None = None
    sample: np.ndarray | None = None
    known_present: Mapping[str, np.ndarray] | None = None
    """Feature -> (I,) bool, where that is known without reading the features themselves."""

    @property
    def items(self) -> int:
        """Those that it is fitted on."""
        return len(self.item_ids if self.sample is None else self.sample)

    @property
    def present(self) -> Mapping[str, np.ndarray]:
        """Feature -> (I,) bool."""
        return self.known_present or {name: feature.present for name, feature in self.features.items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokenized:
    """codes; one row of figures per epoch; present (I, M) bool: which items have which signal (None: all have all);
    latents (I, M, D): what was quantised, None where the codes did not come of vectors; encoder: what `restore` needs,
    None where items that come later can have no codes."""

    codes: Codes
    history: list[dict[str, Any]]
    present: np.ndarray | None = None
    latents: np.ndarray | None = None
    encoder: ItemEncoder | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Encoded:
    """Codes of n items: codes (n, L, M) uint16; latents (n, M, D), what was quantised; vectors (n, M·D), its
    quantisation; present (n, M) bool."""

    codes: np.ndarray
    latents: np.ndarray
    vectors: np.ndarray
    present: np.ndarray


Encode = Callable[[Mapping[str, Feature]], Encoded]
"""From a block of items' features to their codes."""


class Tokenizer(Protocol):
    """A tokenizer is made from its configuration (`options/`) and fitted once.

    needs_features: whether it reads features; where it does not, any file with items will do.
    """

    needs_features: bool

    def fit(self, inputs: TokenizerInput, run: RunSettings) -> Tokenized:
        """Learn codebooks and give every item its codes.

        Raises:
            DataError: the features that the configuration asks for are not there.
        """


@runtime_checkable
class ContentTokenizer(Protocol):
    """A tokenizer whose codes come of an item's features alone, so that it can give them to items that come later."""

    def restore(self, codes: Codes, encoder: ItemEncoder, device: torch.device) -> Encode:
        """What gives items their codes, from what `fit` left in a tokens file.

        On the items of `fit` it gives the codes of `fit`, to the last bit, before any collision is resolved. A signal
        that is learnt per item (BBQRec's id) is absent.
        """


@runtime_checkable
class SampleTokenizer(ContentTokenizer, Protocol):
    """A `ContentTokenizer` that needs no sequences: it is fitted on a sample of the items (`TokenizerInput.sample`) and
    gives all of them codes by `restore`."""

    def reads(self, present: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        """The features that its codes come of. present: feature -> (I,) bool, of the whole catalogue.

        Raises:
            DataError: the features that the configuration asks for are not there.
            UsageError: a configuration with which a sample does not do.
        """


def standardized(feature: Feature, *, block: int = 4096) -> np.ndarray:
    """(I, d) float32: mean 0, variance 1 per column over the items that have the feature; zeros where it is absent."""
    return standardize(feature, *mean_and_scale(feature, block=block), block=block)


def mean_and_scale(feature: Feature, *, block: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale (d,) float64 of the columns, over the items that have the feature."""
    values, rows = feature.values, np.flatnonzero(feature.present)
    # In blocks, since a float64 copy of 4,096 features of many items would be gigabytes.
    parts = [rows[start : start + block] for start in range(0, len(rows), block)]
    mean = np.sum([values[part].sum(0, dtype=np.float64) for part in parts], axis=0) / len(rows)
    deviation = np.sqrt(np.sum([np.square(values[part] - mean).sum(0) for part in parts], axis=0) / len(rows))
    # A column that never varies says nothing, and must not be blown up to noise.
    return mean, np.where(deviation > 1e-6 * max(deviation.max(), 1e-12), deviation, np.inf)


def standardize(feature: Feature, mean: np.ndarray, scale: np.ndarray, *, block: int = 4096) -> np.ndarray:
    """(n, d) float32: (values - mean) / scale, zeros where the feature is absent. mean, scale (d,)."""
    made, rows = np.zeros(feature.values.shape, dtype=np.float32), np.flatnonzero(feature.present)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        made[part] = (feature.values[part] - mean) / scale
    return made


def usable(present: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The features that some item has. present: feature -> (I,) bool."""
    return tuple(name for name, having in present.items() if having.any())


def code_figures(codes: np.ndarray, modalities: tuple[str, ...], present: np.ndarray | None = None) -> dict[str, float]:
    """Usage and perplexity per signal and level, over the items that have the signal; the items that share a whole ID.

    codes (I, L, M), present (I, M) bool -> {'usage/text/1', 'perplexity/text/1', …, 'colliding_items'}.
    """
    figures: dict[str, float] = {}
    for signal, name in enumerate(modalities):
        here = codes[:, :, signal] if present is None else codes[present[:, signal], :, signal]
        for level in range(codes.shape[1]):
            figures[f"usage/{name}/{level + 1}"] = len(np.unique(here[:, level]))
            figures[f"perplexity/{name}/{level + 1}"] = round(perplexity(here[:, level]), 2)
    return figures | {"colliding_items": count_colliding_items(codes)}


COLLAPSE_SHARE = 0.1
COLLAPSE_HINT = "more --warmup-epochs, a smaller --codebook-size or other --signals"


def collapsed(figures: Mapping[str, Any], codebook_size: int, items: Mapping[str, int]) -> dict[str, str]:
    """The codebooks whose perplexity fell below a tenth of what it could be: 'text/1' -> a sentence.

    Args:
        figures: as from `code_figures`; others are passed over.
        items: signal -> the items that have it.
    """
    found = {}
    for key, value in figures.items():
        kind, _, book = key.partition("/")
        name, _, level = book.rpartition("/")
        if kind == "perplexity" and value < COLLAPSE_SHARE * min(codebook_size, items[name]):
            used = f"{figures[f'usage/{book}']} of {codebook_size} codes in use, perplexity {value:.1f}"
            found[book] = f"signal {name}, level {level}: {used}"
    return found


def check_collapse(made: Tokenized, figures: Mapping[str, Any], *, fail: bool, progress: Progress) -> None:
    """Warn of codebooks that ended collapsed; an index that somebody else made is not judged. figures: `code_figures`.

    Raises:
        CollapseError: there are some, and `fail` says that this is an error.
    """
    if not made.history:
        return
    codes = made.codes
    having = [len(codes.codes)] * len(codes.modalities) if made.present is None else made.present.sum(0).tolist()
    trouble = list(collapsed(figures, codes.codebook_size, dict(zip(codes.modalities, having, strict=True))).values())
    what = f"{len(trouble)} of {len(codes.modalities) * codes.levels} codebooks ended collapsed: {'; '.join(trouble)}"
    if trouble and fail:
        again = "--resume without --fail-on-collapse writes the file all the same"
        raise CollapseError(what, f"{COLLAPSE_HINT}; {again}")
    if trouble:
        progress.warn(f"{what}. Items are hard to tell apart by such codes. Try {COLLAPSE_HINT}.")
