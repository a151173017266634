"""Item features as vectors beside an item table. I items, M modalities, d width of a feature, D width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.data.features import mean_and_scale, standardize, usable
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.layers import INIT_STD
from bbqrec_cli.records import Feature

ALL = ("all",)
"""Names every modality that the input has."""


class ItemFeatures(nn.Module):
    """Joins an item table with the items' features: an item's vector is its embedding plus a linear map per modality.

    A sum loses nothing against concatenation and a linear layer: [e; W x] A = A_1 e + (A_2 W) x, where e and W are
    learnt. The features are standardised and divided by the root of their width, so that the maps' outputs start on the
    scale of the embeddings and move about as fast.

    Args:
        features: modality -> (I, d).
        names: the modalities to use, in this order, or `ALL`.
        width: D.

    Raises:
        DataError: a named modality is not in the input or no item has it.
    """

    def __init__(self, features: Mapping[str, Feature], names: Sequence[str], *, width: int) -> None:
        super().__init__()
        self.names = feature_names(features, names)
        self.modalities = nn.ModuleList(FeatureVectors(features[name], width) for name in self.names)

    def vectors(self, rows: Tensor | None = None) -> list[Tensor]:
        """The vectors of each modality, M of (I, D), or for rows (…) M of (…, D). Other rows count as absent."""
        return [modality(rows) for modality in self.modalities]

    def forward(self, embeddings: Tensor, rows: Tensor | None = None) -> Tensor:
        """Embeddings (I, D), or (…, D) of the items rows (…), plus the vectors of all modalities."""
        for vectors in self.vectors(rows):
            embeddings = embeddings + vectors
        return embeddings


class ScaledFeature(nn.Module):
    """The values of one modality, (I, d), centred and scaled by a mean and a scale that travel with the weights.

    They are measured on the items that the weights were first trained on, and stay when others come (`train --from`).
    Weights of older versions, which lack them, were trained on what is measured on the feature itself.

    Args:
        measure: feature -> mean (d,) and scale, (d,) or ().
        transform: feature, mean, scale -> (I, d) float32.
    """

    values: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(
        self, feature: Feature, measure: Callable[[Feature], tuple[Any, Any]],
        transform: Callable[[Feature, Any, Any], np.ndarray],
    ) -> None:  # fmt: skip
        super().__init__()
        self.feature, self.transform = feature, transform
        mean, scale = measure(feature)
        self.own = {"mean": torch.as_tensor(mean).float(), "scale": torch.as_tensor(scale).float()}
        # The model file keeps the features themselves.
        self.register_buffer("values", torch.from_numpy(transform(feature, mean, scale)), persistent=False)
        for name, value in self.own.items():
            self.register_buffer(name, value.clone())

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Load mean and scale, and make the values anew where they are others."""
        for name, value in self.own.items():
            state_dict.setdefault(prefix + name, value)
        before = self.mean.clone(), self.scale.clone()
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if not all(map(torch.equal, before, (self.mean, self.scale))):
            made = self.transform(self.feature, self.mean.cpu().numpy(), self.scale.cpu().numpy())
            self.values.copy_(torch.from_numpy(made))


class FeatureVectors(ScaledFeature):
    """A linear map of one modality; items without it have a learnt vector."""

    present: Tensor

    def __init__(self, feature: Feature, width: int) -> None:
        super().__init__(feature, mean_and_scale, even)
        self.register_buffer("present", torch.from_numpy(feature.present.copy()).unsqueeze(1), persistent=False)
        self.map = nn.Linear(self.values.shape[1], width, bias=False)
        nn.init.normal_(self.map.weight, std=INIT_STD)
        self.absent = nn.Parameter(torch.randn(width) * INIT_STD)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """(I, D) of all items, or (…, D) of rows (…)."""
        if rows is None:
            return torch.where(self.present, self.map(self.values), self.absent)
        inside = rows.clamp(0, len(self.values) - 1)
        present = self.present[inside] & (rows == inside).unsqueeze(-1)
        return torch.where(present, self.map(self.values[inside]), self.absent)


def even(feature: Feature, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """`standardize`, divided by the root of the width, (I, d) float32."""
    values = standardize(feature, mean, scale)
    values *= values.shape[1] ** -0.5
    return values


def feature_names(features: Mapping[str, Feature], names: Sequence[str]) -> tuple[str, ...]:
    """The modalities that `names` stands for. Raises: as `ItemFeatures`."""
    there = usable({name: feature.present for name, feature in features.items()})
    names = there if tuple(names) == ALL else tuple(names)
    for name in names:
        if name not in there:
            has = f"the input has {', '.join(there) or 'none'}{did_you_mean(name, there)}"
            what = "no item has it" if name in features else has
            raise DataError(f"--features names {name!r}; {what}", "bbqrec embed, or other --features")
    return names
