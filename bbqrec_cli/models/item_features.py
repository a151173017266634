"""Item features as vectors beside an item table. I items, M modalities, d width of a feature, D width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.data.features import standardized, usable
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


class FeatureVectors(nn.Module):
    """A linear map of one modality; items without it have a learnt vector."""

    values: Tensor
    present: Tensor

    def __init__(self, feature: Feature, width: int) -> None:
        super().__init__()
        values = torch.from_numpy(standardized(feature))
        values *= values.shape[1] ** -0.5
        # The model file keeps the features themselves.
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("present", torch.from_numpy(feature.present.copy()).unsqueeze(1), persistent=False)
        self.map = nn.Linear(values.shape[1], width, bias=False)
        nn.init.normal_(self.map.weight, std=INIT_STD)
        self.absent = nn.Parameter(torch.randn(width) * INIT_STD)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """(I, D) of all items, or (…, D) of rows (…)."""
        if rows is None:
            return torch.where(self.present, self.map(self.values), self.absent)
        inside = rows.clamp(0, len(self.values) - 1)
        present = self.present[inside] & (rows == inside).unsqueeze(-1)
        return torch.where(present, self.map(self.values[inside]), self.absent)


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
