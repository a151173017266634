"""The trainer of recommenders and tokenizers: epochs, one schedule, checkpoints, early stopping, several processes.

It knows a `Task` and nothing of models. B is a batch, P parameters.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bbqrec_cli.device import PRECISIONS, resolve_precision
from bbqrec_cli.errors import DataError, DivergedError, InterruptedRunError
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.seeds import seed_torch
from bbqrec_cli.training.checkpoint import Saver, load_checkpoint, saved_precision
from bbqrec_cli.training.distributed import ALONE, World
from bbqrec_cli.training.schedule import schedule

SEGMENT = 500
"""Steps of an epoch after which its state is saved, too. Random numbers start anew there, so that a resumed run draws
the same."""
Row = dict[str, Any]
"""The figures of an epoch: 'epoch' (from 1), the mean losses, the figures of `Task.report`, 'seconds': of its steps
and its report."""
Losses = Mapping[str, Tensor]
"""'loss', which is minimised, and its reported parts; scalars, this process's share of each."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How to run the training; of these, only seed and precision change what is learnt.

    checkpoint: its path, None for none; identity: what a checkpoint must agree with: configuration and checksums of the
    inputs.
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    progress: Progress = SILENT
    checkpoint: Path | None = None
    resume: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict)
    world: World = ALONE


