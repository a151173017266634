"""The loop that trains tokenizers: AdamW with warm-up and cosine, one checkpoint an epoch, figures an epoch."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from bbqrec_cli.device import autocast
from bbqrec_cli.errors import DataError, InterruptedRunError
from bbqrec_cli.seeds import seed_torch
from bbqrec_cli.tokenizers.base import CURE, RunSettings
from bbqrec_cli.training.checkpoint import load_checkpoint, save_checkpoint
from bbqrec_cli.training.schedule import schedule

WARMUP_STEPS = 100
LARGEST_GRADIENT = 10.0
"""Norm at which gradients are cut: the reconstruction is a sum over features, so it is far above the usual 1."""

Row = dict[str, Any]
"""The figures of an epoch."""


class TokenizerNetwork(nn.Module, ABC):
    """What the loop trains. Parameters whose names begin with 'clubs.' are θ and have their own optimiser."""

    @abstractmethod
    def loss(self, batch: Any) -> dict[str, torch.Tensor]:
        """{'loss', …}: what is minimised, and its parts for the figures; scalars."""

    def likelihood(self, batch: Any) -> torch.Tensor | None:
        """What θ's optimiser minimises before each main step, a scalar; None where the batch says nothing of θ."""
        return None


Model = TypeVar("Model", bound=TokenizerNetwork)
Optimisers = dict[str, torch.optim.Optimizer]


class Batches(Protocol):
    """Something with the batches of an epoch."""

    def epoch(self, number: int) -> list[Any]:
        """The batches of epoch `number`, the same whenever asked."""


def mlp(inputs: int, hidden: int, outputs: int) -> list[nn.Module]:
    """Two linear layers."""
    return [nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs)]


def fit_tokenizer(
    make: Callable[[], Model],
    batches: Batches,
    start: Callable[[Model, int], None],
    report: Callable[[Model, int], Row],
    troubles: Callable[[Row], Mapping[str, str]],
    run: RunSettings,
    *,
    epochs: int,
    learning_rate: float,
) -> tuple[Model, list[Row]]:
    """Train a tokenizer's network.

    Args:
        make: builds it (called after seeding).
        start: called before each epoch (k-means when the time has come).
        report: figures after each epoch.
        troubles: the collapsed codebooks in those figures, with a sentence each.

    Returns:
        the trained network and one row of figures an epoch.

    Raises:
        DataError: the loss is no longer finite.
        InterruptedRunError: Ctrl-C or SIGTERM; it says what is saved.
    """
    seed_torch(run.seed, "tokenizer")
    model = make()
    optimisers = _optimisers(model, learning_rate)
    history = _resume(model, optimisers, run)
    total = epochs * len(batches.epoch(0))

    def rate(step: int) -> float:
        return learning_rate * schedule(step, total, warmup_steps(total))

    try:
        for epoch in range(len(history), epochs):
            began = time.perf_counter()
            seed_torch(run.seed, "tokenizer", epoch)
            start(model, epoch)
            means = _epoch(model.train(), batches.epoch(epoch), optimisers, run, epoch, rate)
            row = {"epoch": epoch + 1} | means | report(model, epoch) | {"seconds": time.perf_counter() - began}
            _save(model, optimisers, [*history, row], run)
            _tell(row, history, epochs, troubles, run)
            history.append(row)
    except KeyboardInterrupt:
        raise _interrupted(len(history), epochs, run) from None
    return model.eval(), history


def _optimisers(model: nn.Module, learning_rate: float) -> Optimisers:
    theta = [p for name, p in model.named_parameters() if name.startswith("clubs.")]
    main = [p for name, p in model.named_parameters() if not name.startswith("clubs.")]
    return {
        name: torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, fused=True)
        for name, parameters in {"main": main, "theta": theta}.items()
        if parameters
    }


