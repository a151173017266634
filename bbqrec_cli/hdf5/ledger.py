"""The file kind `tuning`: every trial of `bbqrec tune`. Written and read as plain dicts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.errors import BrokenFileError
from bbqrec_cli.hdf5.schema import TRIAL_NUMBERS, TRIAL_OBJECTS, TRIAL_TEXTS
from bbqrec_cli.hdf5.store import Value, open_file, write


def write_tuning(path: Path, tuning: Mapping[str, Any], **provenance: Any) -> None:
    """Overwrites, atomically; `provenance`: config, parents, as in `store.write`.

    tuning: systems: name -> what it is and what is tried for it; budget: of each system; trials: in the order of their
    ends, each with system, model, number (from 1 in each system), status, error, options (all of the model's), tuned
    (those that were proposed), figures (metric -> value on validation, {} for none), epochs, best_epoch, seconds,
    finished (UTC) and origin.
    """
    trials = tuning["trials"]
    datasets: dict[str, Value] = {f"trials/{key}": [each[key] for each in trials] for key in TRIAL_TEXTS}
    datasets |= {f"trials/{key}": np.array([each[key] for each in trials], dtype=np.int64) for key in TRIAL_NUMBERS}
    datasets |= {f"trials/{key}": [json.dumps(each[key]) for each in trials] for key in TRIAL_OBJECTS}
    datasets["trials/seconds"] = np.array([each["seconds"] for each in trials], dtype=np.float64)
    for name in dict.fromkeys(name for each in trials for name in each["figures"]):
        values = [each["figures"].get(name, np.nan) for each in trials]
        datasets[f"trials/figures/{name}"] = np.array(values, dtype=np.float64)
    attributes = {"systems": tuning["systems"], "budget": tuning["budget"]}
    write(path, "tuning", datasets, attributes=attributes, force=True, **provenance)


def read_tuning(path: Path) -> dict[str, Any]:
    """The `tuning` of `write_tuning`. Raises: the errors of `open_file`."""
    with open_file(path, "tuning") as file:
        columns: dict[str, list[Any]] = {key: file.strings(f"trials/{key}") for key in TRIAL_TEXTS}
        columns |= {key: file.array(f"trials/{key}").tolist() for key in (*TRIAL_NUMBERS, "seconds")}
        try:
            columns |= {key: [json.loads(text) for text in file.strings(f"trials/{key}")] for key in TRIAL_OBJECTS}
        except ValueError as error:
            raise BrokenFileError(f"{path}: /trials holds what is not JSON: {error}") from None
        figures = {name: file.array(f"trials/figures/{name}").tolist() for name in file.names("trials/figures")}
        trials = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        for number, trial in enumerate(trials):
            found = {name: values[number] for name, values in figures.items()}
            trial["figures"] = {name: value for name, value in found.items() if value == value}  # not NaN
        return {"systems": file.attribute("systems"), "budget": file.attribute("budget"), "trials": trials}
