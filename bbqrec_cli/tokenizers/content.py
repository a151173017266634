"""Concatenated content features: the input of tokenizers that do not use interactions.

I items, d width of all features together, D width of a code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.data.features import standardized, usable
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.records import Feature
from bbqrec_cli.tokenizers.base import TokenizerInput

SIGNAL = "content"
"""The name of their only signal."""
_BLOCK = 1 << 16
"""Rows of the content that are computed with at once."""


@dataclass(frozen=True, eq=False)
class Content:
    """Concatenated features: values (I, d), standardised, zeros where absent; features: the parts, in this order."""

    values: np.ndarray
    features: Mapping[str, Feature]

    @property
    def present(self) -> np.ndarray:
        """(I, d) bool: whether the value's feature is present."""
        each = self.features.values()
        return np.concatenate([np.broadcast_to(f.present[:, None], f.values.shape) for f in each], axis=1)

    @property
    def has_content(self) -> np.ndarray:
        """(I,) bool: the items that have at least one of the features."""
        return np.any([feature.present for feature in self.features.values()], axis=0)


def side_by_side(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate arrays (n, …) to (n, d); a single one is returned as it is, since a copy may be large."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def content_names(config: Any, present: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The features that `config.signals` names; by default the text, or all features if there is no text.

    Args:
        present: feature -> (I,) bool.

    Raises:
        DataError: a named feature is not in the file or no item has it; there are no features.
    """
    there = usable(present)
    names = tuple(dict.fromkeys(config.signals)) or (("text",) if "text" in there else there)
    for name in names:
        if name not in there:
            has = f"the file has {', '.join(there) or 'none'}{did_you_mean(name, there)}"
            what = "no item has it" if name in present else has
            hint = f"{config.name} quantises content, not ids" if name == "id" else "bbqrec embed, or other --signals"
            raise DataError(f"--signals names {name!r}; {what}", hint)
    if not names:
        raise DataError(f"the features file holds no features, which {config.name} quantises", "bbqrec embed")
    return names


def choose_content(config: Any, inputs: TokenizerInput, progress: Progress = SILENT) -> Content:
    """The features of `content_names`, concatenated; where they were not asked for, what is left out is said.

    Raises: as `content_names`.
    """
    names = content_names(config, inputs.present)
    chosen = {name: inputs.features[name] for name in names}
    if left := [name for name in usable(inputs.present) if name not in names and not config.signals]:
        having = ", ".join(
            f"{name} ({int(each.present.sum()):,} of {inputs.items:,} items)" for name, each in chosen.items()
        )
        progress.log(
            f"codes are of {having}; the file has {', '.join(left)}, too: --signals {','.join([*names, *left])}"
        )
    return Content(values=side_by_side([standardized(feature) for feature in chosen.values()]), features=chosen)


def principal_directions(content: Content, dim: int) -> np.ndarray | None:
    """(d, D) float32: the first `dim` principal directions of the content, whose mean is 0 already; None for dim = 0.

    Signs are chosen so that each direction's largest component is positive.

    Raises:
        UsageError: `dim` is larger than d.
    """
    values = content.values
    if not dim:
        return None
    if dim > values.shape[1]:
        raise UsageError(f"--dim is {dim}, but the features have {values.shape[1]} columns", "a smaller --dim, or 0")
    product = np.zeros((values.shape[1],) * 2)
    for start in range(0, len(values), _BLOCK):
        part = values[start : start + _BLOCK]
        product += part.T @ part
    _, found = np.linalg.eigh(product)
    chosen = found[:, ::-1][:, :dim]
    return (chosen * np.sign(chosen[np.abs(chosen).argmax(0), np.arange(dim)])).astype(np.float32)


def project(values: np.ndarray, axes: np.ndarray | None) -> np.ndarray:
    """Values (I, d) projected on axes (d, D): (I, D); without axes, the values. Zero rows stay zero.

    In float64, rounded once: in float32 the last bits of a row would depend on the rows beside it, and equal items, or
    an item and itself among others, could get different codes.
    """
    if axes is None:
        return values
    found, axes = np.empty((len(values), axes.shape[1]), dtype=np.float32), axes.astype(np.float64)
    for start in range(0, len(values), _BLOCK):
        found[start : start + _BLOCK] = values[start : start + _BLOCK].astype(np.float64) @ axes
    return found
