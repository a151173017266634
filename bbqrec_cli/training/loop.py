"""The loop that trains every recommender: AdamW, warm-up and cosine, early stopping on validation NDCG@10."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bbqrec_cli.data.batches import PrefixBatches, WindowBatches
from bbqrec_cli.device import autocast
from bbqrec_cli.errors import DataError, InterruptedRunError
from bbqrec_cli.models.base import Recommender
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.seeds import seed_torch
from bbqrec_cli.training.checkpoint import load_checkpoint, save_checkpoint
from bbqrec_cli.training.schedule import schedule

CHOSEN_BY = "ndcg@10"


@dataclass(frozen=True, kw_only=True)
class Training:
    """How to train.

    epochs is also the length of the schedule; warmup is the share of the steps in which the rate rises; patience counts
    validated epochs without a better NDCG@10 (0: never stop early); minutes is a limit on the training time (0: none).
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    warmup: float
    patience: int
    validate_every: int = 1
    minutes: float = 0.0
    seed: int = 0
    precision: str = "fp32"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    checkpoint: Path | None = None
    resume: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress = SILENT

    def over(self, seconds: float) -> bool:
        """Whether the time is up after so many seconds of training."""
        return bool(self.minutes) and seconds > 60 * self.minutes


@dataclass(eq=False, kw_only=True)
class Fitted:
    """history: one row an epoch; best: its epoch (from 1), validation figures and weights."""

    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_figures: dict[str, float] = field(default_factory=dict)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Training and validation, over all sessions."""
        return sum(row["seconds"] for row in self.history)

    def stale(self, patience: int) -> bool:
        """Whether the last `patience` validations all failed to beat the best one."""
        later = [row for row in self.history if CHOSEN_BY in row and row["epoch"] > self.best_epoch]
        return bool(patience) and self.best_epoch > 0 and len(later) >= patience


def fit(
    model: Recommender,
    batches: WindowBatches | PrefixBatches,
    validate: Callable[[Recommender], dict[str, float]],
    training: Training,
) -> Fitted:
    """Train `model` in place and leave it with the weights of its best epoch.

    Args:
        validate: figures on the validation split, 'ndcg@10' among them.

    Raises:
        DataError: nothing to train on; a loss that is no longer finite.
        InterruptedRunError: Ctrl-C or SIGTERM, after the first epoch's checkpoint.
    """
    if not batches.targets:
        raise DataError("no user has two training items: nothing to train on", "lower the minimum lengths, or add data")
    optimiser = _optimiser(model, training)
    fitted = _resume(model, optimiser, training)
    for epoch in range(len(fitted.history), training.epochs):
        if fitted.stale(training.patience) or training.over(fitted.seconds):
            break
        try:
            _train_and_validate(model, batches, validate, optimiser, fitted, training, epoch)
        except KeyboardInterrupt:
            raise _interrupted(fitted, training) from None
    if fitted.best_weights:
        model.load_state_dict(fitted.best_weights)
    model.eval()
    return fitted


def _optimiser(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """AdamW; norms and biases are not decayed."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    matrices = {"params": [p for p in learnt if p.dim() > 1], "weight_decay": training.weight_decay}
    others = {"params": [p for p in learnt if p.dim() <= 1], "weight_decay": 0.0}
    return torch.optim.AdamW([matrices, others], lr=training.learning_rate, fused=True)


def _train_and_validate(
    model: Recommender,
    batches: WindowBatches | PrefixBatches,
    validate: Callable[[Recommender], dict[str, float]],
    optimiser: torch.optim.Optimizer,
    fitted: Fitted,
    training: Training,
    epoch: int,
) -> None:
    """One epoch (from 0), its row in the history and its checkpoint."""
    began = time.perf_counter()
    seed_torch(training.seed, "epoch", epoch)
    row: dict[str, Any] = {"epoch": epoch + 1, "loss": _epoch(model, batches, optimiser, training, epoch)}
    best, seconds = {}, time.perf_counter() - began
    last = epoch + 1 == training.epochs or training.over(fitted.seconds + seconds)
    if last or (epoch + 1) % training.validate_every == 0:
        figures = validate(model.eval())
        row |= figures
        if figures[CHOSEN_BY] > fitted.best_figures.get(CHOSEN_BY, -1.0):
            weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
            best = {"best_epoch": epoch + 1, "best_figures": figures, "best_weights": weights}
        seconds = time.perf_counter() - began
    row["seconds"] = seconds
    after = {"history": [*fitted.history, row], **best}
    if training.checkpoint is not None:
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()} | vars(fitted) | after
        save_checkpoint(training.checkpoint, state, training.identity)
    vars(fitted).update(after)
    shown = "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k not in ("epoch", "seconds"))
    left = fitted.seconds / len(fitted.history) * (training.epochs - epoch - 1) / 60
    about = f", at most {left:.0f} min left" if left >= 1 else ""
    training.progress.log(f"epoch {epoch + 1}/{training.epochs}  {shown}  {row['seconds']:.1f} s{about}")


def _epoch(
    model: Recommender,
    batches: WindowBatches | PrefixBatches,
    optimiser: torch.optim.Optimizer,
    training: Training,
    epoch: int,
) -> float:
    """The epoch's mean loss."""
    model.train()
    total, todo = 0.0, batches.epoch(epoch)
    # Epochs differ by a step or so: windows meet at random places.
    steps = len(todo)
    rise = max(1, round(training.warmup * training.epochs * steps))
    with training.progress.task(f"epoch {epoch + 1}/{training.epochs}", steps) as task:
        for number, batch in enumerate(todo):
            share = schedule(epoch * steps + number, training.epochs * steps, rise)
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate * share
            with autocast(training.device, training.precision):
                loss = model.loss(batch.to(training.device))
            value = loss.item()
            if not math.isfinite(value):
                what = f"epoch {epoch + 1}, step {number + 1}: the loss is {value}; the training has diverged"
                raise DataError(what, "a lower --learning-rate, a longer --warmup, or --precision fp32")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            total += value
            task.advance(loss=value)
    return total / steps


def _interrupted(fitted: Fitted, training: Training) -> InterruptedRunError:
    done = len(fitted.history)
    if training.checkpoint is None or not done:
        return InterruptedRunError("interrupted in the first epoch; nothing is saved yet")
    what = f"interrupted; {done} of {training.epochs} epochs are saved in {training.checkpoint}"
    return InterruptedRunError(what, "the same command with --resume goes on")


def _resume(model: Recommender, optimiser: torch.optim.Optimizer, training: Training) -> Fitted:
    path = training.checkpoint
    if path is None or not path.exists():
        if training.resume:
            training.progress.log(f"{path}: no checkpoint; starting from the beginning")
        return Fitted()
    if not training.resume:
        training.progress.log(
            f"{path}: an older run's checkpoint; it will be overwritten (--resume would go on from it)"
        )
        return Fitted()
    state = load_checkpoint(path, training.identity)
    model.load_state_dict(state.pop("model"))
    optimiser.load_state_dict(state.pop("optimiser"))
    fitted = Fitted(**state)
    training.progress.log(f"resumed after epoch {len(fitted.history)}")
    return fitted
