"""The features of one `embed`: encoded, taken from an earlier file, whitened and scaled, with what is kept of how.

I items, d width of a feature.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbqrec_cli.encoders.base import KINDS, UNREADABLE, Encoder
from bbqrec_cli.encoders.resumable import Checkpoint, encode_inputs
from bbqrec_cli.encoders.reuse import Earlier, content_of
from bbqrec_cli.encoders.sources import Encoding, Ready, inputs_of
from bbqrec_cli.encoders.whitening import Whitening, fit_whitening
from bbqrec_cli.encoders.workers import sensible_workers
from bbqrec_cli.errors import DataError
from bbqrec_cli.hdf5 import check_finite
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import Dataset, Feature

NAMED = 10
"""Items that warnings name, at most."""


@dataclass(frozen=True, kw_only=True)
class Making:
    """How features are made: the options of `bbqrec embed`. workers: processes that read pictures."""

    normalize: bool
    whiten: int
    max_length: int
    long_texts: str
    batch_size: int
    workers: int | None
    threads: int


@dataclass(frozen=True, eq=False)
class Made:
    """A finished feature, what the file keeps of how it was made (`hdf5.read_encoding`), and its figures."""

    feature: Feature
    kept: dict[str, np.ndarray]
    figures: dict[str, Any]


def about_encoder(how: Making, source: Encoding, encoder: Encoder, precision: str) -> dict[str, Any]:
    """How a feature is encoded, as the file records it and --reuse compares it."""
    about = {"name": encoder.name, "weights": encoder.weights, "normalize": how.normalize, "whiten": how.whiten}
    about |= {"precision": precision} if encoder.weights else {}
    about |= {"max_length": how.max_length, "long_texts": how.long_texts} if source.kind == "text" else {}
    about |= {"setup": encoder.setup} if encoder.setup else {}
    return about | {"input": source.reads}


def about_ready(how: Making, source: Ready, feature: Feature) -> dict[str, Any]:
    """The same of a feature that is not encoded."""
    about = {"name": feature.encoder, "normalize": how.normalize, "whiten": how.whiten}
    return about | ({"file": source.file.name} if source.file else {})


@dataclass(frozen=True, eq=False)
class Maker:
    """Makes the features of a run, one after the other."""

    how: Making
    dataset: Dataset
    earlier: Earlier
    checkpoint: Checkpoint

    def encoded(self, name: str, source: Encoding, encoder: Encoder, about: dict[str, Any]) -> Made:
        """The feature of one modality: what an earlier file has of it, and the rest encoded."""
        how, inputs, progress = self.how, inputs_of(self.dataset, source), self.checkpoint.progress
        content = content_of(inputs)
        there, old = self.earlier.rows(name, about, content)
        figures: dict[str, Any] = {"reused": int(there.sum()), "long_texts": encoder.long(inputs), "kinds": {}}
        say_long(name, encoder, figures["long_texts"], how.long_texts, progress)
        if there.any():
            progress.log(f"{name}: {figures['reused']:,} features are taken from {self.earlier.path}")
        left = [type(each)() if have else each for each, have in zip(inputs, there, strict=True)]
        new = sum(map(bool, left))
        if new:
            workers = sensible_workers(new, how.threads) if how.workers is None else how.workers
            made = encode_inputs(
                encoder, left, modality=name, batch_size=how.batch_size, checkpoint=self.checkpoint,
                workers=workers if source.kind == "image" else 0,
            )  # fmt: skip
            readable = self._kinds(name, made.kinds, figures["kinds"])
            values, present = made.values, np.array([bool(each) for each in left]) & readable
        else:
            values, present = np.zeros((len(left), 0), dtype=np.float32), np.zeros(len(left), dtype=bool)
        feature = Feature(values=values, present=present, encoder=encoder.name)
        return self.finish(name, feature, about, figures, content=content, old=(there, old) if there.any() else None)

    def _kinds(self, name: str, kinds: np.ndarray, counts: dict[str, int]) -> np.ndarray:
        """Counts what is remarkable about inputs, warns of those that cannot be read; (I,) bool: those that can."""
        for number, kind in enumerate(KINDS):
            rows = np.flatnonzero(kinds == number)
            if kind and len(rows):
                counts[kind] = len(rows)
            if number >= UNREADABLE:
                self._warn_items(rows, f"its {name} cannot be read ({kind}) and counts as missing")
        return kinds < UNREADABLE

    def finish(
        self,
        name: str,
        feature: Feature,
        about: dict[str, Any],
        figures: dict[str, Any],
        *,
        content: np.ndarray | None = None,
        old: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Made:
        """A feature checked, whitened and scaled as the options say, and beside it the rows of an earlier file.

        content (I, 2): digests of the inputs; old: which items have a finished feature (I,) bool, and those (n, d).

        Raises:
            DataError: NaN or infinity, with the item; no item is left; too few directions to whiten.
        """
        feature = self._checked(name, feature)
        if not feature.present.any() and old is None:
            raise DataError(f"no item has any {name} that can be read", "bbqrec embed --modalities with the others")
        kept, new = {} if content is None else {"content": content}, feature.values[feature.present]
        earlier = self.earlier.whitening(name, about, say=content is None) if self.how.whiten else None
        if self.how.whiten:
            whitening = self._whitening(name, new, earlier)
            new = whitening(new) if len(new) else new
            feature = dataclasses.replace(feature, encoder=f"{feature.encoder} {whitening.name}")
            kept |= {"mean": whitening.mean, "matrix": whitening.matrix}
        if self.how.normalize:
            new = new / np.abs(new).max(axis=1, keepdims=True, initial=np.finfo(np.float32).tiny)  # squares may vanish
            new = new / np.maximum(np.linalg.norm(new, axis=1, keepdims=True), np.finfo(np.float32).tiny)
            feature = dataclasses.replace(feature, encoder=f"{feature.encoder} normalized")
        if old is not None and len(new) and new.shape[1] != old[1].shape[1]:
            widths = f"{old[1].shape[1]} numbers, and these have {new.shape[1]}"
            raise DataError(f"{self.earlier.path}: its {name} features have {widths}", "leave out --reuse")
        present = feature.present
        values = np.zeros((len(present), new.shape[1] if old is None else old[1].shape[1]), dtype=np.float32)
        values[present] = new if len(new) else values[present]
        if old is not None:
            values[old[0]], present = old[1], present | old[0]
        norm = np.linalg.norm(values[present], axis=1)
        feature = dataclasses.replace(
            feature, values=values, present=present, normalized=bool(np.allclose(norm, 1, atol=1e-3))
        )
        if content is None and earlier:
            both, other = self.earlier.differing(name, self.dataset.catalogue.item_ids, feature)
            if 2 * other > both:
                what = f"{name}: {other:,} of {both:,} items have other vectors there, so that its map is not for these"
                raise DataError(f"{self.earlier.path}: {what}", "leave out --reuse")
        return Made(feature, kept, feature_figures(feature) | figures)

    def _checked(self, name: str, feature: Feature) -> Feature:
        """Without NaN and infinity; present rows are not zero. Raises: DataError: with the item."""
        check_finite(feature.values, self.dataset.catalogue.item_ids, f"the {name} features of {feature.encoder}")
        empty = feature.present & ~feature.values.any(axis=1)
        self._warn_items(np.flatnonzero(empty), f"its {name} feature is all zeros and counts as missing")
        return dataclasses.replace(feature, present=feature.present & ~empty)

    def _whitening(self, name: str, values: np.ndarray, earlier: Whitening | None) -> Whitening:
        """The map of the earlier file, so that old and new items agree; without one, that of values (n, d)."""
        if earlier:
            if len(values) and len(earlier.mean) != values.shape[1]:
                widths = f"{len(earlier.mean)} numbers, and these have {values.shape[1]}"
                what = f"{name} was whitened from vectors of {widths}"
                raise DataError(f"{self.earlier.path}: {what}", "leave out --reuse")
            self.checkpoint.progress.log(f"{name}: whitened by the map of {self.earlier.path}")
            return earlier
        return fit_whitening(values, self.how.whiten, what=name)

    def _warn_items(self, rows: np.ndarray, what: str) -> None:
        """One warning per item for the first few, then one for the rest."""
        progress, ids = self.checkpoint.progress, self.dataset.catalogue.item_ids
        for row in rows[:NAMED]:
            progress.warn(f"item {ids[row]!r}: {what}")
        if len(rows) > NAMED:
            progress.warn(f"{len(rows) - NAMED} more items: {what}")


def say_long(name: str, encoder: Encoder, count: int, how: str, progress: Progress) -> None:
    """How many texts are longer than the model reads, and what becomes of them."""
    if encoder.limit and count:
        done = "cut (--long-texts chunk reads all of them)" if how == "cut" else "read in pieces"
        what = f"{count:,} texts are longer than the {encoder.limit} tokens that are read of them"
        progress.log(f"{name}: {what}" + f": {done}")


def feature_figures(feature: Feature) -> dict[str, Any]:
    """The figures of a modality in the result."""
    present = int(feature.present.sum())
    missing = len(feature.present) - present
    return {"dim": feature.values.shape[1], "present": present, "missing": missing, "encoder": feature.encoder}
