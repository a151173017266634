"""Runs one step, in whichever process: on from its checkpoint, with a record of how it went."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cache
from importlib import import_module
from typing import Any

from bbqrec_cli.benchmark import memory, records
from bbqrec_cli.benchmark.curves import curves_in
from bbqrec_cli.benchmark.graph import MADE, Step, method_of, module_of, same_pictures
from bbqrec_cli.benchmark.records import Record
from bbqrec_cli.errors import BBQRecError, DataError, InterruptedRunError
from bbqrec_cli.hdf5 import describe
from bbqrec_cli.progress import Progress
from bbqrec_cli.tuning.one import best_options
from bbqrec_cli.tuning.systems import in_effect


def run_step(step: Step, progress: Progress, clock: Callable[[], float] = time.monotonic) -> Record:
    """Run the step's stage, unless its output is there; its record, which says whether it failed or was interrupted.

    Raises:
        the errors of writing the record.
    """
    earlier = records.read(step, progress)
    if step.done:
        return earlier | {"status": "done"}
    resumed = step.resumable and step.checkpoint.exists()
    earlier = earlier if resumed else {}
    # What was spent by a run that was killed is not known: it could not write it down.
    unknown = resumed and (earlier.get("status", "running") == "running" or bool(earlier.get("at_least")))
    record = records.fresh(step) | {"status": "running", "process": os.getpid(), "at_least": unknown}
    record["seconds"] = earlier.get("seconds", 0.0)
    records.write(step, record)
    progress.log(f"{step.name}{', resumed' if resumed else ''}")
    began = clock()
    try:
        record["origin"] = dict(_origin(step.config.device, step.config.threads))
        memory.begin()
        began = clock()  # importing torch is no part of the step
        record["figures"] = records.numbers(_result(step, progress, resumed=resumed)) | memory.peak()
        check_inputs(step)
        record["origin"]["precision"] = records.precision_of(step.output)
        record["curves"] = curves_in(step.stage, step.output)
        record["settings"] = trained_config(step).options if step.tuned else {}
        record["status"] = "done"
    except (InterruptedRunError, KeyboardInterrupt) as error:
        said = error.message if isinstance(error, InterruptedRunError) else "interrupted"
        record |= {"status": "interrupted", "error": said}
    except Exception as error:
        record |= {"status": "failed", "error": _said(error)}
        record["traceback"] = "" if isinstance(error, BBQRecError) else traceback.format_exc()
    record["seconds"] += clock() - began
    record["finished"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    records.write(step, record)
    return record


def _result(step: Step, progress: Progress, *, resumed: bool) -> dict[str, Any]:
    """What the stage says. A checkpoint that does not fit (any more) is done without."""
    config = trained_config(step)
    config = dataclasses.replace(config, resume=resumed) if step.resumable else config
    try:
        return import_module(module_of(step.stage)[0]).run(config, progress).to_json()
    except DataError as error:
        if not resumed or not error.message.startswith(f"{step.checkpoint}: "):
            raise
        progress.warn(f"{error.message}; starting anew")
        step.checkpoint.unlink()
        return _result(step, progress, resumed=False)


def check_inputs(step: Step) -> None:
    """Remove an output that was made of other files than those that the suite began with.

    Raises: DataError: it was.
    """
    if getattr(method_of(step.config), "download", ""):  # the key says what, no file was there
        return
    known = json.dumps(step.inputs)
    for each in describe(step.output)["parents"]:
        ours = MADE.fullmatch(each["path"]) and (step.output.parent / each["path"]).exists()
        if each["kind"] != "folder" and not ours and each["sha256"] not in known:
            step.output.unlink()
            raise DataError(f"{each['path']}: has changed since the suite began", "give the same command again")
    if step.stage == "prepare" and not same_pictures(step.config, step.inputs):
        step.output.unlink()
        raise DataError("the pictures have changed since the suite began", "give the same command again")


def trained_config(step: Step) -> Any:
    """A step's configuration, after a tuning with the best settings that have an effect, as soon as they are known."""
    if step.tuned is None or not step.tuned.exists():
        return step.config
    return dataclasses.replace(step.config, options=in_effect(step.config.model, best_options(step.tuned)))


def _said(error: Exception) -> str:
    """An error in a line: a user's own as it stands, a bug with its type."""
    return error.message if isinstance(error, BBQRecError) else f"{type(error).__name__}: {error}"


@cache
def _origin(device: str, threads: int) -> dict[str, Any]:
    from bbqrec_cli.origin import origin

    return origin(device, threads)