def identity(options: Mapping[str, Any], files: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What a resumed run must agree with: options, and the contents (not the paths) of input files.

    files: option, and what `hdf5.describe_parent` said of the file.
    """
    sums = {f"{name} (file {number}): sha256": said["sha256"] for number, (name, said) in enumerate(files, 1)}
    return {"config": dict(options), "parents": sums}


def precision_of_run(
    name: str, device: torch.device, *, continued: Path | None, world: World = ALONE, large: bool = False
) -> str:
    """fp32 or bf16, the same in all processes.

    continued: the checkpoint from which the run goes on, whose precision `auto` keeps: what it measures may change.
    large: as for `resolve_precision`.
    """
    if name == "auto" and continued is not None:
        name = saved_precision(continued) or name
    return PRECISIONS[int(world.first(PRECISIONS.index(resolve_precision(name, device, large=large))))]


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When to report and when to stop.

    validate_every: epochs between two reports; the last epoch always has one. patience: stop after this many reports of
    the last phase without a better figure (0: never). first: report before the first epoch, too; its weights count as
    epoch 0. minutes: limit on the training time (0: none). watch: called with the row of each epoch; where it says
    True, the training ends (all processes must say the same).
    """

    validate_every: int = 1
    patience: int = 0
    first: bool = False
    minutes: float = 0.0
    watch: Callable[[Row], bool] = lambda row: False

    def over(self, seconds: float) -> bool:
        """Whether the time limit is reached after `seconds` of training."""
        return bool(self.minutes) and seconds > 60 * self.minutes


class Task(ABC):
    """A training task.

    module: all parameters and buffers; optimisers: by name, each with its parameters; epochs: at most; stream: names of
    the random stream of its epochs (`seeds.seed_torch`); learning_rate: the peak; shape: that of its `schedule`;
    largest_gradient: the norm to which gradients are clipped; chosen_by: the figure of `report` whose highest value
    chooses the epoch to keep, '' for the last epoch.
    """

    module: nn.Module
    optimisers: dict[str, torch.optim.Optimizer]
    epochs: int
    stream: tuple[object, ...]
    learning_rate: float
    shape: str = "cosine"
    largest_gradient: float = 1.0
    chosen_by: str = ""

    @abstractmethod
    def batches(self, epoch: int) -> Sequence[Any]:
        """The batches of an epoch (from 0); the same at every call."""

    @abstractmethod
    def losses(self, batch: Any, run: RunSettings) -> Iterator[tuple[str, Losses]]:
        """Yield (optimiser's name, its losses); the optimiser steps before the next pair is requested.

        Over the processes of `run.world`, losses add up to those of the whole batch.
        """

    @abstractmethod
    def plan(self, epoch: int, steps: int) -> tuple[int, int, int]:
        """(steps before this epoch, total steps, warm-up steps) of the schedule. steps: those of this epoch."""

    def resumed(self, epoch: int) -> None:  # noqa: B027
        """Called when a run resumes after `epoch` (from 0), before the optimisers' state is loaded."""

    def before_epoch(self, epoch: int) -> None:  # noqa: B027
        """Called before an epoch (from 0)."""

    @property
    def alike(self) -> bool:
        """Whether all processes draw the same random numbers in this epoch, as for a loss that each computes whole."""
        return True

    def has_report(self, epoch: int) -> bool:
        """Whether the epoch (from 0) may have a report."""
        return True

    def report(self, epoch: int) -> Row:
        """Figures after an epoch (from 0; -1: before the first)."""
        return {}

    def log_epoch(self, row: Row, before: Sequence[Row], left: str, progress: Progress) -> None:
        """Log an epoch's figures. before: earlier rows; left: of `time_left`."""
        progress.log(epoch_line(row, self.epochs) + left)


def epoch_line(row: Row, epochs: int) -> str:
    """'epoch 3/12  loss 5.166  validation recall@10 0.1033, ndcg@10 0.0557  3.2 s'."""
    parts = [f"epoch {row['epoch']}/{epochs}", f"loss {row['loss']:.4g}"]
    parts += [f"{row['colliding_items']:,} items collide"] if "colliding_items" in row else []
    figures = ", ".join(f"{name} {value:.4f}" for name, value in row.items() if "@" in name)
    parts += [f"validation {figures}"] if figures else []
    return "  ".join([*parts, f"{row['seconds']:.1f} s"])


def time_left(seconds: float) -> str:
    """', at most 3 min left'; '' where it is less than a second. At most, since `Stopping` may end it earlier."""
    if seconds < 1:
        return ""
    return f", at most {seconds:.0f} s left" if seconds < 90 else f", at most {seconds / 60:.0f} min left"


@dataclass(eq=False, kw_only=True)
class Fitted:
    """The state of a training. history: one row per epoch; best_*: the best epoch (from 1; 0: the weights before it),
    its figures and weights; before: the figures of `Stopping.first`; begun: of the epoch after these, if it was saved
    underway: its 'steps' so far, the sums of its 'losses' over them, its 'seconds'."""

    history: list[Row] = field(default_factory=list)
    best_epoch: int = 0
    best_figures: dict[str, float] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)
    begun: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Time of the epochs, with their reports, including those before a resumption."""
        return sum(row["seconds"] for row in self.history)

    def stale(self, chosen_by: str, patience: int) -> bool:
        """Whether there were `patience` reports since the best one."""
        later = [row for row in self.history if chosen_by in row and row["epoch"] > self.best_epoch]
        return bool(patience) and bool(self.best_figures) and len(later) >= patience


def train(task: Task, run: RunSettings, stopping: Stopping = Stopping()) -> Fitted:
    """Train `task.module` in place; it ends with the weights of the chosen epoch, in eval mode.

    Raises:
        DataError: a loss that is not finite; a checkpoint of another run.
        InterruptedRunError: Ctrl-C or SIGTERM; its message says what is saved.
    """
    fitted = _resume(task, run)
    saver = None
    if run.checkpoint is not None and run.world.writes:
        saver = Saver(run.checkpoint, run.identity, len(fitted.history), fitted.begun.get("steps", 0))
    if stopping.first and not fitted.before:
        fitted.before = fitted.best_figures = task.report(-1)
        fitted.best_weights = _weights(task)
    try:
        with saver or nullcontext():
            for epoch in range(len(fitted.history), task.epochs):
                over = fitted.stale(task.chosen_by, stopping.patience) or stopping.over(fitted.seconds)
                if over and not fitted.begun:
                    break
                _run_epoch(task, run, stopping, fitted, epoch, saver)
                if stopping.watch(fitted.history[-1]):
                    break
    except DivergedError as error:
        left = run.checkpoint is not None and run.checkpoint.exists()
        more = f", with --force: {run.checkpoint} is left" if left else ""
        raise DivergedError(error.message, error.hint + more) from error
    except KeyboardInterrupt:
        raise _interrupted(saver, task, run) from None
    if fitted.best_weights:
        task.module.load_state_dict(fitted.best_weights)
    elif task.chosen_by and fitted.history:  # stopped before any report, for want of time
        fitted.best_epoch, fitted.best_figures = len(fitted.history), task.report(len(fitted.history) - 1)
        fitted.history[-1] = fitted.history[-1] | fitted.best_figures
    task.module.eval()
    return fitted


def _run_epoch(
    task: Task, run: RunSettings, stopping: Stopping, fitted: Fitted, epoch: int, saver: Saver | None
) -> None:
    """Run one epoch (from 0), or the rest of one that was begun, add its row to the history and save the state."""
    began = time.perf_counter() - fitted.begun.get("seconds", 0.0)
    if not fitted.begun:
        _begin(task, run, epoch)
    run.world.broadcast(task.module)
    if run.world.rank and not task.alike:
        seed_torch(run.seed, *task.stream, epoch, run.world.rank)

    def save(begun: dict[str, Any]) -> None:
        _check_finite(task, f"epoch {epoch + 1}")
        if saver is not None:
            saver.save(_state(task, fitted) | {"begun": begun | {"seconds": time.perf_counter() - began}})

    row: Row = {"epoch": epoch + 1} | _steps(task, run, epoch, fitted.begun, save)
    best: dict[str, Any] = {}
    _check_finite(task, f"epoch {epoch + 1}")
    seconds = run.world.first(time.perf_counter() - began)
    last = epoch + 1 == task.epochs or stopping.over(fitted.seconds + seconds)
    if task.has_report(epoch) and (last or (epoch + 1) % stopping.validate_every == 0):
        figures = task.report(epoch)
        row |= figures
        if task.chosen_by and figures[task.chosen_by] > fitted.best_figures.get(task.chosen_by, -1.0):
            best = {"best_epoch": epoch + 1, "best_figures": figures, "best_weights": _weights(task)}
        seconds = run.world.first(time.perf_counter() - began)
    row["seconds"] = seconds
    after: dict[str, Any] = {"history": [*fitted.history, row], "begun": {}, **best}
    if saver is not None:
        saver.save(_state(task, fitted) | after)
    before = list(fitted.history)
    vars(fitted).update(after)
    if run.world.writes:
        left = fitted.seconds / len(fitted.history) * (task.epochs - epoch - 1)
        task.log_epoch(row, before, time_left(left), run.progress)


def _begin(task: Task, run: RunSettings, epoch: int) -> None:
    """What is done before an epoch (from 0)."""
    seed_torch(run.seed, *task.stream, epoch)
    task.before_epoch(epoch)


def _weights(task: Task) -> dict[str, Tensor]:
    """A copy of the module's parameters and buffers."""
    return {name: value.detach().clone() for name, value in task.module.state_dict().items()}


