"""What a tuning comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.errors import DataError
from bbqrec_cli.tuning.systems import System

Trial = dict[str, Any]
"""A trial of `hdf5.write_tuning`."""


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """What `bbqrec tune --json` prints.

    budget: of each system, its trials (0: as many as the minutes allow) and minutes (0: no limit); trials: finished
    ones, trial by trial; recipes: system -> the file of its best settings. For the page only: command, and splitting,
    how the interactions are divided, '' for leave-last-out.
    """

    output: Path
    report: Path | None
    source: str
    splitting: str
    exclude_seen: bool
    budget: Mapping[str, Any]
    systems: Sequence[System]
    trials: Sequence[Trial]
    recipes: Mapping[str, Path]
    command: str

    def of(self, system: str, *statuses: str) -> list[Trial]:
        """A system's trials; with statuses, those with one of them."""
        return [each for each in self.trials
                if each["system"] == system and (not statuses or each["status"] in statuses)]  # fmt: skip

    def best(self, system: str) -> Trial | None:
        """The trial with the highest validation NDCG@10, None if all failed."""
        return best_of(self.of(system))

    def seconds(self, system: str) -> float:
        """What a system's trials took."""
        return sum(each["seconds"] for each in self.of(system))

    def check(self) -> None:
        """Raises: DataError: all trials of a system failed."""
        for system in self.systems:
            trials = self.of(system.name)
            if trials and all(each["status"] == "failed" for each in trials):
                raise DataError(f"{system.name}: {all_failed(trials)}")

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        systems = {}
        for system in self.systems:
            best, name = self.best(system.name), system.name
            keys = ("number", "figures", "best_epoch", "tuned")
            systems[name] = {
                "model": system.model, "trials": len(self.of(name)), "pruned": len(self.of(name, "pruned")),
                "failed": len(self.of(name, "failed")), "seconds": self.seconds(name),
                "best": {key: best[key] for key in keys} if best else None,
                "recipe": str(self.recipes[name]) if name in self.recipes else None,
            }  # fmt: skip
        report = str(self.report) if self.report else None
        return {"output": str(self.output), "report": report, "budget": dict(self.budget), "systems": systems}


def all_failed(trials: Sequence[Trial]) -> str:
    """What to say where every trial failed."""
    return f"every trial failed, the first with: {trials[0]['error']}"


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The first of the trials with the highest validation NDCG@10; None if there is no figure.

    A trial that was ended early counts with what it had: more epochs can only raise its best figure.
    """
    measured = [each for each in trials if each["figures"]]
    return max(measured, key=lambda each: each["figures"]["ndcg@10"], default=None)
