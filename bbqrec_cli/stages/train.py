"""train: semantic IDs and training sequences -> a recommender."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import StageConfig, option, stored
from bbqrec_cli.device import PRECISIONS
from bbqrec_cli.errors import DataError
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from bbqrec_cli.data.splits import Split
    from bbqrec_cli.models.base import Recommender
    from bbqrec_cli.records import Catalogue, Codes
    from bbqrec_cli.training.loop import Fitted, Training


@dataclass(frozen=True, kw_only=True)
class TrainConfig(StageConfig):
    """Options of `bbqrec train`; those of the model are in `options`."""

    input: Path = option(
        Path("tokens.h5"), "Tokens file (sasrec, popularity: any file with sequences).", positional=True
    )
    output: Path = option(Path("model.h5"), "Model file to write.", short="-o", stored=False)
    model: str = option("bbqrec", "bbqrec, tiger, sasrec or popularity.")
    paper: bool = option(False, "The paper's exact setting where the defaults depart from it; other options win.")
    precision: str = option("auto", "auto, fp32 or bf16 autocast.", choices=PRECISIONS)
    validate_every: int = option(1, "Epochs between validations.", minimum=1)
    validation_users: int = option(0, "Validate on about so many users, evenly taken; 0: all.", minimum=0)
    validation_beam: int = option(20, "Beams while validating.", minimum=10)
    minutes: float = option(0.0, "Stop training after so many minutes; 0: no limit.", minimum=0)
    resume: bool = option(False, "Go on from the last checkpoint.", stored=False)
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
    from bbqrec_cli.data.splits import HISTORY, leave_last_out
    from bbqrec_cli.device import resolve_device, resolve_precision, set_threads
    from bbqrec_cli.hdf5 import check_output, sha256, write_model
    from bbqrec_cli.models.registry import build_model, model_config, model_settings
    from bbqrec_cli.records import TrainedModel
    from bbqrec_cli.seeds import seed_torch
    from bbqrec_cli.training.loop import Training

    chosen = model_config(config.model, config.options, paper=config.paper)
    settings = model_settings(chosen)
    check_output(config.output, force=config.force, inputs=[config.input])
    set_threads(config.threads)
    device = resolve_device(config.device)
    catalogue, codes = read_input(config.input)
    split = leave_last_out(catalogue.sequences, history=settings.get("history", HISTORY))
    if not len(split.validation.users):
        raise DataError(f"{config.input}: no user has 3 items, so there is nothing to validate on", "bbqrec prepare")
    precision = resolve_precision(config.precision, device)
    resolved = stored(config) | {"options": stored(chosen)}
    # Neither where the input lies nor when to stop is what a resumed run must agree on.
    run_of = {k: v for k, v in resolved.items() if k not in ("input", "minutes")} | {"precision": precision}
    checkpoint = config.output.with_name(config.output.name + ".checkpoint")
    seed_torch(config.seed, "weights")
    model = build_model(config.model, settings, items=catalogue.items, codes=codes).to(device)
    model.prepare(split.train, codes)
    training = Training(
        epochs=getattr(chosen, "epochs", 0), learning_rate=getattr(chosen, "learning_rate", 0.0),
        weight_decay=getattr(chosen, "weight_decay", 0.0), warmup=getattr(chosen, "warmup", 0.0),
        patience=getattr(chosen, "patience", 0), validate_every=config.validate_every, minutes=config.minutes,
        seed=config.seed, precision=precision, device=device, checkpoint=checkpoint, resume=config.resume,
        progress=progress, identity={"config": run_of, "parents": {"the input's sha256": sha256(config.input)}},
    )  # fmt: skip
    fitted = fit_model(model, split, training, config, chosen)
    weights = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    trained = TrainedModel(
        catalogue=catalogue, name=config.model, settings=settings, weights=weights,
        codes=codes if model.needs_codes else None, history=fitted.history,
    )  # fmt: skip
    write_model(config.output, trained, config=resolved, parents=[config.input], force=config.force)
    checkpoint.unlink(missing_ok=True)
    return TrainResult(
        output=config.output, model=config.model, epochs=len(fitted.history), best_epoch=fitted.best_epoch,
        validation=fitted.best_figures, seconds=fitted.seconds,
    )  # fmt: skip


def fit_model(model: Recommender, split: Split, training: Training, config: TrainConfig, chosen: Any) -> Fitted:
    """Train by gradient, or only measure a model that has nothing to train. chosen: the model's configuration."""
    from bbqrec_cli.data.batches import PrefixBatches, WindowBatches, held_out_batches
    from bbqrec_cli.data.splits import thinned
    from bbqrec_cli.device import autocast
    from bbqrec_cli.training.loop import Fitted, fit

    held = thinned(split.validation, config.validation_users)

    def validate(model: Recommender) -> dict[str, float]:
        from bbqrec_cli.evaluation.metrics import aggregate
        from bbqrec_cli.evaluation.protocol import target_ranks

        with autocast(training.device, training.precision):
            model.calibrate(batch.to(training.device) for _, batch in held_out_batches(held, 256))
        ranks = target_ranks(
            model, held, depth=10, beam=config.validation_beam, device=training.device, precision=training.precision,
            progress=training.progress,
        )  # fmt: skip
        return aggregate(ranks, (10,))

    if model.trained_on == "nothing":
        return Fitted(best_figures=validate(model.eval()))
    cls = WindowBatches if model.trained_on == "windows" else PrefixBatches
    batches = cls(split.train, batch_size=chosen.batch_size, seed=training.seed, history=chosen.history)
    return fit(model, batches, validate, training)


def read_input(path: Path) -> tuple[Catalogue, Codes | None]:
    """The catalogue of any file, and its semantic IDs if it has some."""
    from bbqrec_cli.hdf5 import open_file, read_catalogue, read_codes

    with open_file(path, "tokens", "features", "dataset") as file:
        has_codes = file.kind == "tokens"
    return read_codes(path) if has_codes else (read_catalogue(path), None)