def _state(task: Task, fitted: Fitted) -> dict[str, Any]:
    """What a checkpoint holds."""
    optimisers = {name: each.state_dict() for name, each in task.optimisers.items()}
    return {"model": task.module.state_dict(), "optimisers": optimisers} | vars(fitted)


def _steps(
    task: Task, run: RunSettings, epoch: int, begun: Mapping[str, Any], save: Callable[[dict[str, Any]], None]
) -> dict[str, float]:
    """Run the epoch's steps; return the mean losses over its batches.

    begun: the steps that are done and the sums of their losses; save: called with these between two segments.
    """
    task.module.train()
    batches = task.batches(epoch)
    steps, done, sums = len(batches), begun.get("steps", 0), dict(begun.get("losses", {}))
    before, total, rise = task.plan(epoch, steps)
    with run.progress.task(f"epoch {epoch + 1}/{task.epochs}", steps - done) as bar:
        for first in range(done, steps, SEGMENT):
            if first:
                own = (run.world.rank,) if run.world.rank and not task.alike else ()
                seed_torch(run.seed, *task.stream, epoch, "step", first, *own)
            found = dict[str, list[Tensor]]()
            for number in range(first, min(first + SEGMENT, steps)):
                rate = task.learning_rate * schedule(before + number, total, rise, task.shape)
                parts = step(task, run, batches[number], rate, f"epoch {epoch + 1}, step {number + 1}")
                for key, value in parts.items():
                    found.setdefault(key, []).append(value.detach())
                bar.advance(loss=float(parts["loss"].detach()))
            for key, values in found.items():
                sums[key] = sum(run.world.sum(torch.stack(values).float()).tolist(), sums.get(key, 0.0))
            if first + SEGMENT < steps:
                save({"steps": first + SEGMENT, "losses": dict(sums)})
    return {key: value / steps for key, value in sums.items()}


