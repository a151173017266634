"""What a suite's `[tune]` table says: the budget of every system."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.checks import chosen, table
from bbqrec_cli.config import from_mapping, option, search_of, shared
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


def read_tune(values: Mapping[str, Any], path: Path, train_minutes: float) -> Tune | None:
    """The suite's `[tune]` table, if there is one. Raises: UsageError: something in it that does not fit.

    train_minutes: the limit of a trial where the table has none; 0: none.
    """
    if "tune" not in values:
        return None
    where = f"{path}: [tune]"
    given = {"trial_minutes": train_minutes} | table(values["tune"], where)
    made = from_mapping(Tune, given, where=where)
    if not made.trials and not made.minutes:
        raise UsageError(f"{where} needs trials or minutes, the budget of every system", "minutes = 10")
    return made


def tuning_of(
    config: TrainConfig, given: Sequence[str], tuned: Any, tune: Tune | None, where: str
) -> OneConfig | None:  # fmt: skip
    """What is tried for a system. None without a budget, or where nothing is to be tried.

    given: the keys of its table; these options are fixed, but for those that `tuned` names. They, the settings of its
    recipe and the defaults are the first trial's. tuned: what its table says for `tune`: whether it is tuned, or names.

    Raises: UsageError: `tuned` is something else.
    """
    cls = MODELS.config(config.model)
    own = {f.name for f in dataclasses.fields(cls)} & set(given)
    free: tuple[str, ...] = ()
    if not isinstance(tuned, bool):
        free = chosen(
            tuned, [name for name in given if name in own and search_of(cls, name)], f"{where}: tune", optional=True
        )
    if tune is None or tuned is False:
        return None
    budget = dataclasses.asdict(tune) | {"trials": tune.trials or None}
    made = OneConfig(
        **(shared(config, LearningConfig) | budget), model=config.model, options=config.options,
        fixed=tuple(sorted(name for name in given if name in own and name not in free)),
    ).complete  # fmt: skip
    return made if made.tried else None
