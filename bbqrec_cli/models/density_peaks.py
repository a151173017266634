"""Density-peak clustering with k nearest neighbours. n vectors, N clusters, D width."""

from __future__ import annotations

import torch
from torch import Tensor

CELLS = 1 << 24
"""Distances in memory at once."""


@torch.no_grad()
def density_peaks(vectors: Tensor, *, clusters: int, neighbours: int) -> tuple[Tensor, Tensor]:
    """The centroids and memberships of `clusters` density peaks (DPC-KNN; Du, Ding and Jia 2016).

    A vector's density is exp(-mean squared distance to its nearest neighbours, itself among them); its peak score is
    its density times its distance to the nearest denser vector. Of equally dense ones the earlier row counts as denser,
    so that of equal vectors one alone is a peak. The N highest scores are the centres, each vector belongs to the
    nearest centre, and a centroid is the mean of its members. Time n²·D, in blocks of memory.

    Args:
        vectors: (n, D).
        clusters: N, at most n.
        neighbours: at most n.

    Returns:
        centroids (N, D), memberships (n,) int64.
    """
    rows = max(1, CELLS // len(vectors))
    scale = vectors.shape[1] ** -0.5
    density, farthest = [], vectors.new_zeros(())
    for part in vectors.split(rows):
        distance = torch.cdist(part, vectors) * scale
        density.append((-distance.topk(neighbours, dim=1, largest=False).values.square().mean(1)).exp())
        farthest = torch.maximum(farthest, distance.max())
    dense, place = torch.cat(density), torch.arange(len(vectors), device=vectors.device)
    apart = []
    for part, at in zip(vectors.split(rows), place.unsqueeze(1).split(rows), strict=True):
        distance, own = torch.cdist(part, vectors) * scale, dense[at]
        denser = (dense > own) | ((dense == own) & (place < at))
        apart.append(distance.where(denser, farthest).amin(1))
    centres = (torch.cat(apart) * dense).topk(clusters).indices
    found = [torch.cdist(part, vectors[centres]).argmin(1) for part in vectors.split(rows)]
    memberships = torch.cat(found)
    memberships[centres] = torch.arange(clusters, device=vectors.device)
    sums = torch.zeros_like(vectors[:clusters]).index_add_(0, memberships, vectors)
    return sums / memberships.bincount(minlength=clusters).unsqueeze(1), memberships
