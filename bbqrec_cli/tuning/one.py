"""One system's tuning as a step of a benchmark: a tokens file and a budget -> a ledger; and its best settings again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bbqrec_cli.config import option, stored
from bbqrec_cli.errors import DataError, InterruptedRunError
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.registry import Registry
from bbqrec_cli.tuning.budget import BudgetConfig, check_input, left, one_more, origin_of, study_of, trials_of
from bbqrec_cli.tuning.result import all_failed, best_of
from bbqrec_cli.tuning.systems import System, shown, space_of


@dataclass(frozen=True, kw_only=True)
class OneConfig(BudgetConfig):
    """The tuning of one system.

    options: the model's that are not its defaults, values of the first trial; fixed: the names of those that are not
    tuned; tried: what is tried for the others, in words.
    """

    registry: ClassVar[Registry] = MODELS
    choice: ClassVar[str] = "model"

    output: Path = option(Path("tuning.h5"), role="output")
    model: str = option()
    fixed: tuple[str, ...] = option(())
    tried: dict = option({})
    options: dict = option({})

    @property
    def system(self) -> System:
        """What is tuned, by the name of its model."""
        base, config = self.options, MODELS.config(self.model)(**self.options)
        space = space_of(self.model, config, fixed=self.fixed)
        return System(
            name=self.model, model=self.model, recipe="", base=base, space=space, validate_every=self.validate_every
        )

    @property
    def complete(self) -> OneConfig:
        """With `tried`: {} where there is nothing to try."""
        return dataclasses.replace(self, tried={name: shown(each) for name, each in self.system.space.items()})


@dataclass(frozen=True, kw_only=True)
class OneResult:
    """trials: how many; seconds: all of them; validation: the best one's figures."""

    trials: int
    seconds: float
    validation: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def run(config: OneConfig, progress: Progress = SILENT) -> OneResult:
    """Run what the budget allows, on from a journal beside the output; then write the ledger.

    Raises:
        DataError: every trial failed, or an input that does not fit; the errors of reading and writing files.
        LackingError: the device or Optuna is not there.
        InterruptedRunError: interrupted; the same step goes on.
    """
    from bbqrec_cli.hdf5 import describe_parent, write_tuning
    from bbqrec_cli.tuning.study import import_optuna, open_journal

    system, optuna = config.system, import_optuna()
    journal = config.output.with_name(f"{config.output.name}.journal")  # until the ledger is written
    check_input(config, [system])
    tuned_on = describe_parent(config.input)
    study = study_of(config, system, open_journal(journal), tuned_on["sha256"])
    origin = origin_of(config, optuna.__version__)
    try:
        while left(config, study):
            one_more(config, study, origin, progress)
    except (InterruptedRunError, KeyboardInterrupt):
        raise InterruptedRunError(f"interrupted after {len(study.outcomes())} trials") from None
    trials = trials_of([study])
    best = best_of(trials)
    if best is None:
        journal.unlink()  # the next time may go better
        raise DataError(all_failed(trials))
    tuning = {"systems": {system.name: system.to_json()}, "budget": config.budget, "trials": trials}
    write_tuning(config.output, tuning, config=stored(config), parents=[tuned_on])
    journal.unlink(missing_ok=True)
    seconds = sum(each["seconds"] for each in trials)
    return OneResult(trials=len(trials), seconds=seconds, validation=best["figures"])


def best_options(ledger: Path) -> dict[str, Any]:
    """All options of the model in the best trial of a ledger. Raises: the errors of reading files."""
    from bbqrec_cli.hdf5 import read_tuning

    best = best_of(read_tuning(ledger)["trials"])
    if best is None:
        raise DataError(f"{ledger}: no trial has a figure")
    return dict(best["options"])
