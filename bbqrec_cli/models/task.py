"""Training a recommender: its phases, AdamW, and the epoch chosen by validation NDCG@10."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from bbqrec_cli.device import autocast
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.base import Phase, Recommender
from bbqrec_cli.training.trainer import Losses, Row, RunSettings, Task

CHOSEN_BY = "ndcg@10"


class RecommenderTask(Task):
    """One phase after another, each with its own optimiser and schedule; only the last is validated.

    Args:
        phases: at least one.
        fit: the model's configuration: learning_rate, schedule, warmup, weight_decay, beta2.
        validate: measures the model on the validation split: {'ndcg@10', …}.

    Raises:
        DataError: a phase has nothing to train on.
    """

    stream = ("epoch",)
    chosen_by = CHOSEN_BY

    def __init__(
        self, model: Recommender, phases: Sequence[Phase], fit: Any, validate: Callable[[Recommender], Row]
    ) -> None:
        for phase in phases:
            if not phase.batches.targets:
                what = "no user has 2 training interactions: nothing to train on"
                raise DataError(what, "lower --min-item-interactions of bbqrec prepare, or add data")
        self.module, self.phases, self.fit, self.validate = model, tuple(phases), fit, validate
        self.epochs = sum(phase.epochs for phase in phases)
        self.learning_rate, self.shape = fit.learning_rate, fit.schedule
        self.begin(self.phases[0])

    def begin(self, phase: Phase) -> None:
        """Start a phase, with a new optimiser of what it trains."""
        phase.start()
        self.optimisers = {"main": adamw(self.module, self.fit)}

    def phase(self, epoch: int) -> tuple[Phase, int]:
        """The phase of an epoch, and the epoch's number in it (both from 0)."""
        for phase in self.phases[:-1]:
            if epoch < phase.epochs:
                return phase, epoch
            epoch -= phase.epochs
        return self.phases[-1], epoch

    def resumed(self, epoch: int) -> None:
        """See `Task.resumed`."""
        self.begin(self.phase(epoch)[0])

    def before_epoch(self, epoch: int) -> None:
        """See `Task.before_epoch`."""
        self.now, number = self.phase(epoch)
        if epoch and not number:
            self.begin(self.now)
        self.now.before_epoch()

    def batches(self, epoch: int) -> Sequence[Any]:
        """See `Task.batches`."""
        phase, number = self.phase(epoch)
        return phase.batches.epoch(number)

    def plan(self, epoch: int, steps: int) -> tuple[int, int, int]:
        """See `Task.plan`. Epochs differ by a step or so, since windows are cut at random places."""
        phase, number = self.phase(epoch)
        total = phase.epochs * steps
        return number * steps, total, max(1, round(self.fit.warmup * total))

    def losses(self, batch: Any, run: RunSettings) -> Iterator[tuple[str, Losses]]:
        """The mean over the batch's targets; each process counts its own share, or an equal one of what couples users
        (for which they draw the same random numbers, see `alike`)."""
        part = batch if self.now.couples else batch.part(run.world.rank, run.world.size)
        with autocast(run.device, run.precision):
            if part is batch:
                loss = self.now.loss(batch) / run.world.size
            elif part.weight:
                loss = self.now.loss(part) * (part.weight / batch.weight)
            else:  # more processes than users
                loss = torch.stack([p.sum() for p in self.module.parameters() if p.requires_grad]).sum() * 0
        yield "main", {"loss": loss}

    @property
    def alike(self) -> bool:
        """See `Task.alike`."""
        return self.now.couples

    def has_report(self, epoch: int) -> bool:
        """Only the last phase is validated."""
        return self.phase(epoch)[0] is self.phases[-1]

    def report(self, epoch: int) -> Row:
        """The validation figures."""
        return self.validate(self.module.eval())  # type: ignore[arg-type]


def adamw(model: nn.Module, fit: Any) -> torch.optim.Optimizer:
    """AdamW; parameters with fewer than two dimensions, such as norms and biases, have no weight decay. The generator's
    bias of the codes (L, M, N) and the vectors of its similarity (`SimilarityAttention`) have it."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    matrices = {"params": [p for p in learnt if p.dim() > 1], "weight_decay": fit.weight_decay}
    others = {"params": [p for p in learnt if p.dim() <= 1], "weight_decay": 0.0}
    return torch.optim.AdamW([matrices, others], lr=fit.learning_rate, betas=(0.9, fit.beta2), fused=True)
