"""What a suite's `[tune]` table says: the budget of every system."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.checks import table
from bbqrec_cli.config import from_mapping, option
from bbqrec_cli.errors import UsageError
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.stages.train import LearningConfig, TrainConfig
from bbqrec_cli.tuning.one import OneConfig


@dataclass(frozen=True, kw_only=True)
class Tune:
    """A `[tune]` table: the budget of every system; seed: of the trials, and of the IDs that they are made on."""

    trials: int = option(0, minimum=0)
    minutes: float = option(0.0, minimum=0)
    trial_minutes: float = option(0.0, minimum=0)
    seed: int = option(0, minimum=0)


def read_tune(values: Mapping[str, Any], path: Path) -> Tune | None:
    """The suite's `[tune]` table, if there is one. Raises: UsageError: something in it that does not fit."""
    if "tune" not in values:
        return None
    where = f"{path}: [tune]"
    made = from_mapping(Tune, table(values["tune"], where), where=where)
    if not made.trials and not made.minutes:
        raise UsageError(f"{where} needs trials or minutes, the budget of every system", "minutes = 10")
    return made


def tuning_of(config: TrainConfig, fixed: Sequence[str], tune: Tune | None) -> OneConfig | None:
    """What is tried for a system. None without a budget, or where nothing is to be tried.

    fixed: the options that are not tuned: those of its table, but for what its `tune` names. These, the settings of its
    recipe and the defaults are the first trial's.
    """
    if tune is None:
        return None
    learning = {f.name: getattr(config, f.name) for f in dataclasses.fields(LearningConfig)}
    own = {f.name for f in dataclasses.fields(MODELS.config(config.model))}
    made = OneConfig(
        **(learning | dataclasses.asdict(tune) | {"trials": tune.trials or None}), model=config.model,
        options=config.options, fixed=tuple(name for name in fixed if name in own),
    ).complete  # fmt: skip
    return made if made.tried else None
