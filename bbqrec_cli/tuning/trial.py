"""One trial: the training that `bbqrec train` does, without a file at the end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from bbqrec_cli.errors import BBQRecError, InterruptedRunError
from bbqrec_cli.models.task import CHOSEN_BY
from bbqrec_cli.progress import Progress
from bbqrec_cli.stages.train import TrainConfig, learn
from bbqrec_cli.tuning.study import Outcome
from bbqrec_cli.tuning.systems import System, in_effect


class Pruning:
    """Hands a trial's validations to Optuna, and ends its training where Optuna says so."""

    def __init__(self, trial: Any) -> None:
        self._trial, self._reports, self.pruned = trial, 0, False

    def __call__(self, row: Mapping[str, Any]) -> bool:
        """See `Stopping.watch`."""
        if CHOSEN_BY in row:
            self._reports += 1
            self._trial.report(row[CHOSEN_BY], self._reports)
            self.pruned = self._trial.should_prune()
        return self.pruned


def run_trial(
    system: System, trial: Any, values: Mapping[str, Any], config: TrainConfig, origin: Mapping[str, Any],
    progress: Progress,
) -> Outcome:  # fmt: skip
    """Train and validate. What goes wrong in it is its outcome; but for an interruption nothing is raised. Its seconds
    are those of all it does: reading, training, validation.

    Args:
        trial, values: of `Study.ask`.
        config: of the training, but for the model and its options.
        origin: where it runs.

    Raises:
        InterruptedRunError, KeyboardInterrupt.
    """
    watch, began = Pruning(trial), time.monotonic()
    outcome: Outcome = {
        "status": "failed", "error": "", "options": {}, "tuned": dict(values), "figures": {}, "epochs": 0,
        "best_epoch": 0, "origin": dict(origin),
    }  # fmt: skip
    try:
        outcome["options"] = system.options(values)
        # Of options without an effect, those that were given are said.
        options = {**system.base, **in_effect(system.model, {**system.base, **values})}
        config = dataclasses.replace(config, model=system.model, options=options)
        made = learn(config, progress, watch=watch)
        fitted = made.fitted
        outcome["status"] = "pruned" if watch.pruned and not made.whole else "complete" if made.whole else "cut"
        outcome |= {"figures": fitted.best_figures, "epochs": len(fitted.history), "best_epoch": fitted.best_epoch}
        outcome["origin"]["precision"] = made.training.precision
    except InterruptedRunError:
        raise
    except BBQRecError as error:
        outcome["error"] = error.message
    except Exception as error:  # such as torch's when memory is short; a bug here must not end all trials
        outcome["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    outcome["seconds"] = time.monotonic() - began
    outcome["finished"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return outcome
