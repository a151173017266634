"""Features that an earlier features file holds already. I items, d width of a feature."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.encoders.whitening import Whitening
from bbqrec_cli.hdf5 import describe, read_encoding, read_features
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import Feature, Vocabulary

BESIDE = ("input", "inputs", "file")
"""What the record of a feature says beside how it was computed: the inputs count by their content."""


def content_of(inputs: Sequence[str | bytes]) -> np.ndarray:
    """A digest of each input, (I, 2) uint64; zero for empty ones."""
    found = np.zeros((len(inputs), 2), dtype=np.uint64)
    for row, each in enumerate(inputs):
        if each:
            data = each.encode() if isinstance(each, str) else each
            found[row] = np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), dtype="<u8")
    return found


class Earlier:
    """The features of an earlier file, for inputs of equal content that are encoded in the same way.

    Args:
        path: the file; None: there is none.
    """

    def __init__(self, path: Path | None, progress: Progress) -> None:
        self.path, self._progress = path, progress
        self._features: Mapping[str, Feature] = {}
        self._ids = Vocabulary(())
        self._made: Mapping[str, Any] = {}
        if path is not None:
            found = read_features(path)
            self._features, self._ids = found.features, found.catalogue.item_ids
            self._made = describe(path)["config"].get("encoders", {})

    def whitening(self, name: str, made: Mapping[str, Any], *, say: bool) -> Whitening | None:
        """The map of the feature `name`, if it was made in the same way and whitened; say: otherwise there is a warning
        that says why not."""
        if not self._same(name, made, say=say):
            return None
        assert self.path is not None
        found = read_encoding(self.path, name)
        return Whitening(found["mean"], found["matrix"]) if "matrix" in found else None

    def differing(self, name: str, item_ids: Sequence[str], feature: Feature) -> tuple[int, int]:
        """How many items have the feature `name` both there and here, finished, and for how many it is another one."""
        old, rows = self._features[name], self._ids.rows(item_ids)
        both = np.flatnonzero((rows >= 0) & feature.present & old.present[rows])
        there, here = old.values[rows[both]], feature.values[both]
        other = ~np.isclose(there, here, rtol=1e-2, atol=1e-2 * np.abs(there).max(initial=0)).all(axis=1)
        return len(both), int(other.sum())

    def rows(self, name: str, made: Mapping[str, Any], content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which items' features are there (I,) bool, and those (n, d). content (I, 2): digests of the inputs."""
        nothing = np.zeros(len(content), dtype=bool), np.zeros((0, 0), dtype=np.float32)
        if self.path is None or not self._same(name, made, say=True):
            return nothing
        there, feature = read_encoding(self.path, name).get("content"), self._features[name]
        if there is None:
            return nothing
        known = {each.tobytes(): row for row, each in enumerate(there) if feature.present[row]}
        found = np.array([known.get(each.tobytes(), -1) for each in content], dtype=np.int64)
        found[~content.any(axis=1)] = -1
        return found >= 0, feature.values[found[found >= 0]]

    def _same(self, name: str, made: Mapping[str, Any], *, say: bool = False) -> bool:
        from bbqrec_cli.training.checkpoint import difference

        if self.path is None or name not in self._features:
            what = f"has no feature {name}"
        elif name not in self._made:
            what = f"does not say how its feature {name} was made"
        else:
            old, new = ({k: v for k, v in each.items() if k not in BESIDE} for each in (self._made[name], made))
            what = difference(name, json.loads(json.dumps(old)), json.loads(json.dumps(new)))
        if what and say and self.path is not None:
            self._progress.warn(f"{self.path}: {what}: nothing of it is reused")
        return not what
