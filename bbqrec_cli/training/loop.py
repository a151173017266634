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
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.base import Recommender
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.seeds import seed_torch
from bbqrec_cli.training.checkpoint import load_checkpoint, save_checkpoint

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
    """
    if not batches.targets:
        raise DataError("no user has two training items: nothing to train on", "lower the minimum lengths, or add data")
    decayed = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=training.learning_rate, fused=True)
    fitted = _resume(model, optimiser, training)
    steps = len(batches.epoch(0))
    for epoch in range(len(fitted.history), training.epochs):
        if fitted.stale(training.patience) or (training.minutes and fitted.seconds > 60 * training.minutes):
            break
        began = time.perf_counter()
        seed_torch(training.seed, "epoch", epoch)
        row: dict[str, Any] = {"epoch": epoch + 1, "loss": _epoch(model, batches, optimiser, training, epoch, steps)}
        if (epoch + 1) % training.validate_every == 0 or epoch + 1 == training.epochs:
            figures = validate(model.eval())
            row |= figures
            if figures[CHOSEN_BY] > fitted.best_figures.get(CHOSEN_BY, -1.0):
                weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
                fitted.best_epoch, fitted.best_figures, fitted.best_weights = epoch + 1, figures, weights
        row["seconds"] = time.perf_counter() - began
        fitted.history.append(row)
        shown = "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k not in ("epoch", "seconds"))
        training.progress.log(f"epoch {epoch + 1}/{training.epochs}  {shown}  {row['seconds']:.1f} s")
        if training.checkpoint is not None:
            _save(model, optimiser, fitted, training)
    if fitted.best_weights:
        model.load_state_dict(fitted.best_weights)
    model.eval()
    return fitted


def _epoch(
    model: Recommender,
    batches: WindowBatches | PrefixBatches,
    optimiser: torch.optim.Optimizer,
    training: Training,
    epoch: int,
    steps: int,
) -> float:
    model.train()
    total = 0.0
    with training.progress.task(f"epoch {epoch + 1}/{training.epochs}", steps) as task:
        for number, batch in enumerate(batches.epoch(epoch)):
            share = schedule(epoch * steps + number, training.epochs * steps, training.warmup)
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate * share
            with autocast(training.device, training.precision):
                loss = model.loss(batch.to(training.device))
            value = loss.item()
            if not math.isfinite(value):
                what = f"epoch {epoch + 1}, step {number + 1}: the loss is {value}"
                raise DataError(what, "a lower --learning-rate, or --precision fp32")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            total += value
            task.advance(loss=value)
    return total / max(1, steps)


def schedule(step: int, total: int, warmup: float) -> float:
    """Share of the learning rate: linear up over the first `warmup` of the steps, then a cosine down to a hundredth."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))


def _save(model: Recommender, optimiser: torch.optim.Optimizer, fitted: Fitted, training: Training) -> None:
    assert training.checkpoint is not None
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()} | vars(fitted)
    save_checkpoint(training.checkpoint, state, training.identity)


def _resume(model: Recommender, optimiser: torch.optim.Optimizer, training: Training) -> Fitted:
    if training.checkpoint is None or not (training.resume and training.checkpoint.exists()):
        return Fitted()
    state = load_checkpoint(training.checkpoint, training.identity)
    model.load_state_dict(state.pop("model"))
    optimiser.load_state_dict(state.pop("optimiser"))
    fitted = Fitted(**state)
    training.progress.log(f"resumed after epoch {len(fitted.history)}")
    return fitted
