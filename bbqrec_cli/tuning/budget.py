"""Trials within a system's budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import agreed, option, shared
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.program import digest
from bbqrec_cli.progress import Progress
from bbqrec_cli.stages.train import LearningConfig, TrainConfig
from bbqrec_cli.tuning.systems import System

if TYPE_CHECKING:
    from bbqrec_cli.tuning.study import Study

TRIALS = 20


@dataclass(frozen=True, kw_only=True)
class BudgetConfig(LearningConfig):
    """What is spent on each system, and on what."""

    input: Path = option(
        Path("tokens.h5"), "Tokens file; for models without semantic IDs, any file with interactions.", role="input",
        positional=True, complete=".h5",
    )  # fmt: skip
    trials: int | None = option(
        None, "Trials of each system. [default: 20, with --minutes no limit]", agreed=False, minimum=1
    )
    minutes: float = option(
        0.0, "Time of each system's trials, in minutes; the last one ends with its epoch then. 0: no limit.",
        agreed=False, minimum=0,
    )  # fmt: skip
    trial_minutes: float = option(
        0.0, "Time of a single trial, in minutes, after which it counts with what it has reached. 0: no limit.",
        minimum=0,
    )  # fmt: skip

    @property
    def budget(self) -> dict[str, Any]:
        """Of each system: trials and minutes, and minutes of a trial, 0 for no limit."""
        trials = self.trials or (0 if self.minutes else TRIALS)
        return {"trials": trials, "minutes": self.minutes, "trial_minutes": self.trial_minutes}


def check_input(config: BudgetConfig, systems: Sequence[System]) -> None:
    """Raises: DataError: a model lacks what it needs, or there is nobody to validate on; the errors of reading."""
    from bbqrec_cli.data.splits import nobody, split_of
    from bbqrec_cli.hdf5 import read_item_data
    from bbqrec_cli.models.registry import check_needs, model_config, model_settings

    catalogue, data = read_item_data(config.input)
    for system in systems:
        check_needs(system.model, model_settings(model_config(system.model, system.base)), data)
    if not len(split_of(catalogue.sequences).validation.users):
        raise nobody(config.input, catalogue, "validate on")


def study_of(config: BudgetConfig, system: System, storage: Any, content: str) -> Study:
    """A system's trials so far. storage: of `open_journal`; content: checksum of the input. Raises: as `Study`."""
    from bbqrec_cli.tuning.study import Study

    reports = 0 if config.trial_minutes else system.validations
    return Study(storage, system, seed=config.seed, identity=identity(config, system, content), reports=reports)


def origin_of(config: BudgetConfig, optuna: str) -> dict[str, Any]:
    """Where trials run. optuna: its version."""
    from bbqrec_cli.origin import origin

    found = origin(config.device, config.threads)
    return found | {"packages": found["packages"] | {"optuna": optuna}}


def identity(config: BudgetConfig, system: System, content: str) -> dict[str, Any]:
    """What must be the same when a system's trials go on. content: checksum of the input."""
    base = {key: value for key, value in system.options({}).items() if key in system.base}
    about, cls = system.to_json(), MODELS.config(system.model)
    modules = cls.__module__, cls.implementation.partition(":")[0]
    of_plugin = not cls.__module__.startswith("bbqrec_cli.")  # who writes one changes it often
    return ({"program": digest(*filter(None, modules))[:12]} if of_plugin else {}) | {
        "config": agreed(config) | {"validate_every": system.validate_every},
        "model": about["model"],
        "options": base,
        "tried": about["tried"],
        "input": content,
    }


def most_trials(config: BudgetConfig, study: Study) -> int:
    """A system's budget of trials, 0 for no limit. Where nothing is tuned, one is all there is."""
    return config.budget["trials"] if study.system.space else 1


def left(config: BudgetConfig, study: Study) -> bool:
    """Whether a system's budget allows another trial."""
    return (bool(study.system.space) or not study.whole()) and may_have_more(config, study.outcomes())


def may_have_more(config: BudgetConfig, outcomes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the budget allows another trial after these."""
    whole, trials = sum(each["status"] != "cut" for each in outcomes), config.budget["trials"]
    return (not trials or whole < trials) and (not config.minutes or minutes_left(config, outcomes) > 0)


def minutes_left(config: BudgetConfig, outcomes: Sequence[Mapping[str, Any]]) -> float:
    """What is left of a system's minutes after these trials."""
    return config.minutes - sum(each["seconds"] for each in outcomes) / 60


def check_budget(config: BudgetConfig, study: Study) -> None:
    """Raises: as `check_had`."""
    check_had(config, study.system.name, study.outcomes(), most_trials(config, study))


def check_had(config: BudgetConfig, name: str, had: Sequence[Mapping[str, Any]], trials: int) -> None:
    """Raises: UsageError: a system has had more than the budget, in which the others would stay behind it.

    had: its trials; trials: how many it may have, 0: as many as the minutes allow.
    """
    before = minutes_left(config, had[:-1]) if config.minutes and had else 1.0
    if (trials and len(had) > trials) or before <= 0:
        took = f"{len(had)} trials of {sum(each['seconds'] for each in had) / 60:.3g} minutes"
        what = f"{name} has had more than this budget in this folder: {took}"
        raise UsageError(what, "give all systems the larger budget, or -o elsewhere")


def one_more(config: BudgetConfig, study: Study, origin: Mapping[str, Any], progress: Progress) -> None:
    """Run a system's next trial. Raises: DataError: the input is another one than the trials' before."""
    from bbqrec_cli.hdf5 import sha256
    from bbqrec_cli.tuning.trial import run_trial

    trial, values = study.ask()
    number = len(study.whole()) + 1
    said = ", ".join(f"{name} {value}" for name, value in values.items())
    progress.log(f"{study.system.name}, trial {number}{f': {said}' if said else ''}")
    learning = shared(config, LearningConfig) | {"validate_every": study.system.validate_every}
    limits = [minutes_left(config, study.whole())] if config.minutes else []
    limits += [config.trial_minutes] if config.trial_minutes else []
    training = TrainConfig(**learning, input=config.input, minutes=min(limits, default=0.0))
    outcome = run_trial(study.system, trial, values, training, origin, progress)
    if sha256(config.input) != study.content:
        what = f"{config.input}: has changed since the tuning began; the last trial, of {study.system.name}, is void"
        raise DataError(what, "put it back and give the same command, or tune the new one with -o elsewhere")
    if outcome["status"] == "cut" and training.minutes == config.trial_minutes:
        outcome["status"] = "complete"  # it has had all that a trial may have
    study.tell(trial, outcome)
    if outcome["status"] == "failed":
        progress.warn(f"{study.system.name}, trial {number} failed: {outcome['error']}")
    else:
        ndcg = outcome["figures"]["ndcg@10"]
        progress.log(f"{study.system.name}, trial {number} {outcome['status']}: validation ndcg@10 {ndcg:.4f}")


def trials_of(studies: Sequence[Study]) -> list[dict[str, Any]]:
    """The finished trials of all systems, as the ledger has them: the first of each, then the second of each."""
    numbered = [
        (number, {"system": study.system.name, "model": study.system.model, "number": number} | outcome)
        for study in studies
        for number, outcome in enumerate(study.outcomes(), 1)
    ]
    return [trial for _, trial in sorted(numbered, key=lambda each: each[0])]