def step(task: Task, run: RunSettings, batch: Any, rate: float, where: str) -> Losses:
    """Step every optimiser on a batch; return the losses of the last one."""
    parts: Losses = {}
    for name, parts in task.losses(batch.to(run.device), run):
        value = float(run.world.sum(parts["loss"].detach().clone()))
        if not math.isfinite(value):
            raise _diverged(f"{where}: the loss is {value}")
        optimiser = task.optimisers[name]
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        parts["loss"].backward()
        own = {id(p) for group in optimiser.param_groups for p in group["params"]}
        parameters = [p for p in task.module.parameters() if id(p) in own]
        run.world.sum_gradients(parameters)
        nn.utils.clip_grad_norm_(parameters, task.largest_gradient)
        optimiser.step()
    return parts


def _check_finite(task: Task, where: str) -> None:
    """Raises: DivergedError: a parameter is not a number."""
    if not all(bool(p.isfinite().all()) for p in task.module.parameters()):
        raise _diverged(f"{where}: a parameter is infinite or not a number")


def _diverged(what: str) -> DivergedError:
    return DivergedError(f"{what}; the training has diverged", "a lower --learning-rate, or --precision fp32")


def _interrupted(saver: Saver | None, task: Task, run: RunSettings) -> InterruptedRunError:
    if not run.world.writes:
        return InterruptedRunError("interrupted; process 0 says what is saved")
    if saver is None or not (saver.epochs or saver.steps):
        return InterruptedRunError("interrupted in the first epoch; nothing is saved yet")
    more = f" and {saver.steps:,} steps of the next" if saver.steps else ""
    what = f"interrupted; {saver.epochs} of {task.epochs} epochs{more} are saved in {saver.path}"
    return InterruptedRunError(what, "give --resume to continue")


def _resume(task: Task, run: RunSettings) -> Fitted:
    """The state to start from, in all processes the same: that of the checkpoint with --resume, else an empty one.

    Raises: DataError: another checkpoint than that of process 0, or of another model; the errors of `load_checkpoint`.
    """
    state = _saved(run)
    weights, optimisers = state.pop("model", None), state.pop("optimisers", None)
    fitted = Fitted(**state)
    done, steps = len(fitted.history), fitted.begun.get("steps", 0)
    for what, own in (("epochs", done), ("steps of an epoch", steps)):
        if run.world.first(own) != own:
            said = f"{run.checkpoint}: process {run.world.rank} has {own} {what}, process 0 another number"
            raise DataError(said, "give -o in a folder that all of them see")
    if weights is None:
        return fitted
    task.resumed(done - 1)
    _load(task, run, weights, {} if steps else optimisers)
    run.progress.log(f"resumed in epoch {done + 1}, after {steps:,} steps" if steps else f"resumed after epoch {done}")
    if steps:  # what is done before the epoch may bring new optimisers and change the weights: it comes before them
        _begin(task, run, done)
        _load(task, run, weights, optimisers)
    return fitted


def _load(task: Task, run: RunSettings, weights: Any, optimisers: Mapping[str, Any]) -> None:
    """Raises: DataError: they are of another model."""
    try:
        task.module.load_state_dict(weights)
        for name, each in optimisers.items():
            task.optimisers[name].load_state_dict(each)
    except (RuntimeError, ValueError, KeyError) as error:
        what = f"{run.checkpoint}: the checkpoint does not fit what is trained here ({error})"
        raise DataError(what, "start from the beginning with --force, without --resume") from error


def _saved(run: RunSettings) -> dict[str, Any]:
    """The `_state` in the checkpoint with --resume, else {}."""
    path = run.checkpoint
    if path is None or not path.exists():
        if run.resume:
            run.progress.log(f"{path}: no checkpoint; starting from the beginning")
        return {}
    if not run.resume:
        run.progress.log(f"{path}: an older run's checkpoint will be overwritten (--resume would continue it)")
        return {}
    return dict(load_checkpoint(path, run.identity, run.progress))