def _epoch(
    model: TokenizerNetwork,
    batches: list[Any],
    optimisers: Optimisers,
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
            likelihood = model.likelihood(batch) if "theta" in optimisers else None
            if likelihood is not None:
                _step(optimisers["theta"], likelihood, now)
            with autocast(run.device, run.precision):
                parts = model.loss(batch)
            if not torch.isfinite(parts["loss"]):
                what = f"epoch {epoch + 1}, step {number + 1}: the loss is {parts['loss'].item()}"
                raise DataError(f"{what}; the training has diverged", "a lower --learning-rate, or --precision fp32")
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
    nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], LARGEST_GRADIENT)
    optimiser.step()


def warmup_steps(total: int) -> int:
    """Steps of rising rate in a run of so many: 100, or a tenth of a short run."""
    return min(WARMUP_STEPS, max(1, total // 10))


def _tell(
    row: Row, before: list[Row], epochs: int, troubles: Callable[[Row], Mapping[str, str]], run: RunSettings
) -> None:
    """The epoch's line, and a warning when a codebook has collapsed: once a codebook, not once an epoch."""
    seconds = [each["seconds"] for each in (*before, row)]
    left = sum(seconds) / len(seconds) * (epochs - row["epoch"]) / 60
    run.progress.log(line(row, epochs) + (f", about {left:.0f} min left" if left >= 1 else ""))
    told = {book for each in before for book in troubles(each)}
    new = [sentence for book, sentence in troubles(row).items() if book not in told]
    if new:
        count = "a codebook has" if len(new) == 1 else f"{len(new)} codebooks have"
        run.progress.warn(f"epoch {row['epoch']}: {count} collapsed: {'; '.join(new)}. If it stays so, try {CURE}.")


def line(row: Row, epochs: int) -> str:
    """An epoch in a line: the losses, codes in use and perplexity a signal, collisions, validation recall."""
    text = f"epoch {row['epoch']}/{epochs}"
    names = ("loss", "reconstruction", "quantisation", "recommendation", "information", "collaboration", "diversity")
    text += "".join(f"  {name} {row[name]:.4g}" for name in names if name in row)
    books = [key.removeprefix("usage/") for key in row if key.startswith("usage/")]
    for name in dict.fromkeys(book.rpartition("/")[0] for book in books):
        own = [book for book in books if book.rpartition("/")[0] == name]
        used = " ".join(f"{row[f'usage/{book}']}" for book in own)
        spread = " ".join(f"{row[f'perplexity/{book}']:.0f}" for book in own)
        text += f"  {name}: codes in use {used}, perplexity {spread}"
    if "colliding_items" in row:
        text += f"  colliding items {row['colliding_items']}"
    if "recall@10" in row:
        text += f"  validation recall@10 {row['recall@10']:.4f}"
    return f"{text}  {row['seconds']:.1f} s"


def _save(model: nn.Module, optimisers: Optimisers, history: list[Row], run: RunSettings) -> None:
    if run.checkpoint is not None:
        saved = {"model": model.state_dict(), "history": history}
        saved |= {"optimisers": {name: o.state_dict() for name, o in optimisers.items()}}
        save_checkpoint(run.checkpoint, saved, run.identity)


def _resume(model: nn.Module, optimisers: Optimisers, run: RunSettings) -> list[Row]:
    """The rows of the epochs that are done; [] at a fresh start."""
    path = run.checkpoint
    if path is None or not path.exists():
        if run.resume:
            run.progress.log(f"{path}: no checkpoint; starting from the beginning")
        return []
    if not run.resume:
        run.progress.log(f"{path}: an older run's checkpoint; it will be overwritten (--resume would go on from it)")
        return []
    state = load_checkpoint(path, run.identity)
    model.load_state_dict(state["model"])
    for name, optimiser in optimisers.items():
        optimiser.load_state_dict(state["optimisers"][name])
    run.progress.log(f"resumed after epoch {len(state['history'])}")
    return state["history"]


def _interrupted(done: int, epochs: int, run: RunSettings) -> InterruptedRunError:
    if run.checkpoint is None or not done:
        return InterruptedRunError("interrupted in the first epoch; nothing is saved yet")
    what = f"interrupted; {done} of {epochs} epochs are saved in {run.checkpoint}"
    return InterruptedRunError(what, "the same command with --resume goes on")
