"""Several models as one: their lists united by reciprocal ranks. B users, T items of history, N items of a list."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.decoding.beam import pad_answer
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.hdf5 import read_model
from bbqrec_cli.models.base import Recommender, Untrained, Wanted
from bbqrec_cli.models.registry import load_model
from bbqrec_cli.models.semantic_id_generator import SemanticIDGenerator
from bbqrec_cli.records import TrainedModel

DEPTH = 50
"""Items of each model's list that count, of a generator with a narrower beam as many; others come behind them."""
CONSTANT = 60
"""What is added to every rank, as in the paper."""
BEHIND = 1e-3
"""Factor of the scores of items that are nowhere among the first `DEPTH`: less than the last of these has."""


class United(Untrained):
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009): an item's score is Σ 1 / (60 + rank) over the
    models in whose lists it is, of `DEPTH` items each.

    Only ranks count, so scores of different kinds need no common scale. Models that err in different ways gain most.
    """

    def __init__(self, models: Sequence[Recommender]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.history = max(model.history for model in models)

    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """See `Recommender.recommend`; every model sees as much of the history as it was trained on."""
        lists, depths = [], []
        for model in self.models:
            assert isinstance(model, Recommender)
            narrow = wanted.beam if isinstance(model, SemanticIDGenerator) and wanted.beam else DEPTH
            depth, part = min(DEPTH, narrow), last_items(batch, model.history)
            depths.append(depth)
            best = model.recommend(part, dataclasses.replace(wanted, k=depth))[0]
            # Asked for more, a beam is wider and may find others: what it adds comes behind.
            lists.append(best if wanted.k <= depth else longer(best, model.recommend(part, wanted)[0]))
        return fused(lists, depths, wanted.k)


def longer(best: Tensor, more: Tensor) -> Tensor:
    """Lists (B, N) of rows, and behind them what others, (B, K), have beside."""
    again = (more.unsqueeze(2) == best.unsqueeze(1)).any(2)
    both = torch.cat([best, more.masked_fill(again, PAD)], dim=1)
    return both.gather(1, (both == PAD).long().argsort(dim=1, stable=True))


def fused(lists: Sequence[Tensor], depths: Sequence[int], k: int) -> tuple[Tensor, Tensor]:
    """The result of `Recommender.recommend` from lists (B, N) of rows, best first, each row once, PAD at the end.

    Only the first ones of each list count, as many as `depths` says, so what is best does not depend on how much is
    asked for: items that are in no list's first ones follow all others, by the sums of their own ranks times `BEHIND`.
    Equal scores are in the order of the items' rows.
    """
    device = lists[0].device
    items, order = torch.cat([each.cpu() for each in lists], dim=1).sort(dim=1, stable=True)  # not all have float64
    ranks = torch.cat([torch.arange(1, 1 + each.shape[1]) for each in lists])[order]
    depth = torch.cat([torch.full((each.shape[1],), of) for each, of in zip(lists, depths, strict=True)])
    points = (1 / (CONSTANT + ranks).double()).masked_fill(items == PAD, -torch.inf)
    again = torch.zeros_like(items, dtype=torch.bool)
    again[:, 1:] = items[:, 1:] == items[:, :-1]
    run = (~again).cumsum(1) - 1  # equal items stand side by side

    def sums(of: Tensor) -> Tensor:
        return torch.zeros_like(of).scatter_add_(1, run, of).gather(1, run)

    counted = sums(points.masked_fill(ranks > depth[order], 0))
    scores = counted.where(counted != 0, BEHIND * sums(points))
    # Rounded, so that sums of the same points in another order are equal.
    best, places = scores.float().masked_fill(again, -torch.inf).sort(dim=1, descending=True, stable=True)
    found = items.gather(1, places).masked_fill(best == -torch.inf, PAD)
    return pad_answer(found[:, :k].to(device), best[:, :k].to(device), k)


def last_items(batch: Batch, history: int) -> Batch:
    """The last `history` items of each history, without targets."""
    if batch.items.shape[1] > history:
        place = (batch.lengths - history).clamp(min=0).unsqueeze(1) + torch.arange(history, device=batch.items.device)
        batch = Batch(batch.items.gather(1, place), batch.targets)
    return Batch(batch.items, torch.full_like(batch.items, PAD))


def read_models(first: Path, unite: Sequence[Path]) -> list[TrainedModel]:
    """A model and those to unite with it.

    Raises:
        UsageError: a file twice.
        DataError: another model has other items; the errors of reading files.
    """
    paths = [path.resolve() for path in (first, *unite)]
    for place, path in enumerate(unite, start=1):
        if paths[place] in paths[:place]:
            raise UsageError(f"--unite {path}: this file is among the models already", "name each model once")
    trained, *others = [read_model(path) for path in (first, *unite)]
    ours = trained.catalogue.item_ids
    for path, other in zip(unite, others, strict=True):
        theirs = other.catalogue.item_ids
        if ours != theirs:
            what = "the same items in another order than" if set(ours) == set(theirs) else "other items than"
            raise DataError(f"--unite {path}: has {what} the first model", "unite models of one dataset file")
    return [trained, *others]


def load_united(trained: Sequence[TrainedModel], device: torch.device) -> Recommender:
    """One model as it is, several as one; see `load_model`."""
    models = [load_model(each, device) for each in trained]
    return models[0] if len(models) == 1 else United(models).eval()
