"""The trials of a system: what is tried next, and what became of the last ones. In Optuna's journal, on disk.

A trial counts once it is finished. One that was killed is not: its values are asked for again. So are those of one
that was cut, where the budget has grown; what it reached counts until then.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bbqrec_cli.config import Range
from bbqrec_cli.errors import BrokenFileError, DataError, MissingPackageError
from bbqrec_cli.seeds import derive
from bbqrec_cli.training.checkpoint import difference
from bbqrec_cli.tuning.systems import System, readable

Outcome = dict[str, Any]
"""What became of a trial; the keys are those of a trial in `hdf5.write_tuning`, less `system`, `model` and `number`."""
UNPRUNED = 4
"""Whole trials of a system before any is pruned."""
PATIENCE = 4
"""No trial is pruned in this fraction (a fourth) of its epochs."""


def import_optuna() -> Any:
    """Import Optuna.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        what = "bbqrec tune needs Optuna, which is not installed"
        raise MissingPackageError(what, "pip install 'bbqrec[tune]'") from error
    return optuna


def open_journal(path: Path) -> Any:
    """The journal's storage. The caller keeps other processes out of its folder.

    Raises:
        MissingPackageError: Optuna is not installed.
        BrokenFileError: not a journal.
    """
    optuna = import_optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A lock that is there is of a process that was killed: the folder is ours.
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    _cut_torn_line(path)
    try:
        return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenFileError(f"{path}: the journal is damaged: {error}", "give -o elsewhere") from None


def _cut_torn_line(path: Path) -> None:
    """Remove a last line that a full disk or a power cut left unfinished: Optuna would write on in the same line."""
    if path.is_file() and (text := path.read_bytes()).startswith(b"{") and not text.endswith(b"\n"):
        os.truncate(path, text.rfind(b"\n") + 1)


class Study:
    """One system's trials.

    Args:
        storage: of `open_journal`.
        identity: what must be the same when it goes on; 'input' is the checksum of the input.
        reports: validations of a whole training, at most; 0 where trials have a time limit: then those of the longest
            trial so far.

    Raises:
        DataError: the journal holds this system's trials with other options or inputs.
    """

    def __init__(self, storage: Any, system: System, *, seed: int, identity: Mapping[str, Any], reports: int) -> None:
        self._optuna, self.system, self._seed, self._reports = import_optuna(), system, seed, reports
        self.content: str = identity["input"]
        self._study = self._optuna.create_study(
            storage=storage, study_name=system.name, direction="maximize", load_if_exists=True
        )
        known = self._study.user_attrs.get("identity")
        if known is None or not self._study.get_trials(deepcopy=False):  # of a command that was refused
            self._study.set_user_attr("identity", dict(identity))
        elif said := next(filter(None, (difference(key, known.get(key), identity[key]) for key in identity)), ""):
            what = f"the trials of {system.name} in this folder are of another run: {said}"
            raise DataError(what, "give the options of that run, or -o elsewhere")
        state = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(state.RUNNING,)):
            self._study.tell(trial.number, state=state.FAIL)

    def outcomes(self) -> list[Outcome]:
        """Of the finished trials, in order; not of those that were cut and then run again."""
        found = [trial.user_attrs["outcome"] for trial in self._done()]
        return [each for place, each in enumerate(found, 1) if each["status"] != "cut" or place == len(found)]

    def whole(self) -> list[Outcome]:
        """The same without a last one that was cut."""
        return [each for each in self.outcomes() if each["status"] != "cut"]

    def _done(self) -> list[Any]:
        state = self._optuna.trial.TrialState
        return list(self._study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED)))

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """A trial to be run and its values: first the system's own as they are, then what Optuna's TPE proposes; those
        of the last one, if it was cut.

        Its random numbers depend on the seed and the number of finished trials alone.
        """
        state, number, space = self._optuna.trial.TrialState, len(self.whole()), self.system.space
        again = self._done()[-1].params if len(self.outcomes()) > number else None
        if (again or not number) and not self._study.get_trials(deepcopy=False, states=(state.WAITING,)):
            self._study.enqueue_trial(again or self.system.first)
        seed = derive(self._seed, "tune", self.system.name, number) % 2**32
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=False)
        reports = self._reports or max((len(each.intermediate_values) for each in self._done()), default=0)
        self._study.pruner = self._optuna.pruners.MedianPruner(
            n_startup_trials=UNPRUNED, n_warmup_steps=reports // PATIENCE + 1
        )
        trial = self._study.ask({name: self._distribution(search) for name, search in space.items()})
        return trial, readable(space, self.system.model, trial.params) if number else self.system.first

    def tell(self, trial: Any, outcome: Outcome) -> None:
        """Write a trial's outcome down. A failed one counts as pruned: Optuna then keeps away from its values."""
        state = self._optuna.trial.TrialState
        trial.set_user_attr("outcome", outcome)
        if outcome["status"] == "complete":
            self._study.tell(trial, outcome["figures"]["ndcg@10"])
        else:
            self._study.tell(trial, state=state.PRUNED)

    def _distribution(self, search: tuple[Any, ...] | Range) -> Any:
        of = self._optuna.distributions
        if isinstance(search, Range):
            return of.FloatDistribution(search.low, search.high, log=search.log)
        return of.CategoricalDistribution(search)
