"""train: semantic IDs, features or only sequences -> a recommender."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import StageConfig, agreed, check_files, input_files, option, stored
from bbqrec_cli.device import PRECISIONS
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.registry import MODELS, model_config, model_settings
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.registry import Registry

if TYPE_CHECKING:
    from bbqrec_cli.data.splits import HeldOut
    from bbqrec_cli.models.base import Recommender
    from bbqrec_cli.records import Catalogue, ItemData
    from bbqrec_cli.training.trainer import Fitted, RunSettings, Stopping


@dataclass(frozen=True, kw_only=True)
class LearningConfig(StageConfig):
    """How a model learns and is validated, in `train` and `tune`."""

    precision: str = option("auto", "auto, fp32 or bf16 autocast.", choices=PRECISIONS)
    validate_every: int = option(1, "Epochs between validations.", minimum=1)
    validation_users: int = option(0, "Users to validate on, about, evenly spaced; 0: all.", minimum=0)
    validation_beam: int = option(20, "Beam width in validation, at least 10; 0: exact.", minimum=0)
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
    minutes: float = option(0.0, "Limit on the training time, in minutes; 0: none.", agreed=False, minimum=0)
    resume: bool = option(False, "Continue from the last checkpoint.", role="runtime")
    options: dict = option({})


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What `bbqrec train --json` prints."""

    output: Path
    model: str
    epochs: int
    best_epoch: int
    validation: dict[str, float]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        return dataclasses.asdict(self) | {"output": str(self.output)}


def run(config: TrainConfig, progress: Progress = SILENT) -> TrainResult:
    """Train on the training part, choose the epoch on validation NDCG@10, write the model file.

    Raises:
        UsageError, DataError, LackingError and the errors of reading and writing files.
    """
    from bbqrec_cli.hdf5 import check_output, write_model
    from bbqrec_cli.origin import plugin_of, ran_on
    from bbqrec_cli.records import TrainedModel

    chosen = model_config(config.model, config.options)
    check_files(chosen)
    parents = [path for _, path in input_files(config, chosen)]
    check_output(config.output, force=config.force, inputs=parents)
    checkpoint = config.output.with_name(config.output.name + ".checkpoint")
    made = learn(config, progress, checkpoint=checkpoint)
    model, data, fitted, training = made.model, made.data, made.fitted, made.training
    needed = model.needed(made.settings)
    trained = TrainedModel(
        catalogue=made.catalogue, name=config.model, settings=made.settings, history=fitted.history,
        weights={name: value.cpu().numpy() for name, value in model.state_dict().items()},
        codes=data.codes if "codes" in needed else None,
        features={name: data.features[name] for name in made.reads} if "features" in needed else {},
    )  # fmt: skip
    if training.world.writes:
        resolved = stored(config) | {"precision": training.precision, "options": stored(chosen)}
        resolved |= MODELS.recorded(config.model)
        write_model(
            config.output, trained, config=resolved, parents=parents, force=config.force,
            origin=ran_on(training.device, config.threads, training.precision) | plugin_of(type(chosen)),
        )  # fmt: skip
        if fitted.history:
            checkpoint.unlink(missing_ok=True)
    training.world.barrier()
    return TrainResult(
        output=config.output, model=config.model, epochs=len(fitted.history), best_epoch=fitted.best_epoch,
        validation=fitted.best_figures, seconds=fitted.seconds,
    )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Learnt:
    """A model at its best epoch. reads: the features that it reads; whole: no time limit and no `watch` ended it."""

    model: Recommender
    settings: dict[str, Any]
    catalogue: Catalogue
    data: ItemData
    reads: list[str]
    fitted: Fitted
    training: RunSettings
    whole: bool


def learn(
    config: TrainConfig, progress: Progress = SILENT, *, checkpoint: Path | None = None,
    watch: Callable[[Mapping[str, Any]], bool] = lambda row: False,
) -> Learnt:  # fmt: skip
    """Train on the training part and choose the epoch on validation NDCG@10; no file is written but the checkpoint.

    watch: see `Stopping`.

    Raises:
        UsageError, DataError, LackingError and the errors of reading files.
    """
    from bbqrec_cli.data.splits import HISTORY, leave_last_out, subsample_users
    from bbqrec_cli.device import resolve_precision
    from bbqrec_cli.hdf5 import read_item_data
    from bbqrec_cli.models.registry import build_model
    from bbqrec_cli.models.task import CHOSEN_BY
    from bbqrec_cli.seeds import seed_torch
    from bbqrec_cli.training.distributed import start_process
    from bbqrec_cli.training.trainer import Fitted, RunSettings, Stopping, identity

    chosen = model_config(config.model, config.options)
    settings = model_settings(chosen)
    world, device = start_process(config.device, config.threads)
    catalogue, data = read_item_data(config.input)
    split = leave_last_out(catalogue.sequences, history=settings.get("history", HISTORY))
    if not len(split.validation.users):
        raise DataError(f"{config.input}: no user has 3 interactions: nothing to validate on", "bbqrec prepare")
    precision = resolve_precision(config.precision, device)
    seed_torch(config.seed, "weights")
    model = build_model(config.model, settings, data).to(device)
    reads = [name for name in data.features if model.reads is None or name in model.reads]
    if "features" in model.needed(settings):
        progress.log(f"{config.model} reads the features {', '.join(reads)}")
    model.prepare(split.train)
    of_run = agreed(config) | {"precision": precision, "options": agreed(chosen)}
    training = RunSettings(
        seed=config.seed, device=device, precision=precision, progress=progress, checkpoint=checkpoint,
        resume=config.resume, identity=identity(of_run, input_files(config, chosen)) if checkpoint else {}, world=world,
    )  # fmt: skip
    phases = model.phases(split.train, chosen, seed=config.seed)
    held = subsample_users(split.validation, config.validation_users)
    validate = validation(held, config.validation_beam, training, exclude_seen=config.exclude_seen)
    stopping = Stopping(
        validate_every=config.validate_every, patience=getattr(chosen, "patience", 0), minutes=config.minutes,
        watch=watch,
    )  # fmt: skip
    fitted = fit(model, phases, chosen, validate, training, stopping) if phases else Fitted()
    if not phases:
        fitted.best_figures = validate(model.eval())
    whole = len(fitted.history) == sum(phase.epochs for phase in phases) or fitted.stale(CHOSEN_BY, stopping.patience)
    return Learnt(
        model=model, settings=settings, catalogue=catalogue, data=data, reads=reads, fitted=fitted, training=training,
        whole=whole,
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
    held: HeldOut, beam: int, training: RunSettings, *, exclude_seen: bool
) -> Callable[[Recommender], dict[str, float]]:
    """A function that measures Recall@10 and NDCG@10 of a model on held-out users, shared among processes."""
    from bbqrec_cli.data.batches import held_out_batches
    from bbqrec_cli.device import autocast
    from bbqrec_cli.evaluation.metrics import aggregate
    from bbqrec_cli.evaluation.protocol import target_ranks

    def validate(model: Recommender) -> dict[str, float]:
        with autocast(training.device, training.precision):
            model.calibrate(batch.to(training.device) for _, batch in held_out_batches(held, 256))
        ranks = target_ranks(
            model, held, depth=10, beam=beam, device=training.device, precision=training.precision,
            exclude_seen=exclude_seen, progress=training.progress, world=training.world,
        )  # fmt: skip
        return aggregate(ranks, (10,))

    return validate
