"""One record a step, in a file beside its output: what became of it, what it took, and where it ran.

A record says: stage, label and key of the step; inputs, as `Step.inputs`; status: 'running', 'done', 'interrupted' or
'failed', with error and traceback ('' where there is none); seconds of all sessions, and at_least where one was killed
before it could write its own down; origin: version, commit, machine, device and precision; process: the number of the
process that ran it; finished: UTC, '' while it runs; figures: the plain numbers of the stage's result, and
the most memory that it had; curves: what a training reported by epoch (`benchmark.curves`); alike: as of the step;
settings: the best ones of its trials that a training ran with, {} where it was not tuned.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.graph import Step
from bbqrec_cli.errors import BrokenFileError, WrongKindError
from bbqrec_cli.hdf5 import read_record, write_record
from bbqrec_cli.progress import Progress

Record = dict[str, Any]
Records = Mapping[str, Mapping[str, Any]]
"""A step's key -> its record."""


def read(step: Step, progress: Progress) -> Record:
    """The step's record, {} where there is none; a damaged one costs its seconds only."""
    if not step.record.exists():
        return {}
    try:
        return read_record(step.record)
    except (BrokenFileError, WrongKindError) as error:
        progress.warn(f"{error.message}; what {step.name} took is not known any more")
        return {}


def write(step: Step, record: Record) -> None:
    """Write it over the last one, whole. Raises: the errors of writing files."""
    write_record(step.record, record)


def fresh(step: Step) -> Record:
    """The record of a step that nobody has run."""
    return {
        "stage": step.stage, "label": step.label, "key": step.key, "inputs": dict(step.inputs), "status": "",
        "error": "", "traceback": "", "seconds": 0.0, "at_least": False, "origin": {}, "process": 0, "finished": "",
        "figures": {}, "curves": {}, "alike": step.alike, "settings": {},
    }  # fmt: skip


def failed(step: Step, error: str, progress: Progress) -> Record:
    """Write down that whatever ran the step is gone and could not say why; the record."""
    record = fresh(step) | read(step, progress) | {"status": "failed", "error": error, "at_least": True}
    write(step, record)
    return record


def seconds_of(record: Mapping[str, Any]) -> float:
    """What a step that has ended took, in all sessions: a stage may count what its record does not."""
    return max(record["seconds"], record.get("figures", {}).get("seconds", 0.0))


def numbers(result: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """The plain numbers in a result, those within by 'figures/colliding_items'."""
    found: dict[str, float] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{before}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[f"{before}{name}"] = value
    return found


def precision_of(output: Path) -> str:
    """The precision that an output file says it was computed in, '' where it says none."""
    from bbqrec_cli.hdf5 import open_file

    with open_file(output) as file:
        return str((file.attribute("origin") if file.has_attribute("origin") else {}).get("precision", ""))
