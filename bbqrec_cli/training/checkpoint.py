"""Checkpoints in HDF5: nested dicts and lists of tensors, numbers and strings. They contain no code."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bbqrec_cli
from bbqrec_cli.errors import BBQRecError, DataError
from bbqrec_cli.hdf5 import describe, open_file, read_checkpoint, write_checkpoint
from bbqrec_cli.outputs import Clock
from bbqrec_cli.progress import SILENT, Progress

_TENSOR = "__tensor__"
SAVE_EVERY = 5.0
"""Seconds between two checkpoints of a training; more if writing one takes long."""


@dataclass(eq=False)
class Saver(AbstractContextManager["Saver"]):
    """Saves the state of a training as it goes on; of states that come soon after another the last, at the end.

    identity: what a resumed run must agree with; epochs: how many are saved; steps: of the one after them.
    """

    path: Path
    identity: Mapping[str, Any]
    epochs: int
    steps: int = 0
    _clock: Clock = field(default_factory=lambda: Clock(SAVE_EVERY))
    _kept: tuple[tuple[int, int], Any, dict[str, np.ndarray]] | None = None

    def save(self, state: Mapping[str, Any]) -> None:
        arrays: dict[str, np.ndarray] = {}
        meta, due = _split(state, arrays), self._clock.due
        if not due:  # the next steps change what the arrays share memory with
            arrays = {name: value.copy() for name, value in arrays.items()}
        self._kept = (len(state["history"]), state["begun"].get("steps", 0)), meta, arrays
        if due:
            self._write()

    def __exit__(self, *_: object) -> None:
        self._write()

    def _write(self) -> None:
        if self._kept is not None:
            done, meta, arrays = self._kept
            with self._clock.saving():
                write_checkpoint(self.path, arrays, {"state": meta}, config=self.identity)
            (self.epochs, self.steps), self._kept = done, None


def save_checkpoint(path: Path, state: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Replace the last checkpoint by `state`, atomically. identity: what a resumed run must agree with."""
    arrays: dict[str, np.ndarray] = {}
    meta = _split(state, arrays)
    write_checkpoint(path, arrays, {"state": meta}, config=identity)


def load_checkpoint(path: Path, identity: Mapping[str, Any], progress: Progress = SILENT) -> Any:
    """The state that `save_checkpoint` wrote; a warning if another version of the program did.

    Raises:
        DataError: the checkpoint belongs to a run with other options or inputs; names the first difference.
    """
    arrays, meta, found = read_checkpoint(path)
    for key in (*identity, *(set(found) - set(identity))):
        what = difference(key, found.get(key), identity.get(key))
        if what:
            raise DataError(
                f"{path}: the checkpoint is of another run: {what}",
                "give the options of that run, or start from the beginning with --force, without --resume",
            )
    version = describe(path)["bbqrec_version"]
    if version != bbqrec_cli.__version__:
        progress.warn(f"{path} is of bbqrec {version}, this is {bbqrec_cli.__version__}: the run is partly of either")
    return _join(meta["state"], arrays)


def saved_seconds(path: Path) -> float:
    """The time of what is in a training's checkpoint; 0 without one."""
    try:
        with open_file(path, "checkpoint") as file:
            state = dict(file.attribute("meta")["state"]["pairs"])
        begun = dict(state["begun"]["pairs"]).get("seconds", 0.0) if "begun" in state else 0.0
        return sum((dict(row["pairs"])["seconds"] for row in state["history"]), begun)
    except (BBQRecError, LookupError, TypeError, ValueError):  # `load_checkpoint` says what is wrong with it
        return 0.0


def saved_precision(path: Path) -> str:
    """The precision of the run whose checkpoint it is; '' without one."""
    try:
        with open_file(path, "checkpoint") as file:
            return str(file.mapping("config")["config"]["precision"])
    except (BBQRecError, LookupError, TypeError):  # `load_checkpoint` says what is wrong with it
        return ""


def difference(name: str, found: Any, wanted: Any) -> str:
    """The first difference between two values, nested or not, '' if there is none."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        return next(filter(None, (difference(k, found.get(k), wanted.get(k)) for k in {**found, **wanted})), "")
    was, now = ("not given" if each is None else repr(each) for each in (found, wanted))
    return "" if found == wanted else f"{name} was {was} and is {now}"


def _split(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, torch.Tensor):
        arrays[str(len(arrays))] = value.detach().cpu().numpy()
        return {_TENSOR: str(len(arrays) - 1)}
    if isinstance(value, Mapping):
        # Pairs, since JSON would turn the optimisers' integer keys into strings.
        return {"pairs": [[key, _split(each, arrays)] for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_split(each, arrays) for each in value]
    return value


def _join(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict) and _TENSOR in value:
        return torch.from_numpy(np.array(arrays[value[_TENSOR]]))
    if isinstance(value, dict):
        return {key: _join(each, arrays) for key, each in value["pairs"]}
    if isinstance(value, list):
        return [_join(each, arrays) for each in value]
    return value
