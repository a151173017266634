"""The loop that trains tokenizers: AdamW with warm-up and cosine, one checkpoint an epoch, figures an epoch."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from bbqrec_cli.device import autocast
from bbqrec_cli.errors import DataError
from bbqrec_cli.seeds import seed_torch
from bbqrec_cli.tokenizers.base import RunSettings
from bbqrec_cli.training.checkpoint import load_checkpoint, save_checkpoint

WARMUP_STEPS = 100


class TokenizerNetwork(nn.Module, ABC):
    """What the loop trains. Parameters whose names begin with 'clubs.' are θ and have their own optimiser."""

    @abstractmethod
    def loss(self, batch: Any) -> dict[str, torch.Tensor]:
        """{'loss', …}: what is minimised, and its parts for the figures; scalars."""

    def likelihood(self, batch: Any) -> torch.Tensor:
        """What θ's optimiser minimises before each main step, a scalar; only asked for where there is a θ."""
        raise NotImplementedError


Model = TypeVar("Model", bound=TokenizerNetwork)


class Batches(Protocol):
    """Something with the batches of an epoch."""

    def epoch(self, number: int) -> list[Any]:
        """The batches of epoch `number`."""


def mlp(inputs: int, hidden: int, outputs: int) -> list[nn.Module]:
    """Two linear layers."""
    return [nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs)]


def fit_tokenizer(
    make: Callable[[], Model],
    batches: Batches,
    start: Callable[[Model, int], None],
    report: Callable[[Model, int], dict[str, Any]],
    run: RunSettings,
    *,
    epochs: int,
    learning_rate: float,
) -> tuple[Model, list[dict[str, Any]]]:
    """Train a tokenizer's network.

    Args:
        make: builds it (called after seeding).
        start: called before each epoch (k-means when the time has come).
        report: figures after each epoch.

    Returns:
        the trained network and one row of figures an epoch.

    Raises:
        DataError: the loss is no longer finite.
    """
    seed_torch(run.seed, "tokenizer")
    model = make()
    theta = [p for name, p in model.named_parameters() if name.startswith("clubs.")]
    main = [p for name, p in model.named_parameters() if not name.startswith("clubs.")]
    optimisers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, fused=True)
        for name, parameters in {"main": main, "theta": theta}.items()
        if parameters
    }
    history: list[dict[str, Any]] = []
    if run.resume and run.checkpoint is not None and run.checkpoint.exists():
        state = load_checkpoint(run.checkpoint, run.identity)
        model.load_state_dict(state["model"])
        for name, optimiser in optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        history = state["history"]
        run.progress.log(f"resumed after epoch {len(history)}")
    steps = len(batches.epoch(0))

    def rate(step: int) -> float:
        return learning_rate * schedule(step, epochs * steps)

    for epoch in range(len(history), epochs):
        began = time.perf_counter()
        seed_torch(run.seed, "tokenizer", epoch)
        start(model, epoch)
        model.train()
        means = _epoch(model, batches.epoch(epoch), optimisers, run, epoch, rate)
        history.append({"epoch": epoch + 1} | means | report(model, epoch) | {"seconds": time.perf_counter() - began})
        run.progress.log(_line(history[-1], epochs))
        if run.checkpoint is not None:
            saved = {"model": model.state_dict(), "history": history}
            saved |= {"optimisers": {name: o.state_dict() for name, o in optimisers.items()}}
            save_checkpoint(run.checkpoint, saved, run.identity)
    return model.eval(), history


def _epoch(
    model: TokenizerNetwork,
    batches: list[Any],
    optimisers: dict[str, torch.optim.Optimizer],
    run: RunSettings,
    epoch: int,
    rate: Callable[[int], float],
) -> dict[str, float]:
    """Means of the losses over the batches."""
    sums: dict[str, torch.Tensor] = {}
    with run.progress.task(f"epoch {epoch + 1}", len(batches)) as task:
        for number, batch in enumerate(batches):
            now = rate(epoch * len(batches) + number)
            batch = batch.to(run.device)
            if "theta" in optimisers:
                _step(optimisers["theta"], model.likelihood(batch), now)
            with autocast(run.device, run.precision):
                parts = model.loss(batch)
            if not torch.isfinite(parts["loss"]):
                what = f"epoch {epoch + 1}, step {number + 1}: the loss is {parts['loss'].item()}"
                raise DataError(what, "a lower --learning-rate")
            _step(optimisers["main"], parts["loss"], now)
            for key, value in parts.items():
                sums[key] = sums.get(key, torch.zeros((), device=run.device)) + value.detach()
            task.advance(loss=parts["loss"].item())
    return {key: float(value) / len(batches) for key, value in sums.items()}


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], 10.0)
    optimiser.step()


def schedule(step: int, total: int) -> float:
    """Linear warm-up over 100 steps (or a tenth, if that is less), then a cosine down to a hundredth."""
    warmup = min(WARMUP_STEPS, max(1, total // 10))
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _line(row: dict[str, Any], epochs: int) -> str:
    """One line an epoch: the losses, what the codebooks look like, validation recall."""
    text = f"epoch {row['epoch']}/{epochs}"
    names = ("loss", "reconstruction", "quantisation", "recommendation", "information")
    text += "".join(f"  {name} {row[name]:.4g}" for name in names if name in row)
    worst = sorted((v, k) for k, v in row.items() if k.startswith("perplexity/"))
    if worst:
        text += f"  lowest perplexity {worst[0][0]:.0f} ({worst[0][1][11:]})  colliding items {row['colliding_items']}"
    if "recall@10" in row:
        text += f"  validation recall@10 {row['recall@10']:.4f}"
    return f"{text}  {row['seconds']:.1f} s"
