"""train: semantic IDs, features or only sequences -> a recommender."""

from __future__ import annotations

import dataclasses
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import StageConfig, agreed, check_files, flag, input_files, of_role, option, stored
from bbqrec_cli.device import PRECISIONS
from bbqrec_cli.errors import UsageError
from bbqrec_cli.models.registry import MODELS, current_settings, model_config, model_settings
from bbqrec_cli.outputs import one_at_a_time
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bbqrec_cli.data.batches import Batch
    from bbqrec_cli.data.splits import HeldOut
    from bbqrec_cli.models.base import Recommender
    from bbqrec_cli.records import Catalogue, ItemData, TrainedModel
    from bbqrec_cli.training.trainer import Fitted, RunSettings, Stopping

CALIBRATED = 2000
"""Validation users, at most, on whom a model is calibrated before each validation."""


@dataclass(frozen=True, kw_only=True)
class LearningConfig(StageConfig):
    """How a model learns and is validated, in `train` and `tune`."""

    precision: str = option("auto", "auto, fp32 or bf16 autocast.", choices=PRECISIONS)
    validate_every: int = option(1, "Epochs between validations.", minimum=1)
    validation_users: int = option(
        0, "Users to validate on, evenly spaced: so many or somewhat more; 0: all.", minimum=0
    )
    validation_beam: int = option(20, "Beam width in validation, never below 10; 0: exact.", minimum=0)
    exclude_seen: bool = option(
        False, "Leave the items of a user's history out of the ranking in validation, the target never."
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LearningConfig):
    """Options of `bbqrec train`; those of the model are in `options`."""

    registry: ClassVar[Registry] = MODELS
    choice: ClassVar[str] = "model"

    input: Path = option(
        Path("tokens.h5"), "Tokens file; for models without semantic IDs, any file with interactions.", role="input",
        positional=True, complete=".h5",
    )  # fmt: skip
    output: Path = option(Path("model.h5"), "Model file to write.", role="output", short="-o", complete=".h5")
    model: str = option("bbqrec", "Model.", complete="models")
    recipe: str = option(
        "", "Named settings of model and options, or the path of a .toml file with such; other options override them.",
        complete="recipes",
    )  # fmt: skip
    from_: Path | None = option(
        None, "Model file to go on with: its model, settings and weights; the optimiser starts anew, and the input may "
        "have more users, interactions and items.", role="input", complete=".h5",
    )  # fmt: skip
    minutes: float = option(0.0, "Limit on the training time, in minutes; 0: none.", agreed=False, minimum=0)
    resume: bool = option(
        False, "Continue from the last checkpoint. One that is there is never lost without --force.", role="runtime"
    )
    options: dict = option({})

    @classmethod
    def completed(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """With --from, the model is that of its file (if there is none, `run` says so). Raises: `open_file`'s."""
        if given.get("model") or not Path(given.get("from_") or "").is_file():
            return given
        from bbqrec_cli.hdf5 import open_file

        with open_file(Path(given["from_"]), "model") as file:
            return {**given, "model": file.attribute("model")}


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What `bbqrec train --json` prints. before: with --from, the validation figures before the first epoch; best_epoch
    is 0 where no epoch was better; seconds: from the reading of the inputs to the written file; where the run was
    resumed, also those of the epochs before."""

    output: Path
    model: str
    epochs: int
    best_epoch: int
    validation: dict[str, float]
    seconds: float
    before: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        return dataclasses.asdict(self) | {"output": str(self.output)}


@one_at_a_time
def run(config: TrainConfig, progress: Progress = SILENT) -> TrainResult:
    """Train on the training part, choose the epoch on validation NDCG@10, write the model file.

    Raises:
        UsageError, DataError, LackingError and the errors of reading and writing files.
    """
    from bbqrec_cli.hdf5 import check_there, describe_parent, read_model, write_model
    from bbqrec_cli.origin import plugin_of, ran_on
    from bbqrec_cli.outputs import check_checkpoint, check_output, checkpoint_of
    from bbqrec_cli.records import TrainedModel

    earlier = read_model(config.from_) if config.from_ else None
    chosen = chosen_config(config, earlier)
    check_files(chosen)
    named = input_files(config, chosen)
    again = f"to go on with it: --from {shlex.quote(str(config.output))} -o ANOTHER.h5"
    instead = again if hasattr(chosen, "epochs") else ""
    check_there(config.input, "tokens")
    check_checkpoint(config.output, force=config.force, resume=config.resume)
    check_output(config.output, force=config.force, inputs=[path for _, path in named], instead=instead)
    from bbqrec_cli.models.task import CHOSEN_BY  # imports torch, which is no part of the time
    from bbqrec_cli.training.checkpoint import saved_seconds

    read = [(name, describe_parent(path)) for name, path in named]  # as they are before the long run
    began, checkpoint = time.perf_counter(), checkpoint_of(config.output)
    before = saved_seconds(checkpoint) if config.resume else 0.0
    made = learn(config, progress, checkpoint=checkpoint, read=read, earlier=earlier)
    model, data, fitted, training = made.model, made.data, made.fitted, made.training
    needed = model.needed(made.settings)
    trained = TrainedModel(
        catalogue=made.catalogue, name=config.model, settings=made.settings, history=fitted.history,
        weights={name: value.cpu().numpy() for name, value in model.state_dict().items()},
        codes=data.codes if "codes" in needed else None,
        features={name: data.features[name] for name in made.reads} if "features" in needed else {},
        earlier=[*earlier.earlier, {"history": earlier.history, "validation": fitted.before}] if earlier else [],
        earlier_interactions=made.earlier_interactions,
    )  # fmt: skip
    compared = sum(CHOSEN_BY in row for row in fitted.history) > 1
    if compared and fitted.best_epoch == len(fitted.history) and made.whole:
        progress.log("the last epoch was the best one on validation: more --epochs may help")
    if earlier and not fitted.best_epoch:
        what = f"no epoch was better on validation than {config.from_}" if fitted.history else "no epoch was trained"
        but = ["what its heads count and weigh"] if getattr(model, "heads", None) else []
        but += ["what follows from all items"] if made.refreshed else []
        counted = f" but for {' and '.join(but)}" if but else ""
        progress.warn(f"{what}: {config.output} has its weights unchanged{counted}")
    if training.world.writes:
        resolved = stored(config) | {"precision": training.precision, "options": stored(chosen)}
        resolved |= MODELS.recorded(config.model)
        write_model(
            config.output, trained, config=resolved, parents=[each for _, each in read], force=config.force,
            origin=ran_on(training.device, config.threads, training.precision) | plugin_of(type(chosen)),
        )  # fmt: skip
    training.world.barrier()
    if training.world.writes and fitted.history:  # else no checkpoint is this run's
        checkpoint.unlink(missing_ok=True)
    seconds = time.perf_counter() - began + (before if fitted.history else 0.0)
    return TrainResult(
        output=config.output, model=config.model, epochs=len(fitted.history), best_epoch=fitted.best_epoch,
        validation=fitted.best_figures, seconds=seconds, before=fitted.before,
    )  # fmt: skip


def chosen_config(config: TrainConfig, earlier: TrainedModel | None) -> Any:
    """The model's checked configuration; of a model that goes on, the options of its constructor are its file's.

    Raises:
        UsageError: wrong options, or some that contradict the file; nothing to go on with, or no epochs.
    """
    chosen = model_config(config.model, config.options)
    if earlier is None:
        if getattr(chosen, "epochs", 1) < 1:
            raise UsageError("--epochs is 0; it must be at least 1", "0 is for --from, to measure a model as it is")
        return chosen
    if earlier.name != config.model:
        said = f"--model is {config.model}, and {config.from_} holds the model {earlier.name}"
        raise UsageError(said, f"leave it out, or give --model {earlier.name}")
    if not hasattr(chosen, "epochs"):
        said = (
            f"--from {config.from_}: the model {earlier.name} is not trained in epochs: there is nothing to go on with"
        )
        raise UsageError(said, "bbqrec train without --from")
    kept = model_config(earlier.name, current_settings(earlier.settings))
    of_file = of_role(kept, "model")
    for name in config.options.keys() & of_file.keys():
        if getattr(chosen, name) != of_file[name]:
            said = f"{flag(name)} is {getattr(chosen, name)}, and the model of {config.from_} has {of_file[name]}"
            raise UsageError(said, "leave it out: a model that goes on keeps what it is made of")
    before = {"pretrain_epochs": 0} if hasattr(chosen, "pretrain_epochs") else {}  # of the model that goes on
    return model_config(earlier.name, config.options | of_file | before)


@dataclass(frozen=True, eq=False, kw_only=True)
class Learnt:
    """A model at its best epoch.

    reads: the features that it reads; refreshed: what follows from all items was computed anew before; whole: no time
    limit and no `watch` ended it; earlier_interactions: as in `TrainedModel`.
    """

    model: Recommender
    settings: dict[str, Any]
    catalogue: Catalogue
    data: ItemData
    reads: list[str]
    fitted: Fitted
    training: RunSettings
    refreshed: bool
    whole: bool
    earlier_interactions: np.ndarray | None


def learn(
    config: TrainConfig, progress: Progress = SILENT, *, checkpoint: Path | None = None,
    read: Sequence[tuple[str, Mapping[str, Any]]] = (),
    watch: Callable[[Mapping[str, Any]], bool] = lambda row: False, earlier: TrainedModel | None = None,
) -> Learnt:  # fmt: skip
    """Train on the training part and choose the epoch on validation NDCG@10; no file is written but the checkpoint.

    read: of the inputs, for the checkpoint, as for `trainer.identity`; watch: see `Stopping`; earlier: the model of
    `config.from_`.

    Raises:
        UsageError, DataError, LackingError and the errors of reading files.
    """
    from bbqrec_cli.data.leakage import check_held_out, lost
    from bbqrec_cli.data.splits import nobody, split_of, subsample_users
    from bbqrec_cli.hdf5 import read_item_data
    from bbqrec_cli.models.new_items import load_earlier
    from bbqrec_cli.models.registry import build_model
    from bbqrec_cli.models.task import CHOSEN_BY
    from bbqrec_cli.seeds import seed_torch
    from bbqrec_cli.training.distributed import start_process
    from bbqrec_cli.training.trainer import Fitted, RunSettings, Stopping, identity, precision_of_run

    chosen = chosen_config(config, earlier)
    settings = model_settings(chosen)
    if earlier and config.options.get("pretrain_epochs"):
        progress.log("--pretrain-epochs has no effect: --from trains the last phase alone")
    for line in chosen.without_effect(config.options):
        progress.log(line)
    world, device = start_process(config.device, config.threads)
    catalogue, data = read_item_data(config.input)
    if earlier:  # it reads the features that it read, whatever more there is
        known = {name: data.features[name] for name in data.features if name in earlier.features}
        data = dataclasses.replace(data, features=known)
    seed_torch(config.seed, "weights")
    model = build_model(config.model, settings, data).to(device)
    split = split_of(catalogue.sequences, history=model.history)
    if not len(split.validation.users):
        raise nobody(config.input, catalogue, "validate on")
    continued = checkpoint if config.resume else None
    precision = precision_of_run(config.precision, device, continued=continued, world=world)
    reads = [name for name in data.features if model.reads is None or name in model.reads]
    if "features" in model.needed(settings):
        progress.log(f"{config.model} reads the features {', '.join(reads)}")
    before, refreshed = None, False
    if earlier:
        refreshed = load_earlier(model, earlier, catalogue, data, where=str(config.input))
        before = check_held_out(earlier, catalogue, name=config.from_, where=config.input)
        if gone := lost(before, catalogue):
            progress.warn(
                f"{config.input} lacks {gone:,} interactions that {config.from_} was trained on; items without any "
                "here count as cold in `evaluate`"
            )
    model.prepare(split.train)
    of_run = agreed(config) | {"precision": precision, "options": agreed(chosen)}
    training = RunSettings(
        seed=config.seed, device=device, precision=precision, progress=progress, checkpoint=checkpoint,
        resume=config.resume, identity=identity(of_run, read), world=world,
    )  # fmt: skip
    phases = model.phases(split.train, chosen, seed=config.seed)
    held = subsample_users(split.validation, config.validation_users)
    at_once = min(256, max(32, getattr(chosen, "batch_size", 256)))  # where memory is short, batches are small
    validate = validation(
        held, config.validation_beam, training, batch_size=at_once, exclude_seen=config.exclude_seen
    )  # fmt: skip
    stopping = Stopping(
        validate_every=config.validate_every, patience=getattr(chosen, "patience", 0), minutes=config.minutes,
        watch=watch, first=earlier is not None,
    )  # fmt: skip
    fitted = fit(model, phases, chosen, validate, training, stopping) if phases else Fitted()
    if not phases:
        fitted.best_figures = validate(model.eval())
    whole = len(fitted.history) == sum(phase.epochs for phase in phases) or fitted.stale(CHOSEN_BY, stopping.patience)
    return Learnt(
        model=model, settings=settings, catalogue=catalogue, data=data, reads=reads, fitted=fitted, training=training,
        refreshed=refreshed, whole=whole, earlier_interactions=before,
    )  # fmt: skip


def fit(
    model: Recommender, phases: Any, chosen: Any, validate: Callable[[Recommender], dict[str, float]],
    training: RunSettings, stopping: Stopping,
) -> Fitted:  # fmt: skip
    """Train by gradient. chosen: the model's configuration."""
    from bbqrec_cli.models.task import RecommenderTask
    from bbqrec_cli.training.trainer import train

    return train(RecommenderTask(model, phases, chosen, validate), training, stopping)


def validation(
    held: HeldOut, beam: int, training: RunSettings, *, batch_size: int, exclude_seen: bool
) -> Callable[[Recommender], dict[str, float]]:
    """A function that measures Recall@10 and NDCG@10 of a model on held-out users, shared among processes.

    The model is calibrated before, on `CALIBRATED` of them.
    """
    import torch

    from bbqrec_cli.data.batches import held_out_batches
    from bbqrec_cli.device import autocast
    from bbqrec_cli.evaluation.metrics import aggregate
    from bbqrec_cli.evaluation.protocol import target_ranks

    some = held.every(max(1, math.ceil(len(held.users) / CALIBRATED)))

    def shown() -> Iterator[tuple[Batch, torch.Tensor | None]]:
        for rows, batch in held_out_batches(some, batch_size):
            seen = torch.from_numpy(some.seen(rows)).to(training.device) if exclude_seen else None
            yield batch.to(training.device), seen

    def validate(model: Recommender) -> dict[str, float]:
        with autocast(training.device, training.precision):
            model.calibrate(shown())
        training.world.broadcast(model)  # what is chosen is the same in all processes
        ranks = target_ranks(
            model, held, depth=10, beam=beam, device=training.device, precision=training.precision,
            batch_size=batch_size, exclude_seen=exclude_seen, progress=training.progress, world=training.world,
        )  # fmt: skip
        return aggregate(ranks, (10,))

    return validate
