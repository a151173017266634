"""Input and output of every tokenizer, and the figures that show whether its codebooks are in use.

I items, d width of a feature, L levels, M signals, N codes, D width of a code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from bbqrec_cli.collisions.usage import having, perplexity
from bbqrec_cli.data.splits import HeldOut
from bbqrec_cli.errors import CollapseError, DataError
from bbqrec_cli.grouping import count_colliding_items
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import Codes, Feature, ItemEncoder, Sequences
from bbqrec_cli.training.trainer import RunSettings


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenizerInput:
    """features: modality -> (I, d); train: only the training part of the sequences.

    validation is for the reported figures; no gradient, k-means or choice of a checkpoint sees it.

    sample (I,): if the tokenizer is fitted on a sample of a catalogue, the sorted rows of its items. The features are
    then those of the sample, while item_ids, train and validation are those of the whole catalogue.
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
        """I, the items that the tokenizer is fitted on."""
        return len(self.item_ids if self.sample is None else self.sample)

    @property
    def present(self) -> Mapping[str, np.ndarray]:
        """Feature -> (I,) bool."""
        return self.known_present or {name: feature.present for name, feature in self.features.items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class Tokenized:
    """codes; history: one row of figures per epoch; latents (I, M, D): the vectors before quantisation, None if there
    are none; encoder: what `restore` needs, None if the tokenizer cannot encode new items."""

    codes: Codes
    history: list[dict[str, Any]]
    latents: np.ndarray | None = None
    encoder: ItemEncoder | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Encoded:
    """Codes of n items: codes (n, L, M) uint16; latents (n, M, D), the vectors before quantisation; vectors (n, M·D),
    the quantised ones; present (n, M) bool."""

    codes: np.ndarray
    latents: np.ndarray
    vectors: np.ndarray
    present: np.ndarray


Encode = Callable[[Mapping[str, Feature]], Encoded]
"""From the features of a block of items to their codes."""


class Tokenizer(Protocol):
    """A tokenizer, made from its configuration (`options/`) and fitted once.

    needs_features: whether it reads features; if not, any file with items will do.
    """

    needs_features: bool

    def fit(self, inputs: TokenizerInput, run: RunSettings) -> Tokenized:
        """Learn codebooks and the codes of every item.

        Raises:
            DataError: features that the configuration names are missing.
        """


@runtime_checkable
class ContentTokenizer(Protocol):
    """A tokenizer that computes codes from an item's features alone, so that it can encode new items."""

    def restore(self, codes: Codes, encoder: ItemEncoder, device: torch.device) -> Encode:
        """The encoding function, restored from what `fit` stored in a tokens file.

        On the items of `fit` it gives the same codes, to the last bit, before collisions are resolved. The exception is
        rqkmeans with balanced codebooks: `fit` gives every code as many items, and this the nearest codes. A signal
        that is learnt per item (BBQRec's id) is absent.
        """


@runtime_checkable
class SampleTokenizer(ContentTokenizer, Protocol):
    """A `ContentTokenizer` that needs no sequences: it is fitted on a sample of the items (`TokenizerInput.sample`) and
    gives all of them codes by `restore`."""

    def reads(self, present: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        """The features that it encodes. present: feature -> (I,) bool, of the whole catalogue.

        Raises:
            DataError: features that the configuration names are missing.
            UsageError: a configuration that cannot be fitted on a sample.
        """


def code_figures(codes: np.ndarray, modalities: tuple[str, ...], present: np.ndarray | None = None) -> dict[str, float]:
    """Usage and perplexity per signal and level, over the items that have the signal, and the colliding items.

    codes (I, L, M), present (I, M) bool -> {'usage/text/1', 'perplexity/text/1', …, 'colliding_items'}.
    """
    figures: dict[str, float] = {}
    for signal, name in enumerate(modalities):
        here = having(codes, present, signal)[:, :, signal]
        for level in range(codes.shape[1]):
            figures[f"usage/{name}/{level + 1}"] = len(np.unique(here[:, level]))
            figures[f"perplexity/{name}/{level + 1}"] = round(perplexity(here[:, level]), 2)
    return figures | {"colliding_items": count_colliding_items(codes)}


def figures_of_codebooks(codes: Codes) -> dict[str, float]:
    """`code_figures` of the levels that have codebooks: none that only tells items of equal IDs apart."""
    return code_figures(codes.codes[:, : codes.quantised_levels], codes.modalities, codes.present)


COLLAPSE_SHARE = 0.1
COLLAPSE_HINT = "more --warmup-epochs, a smaller --codebook-size or other --signals"


def collapsed(figures: Mapping[str, Any], codebook_size: int, items: Mapping[str, int]) -> dict[str, str]:
    """The codebooks whose perplexity is below a tenth of its maximum, or that give all items one code: 'text/1' -> a
    sentence.

    Args:
        figures: of `code_figures`; others are ignored.
        codebook_size: N.
        items: signal -> number of items that have it.
    """
    found = {}
    for key, value in figures.items():
        kind, _, book = key.partition("/")
        name, _, level = book.rpartition("/")
        if kind != "perplexity":
            continue
        most, codes = min(codebook_size, items[name]), figures[f"usage/{book}"]
        if value < COLLAPSE_SHARE * most or (codes == 1 and most > 1):
            used = f"{codes} of {codebook_size} codes in use, perplexity {value:.1f}"
            found[book] = f"signal {name}, level {level}: {used}"
    return found


def check_codes(codes: Codes, items: int) -> None:
    """Raises: DataError: what a tokenizer gave are no codes of all items."""
    made, signals = codes.codes, len(codes.modalities)
    what = f"the tokenizer {codes.method} gave"
    if made.ndim != 3 or made.shape[0] != items or made.shape[2] != signals or not made.shape[1]:
        raise DataError(f"{what} codes {made.shape}; ({items}, levels, {signals}) are needed: items, levels, signals")
    if made.dtype.kind not in "iu" or (items and not 0 <= made.min() <= made.max() < codes.codebook_size):
        held = f"{made.min()} to {made.max()} of {made.dtype}" if items else str(made.dtype)
        raise DataError(f"{what} codes from {held}; whole numbers from 0 to {codes.codebook_size - 1} are needed")


def check_collapse(made: Tokenized, figures: Mapping[str, Any], *, fail: bool, progress: Progress) -> None:
    """Warn of collapsed codebooks; IDs without codebooks (published, random) are not checked. figures: of
    `code_figures`.

    Raises:
        CollapseError: a codebook collapsed and `fail` is set.
    """
    codes = made.codes
    if not made.history and codes.codebooks is None:
        return
    having = [len(codes.codes)] * len(codes.modalities) if codes.present is None else codes.present.sum(0).tolist()
    trouble = list(collapsed(figures, codes.codebook_size, dict(zip(codes.modalities, having, strict=True))).values())
    what = f"{len(trouble)} of {len(codes.modalities) * codes.levels} codebooks have collapsed: {'; '.join(trouble)}"
    # Without a history nothing was trained by epochs.
    hint = COLLAPSE_HINT if made.history else COLLAPSE_HINT.removeprefix("more --warmup-epochs, ")
    if trouble and fail:
        again = f"{'--resume' if made.history else 'the command'} without --fail-on-collapse writes the file anyway"
        raise CollapseError(what, f"{hint}; {again}")
    if trouble:
        progress.warn(f"{what}. Such codes hardly tell items apart. Try {hint}.")
