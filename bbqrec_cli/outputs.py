"""Whether an output may be written, and its replacement by a whole one."""

from __future__ import annotations

import errno
import functools
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

from bbqrec_cli.device import rank_of_environment
from bbqrec_cli.errors import DataError, DiskFullError, LackingError, OutputExistsError
from bbqrec_cli.locks import alone, taken

P = ParamSpec("P")
T = TypeVar("T")

_LARGEST_SHARE = 0.05
"""Of the time of a run, what its checkpoints may take."""


def check_output(path: Path, *, force: bool, inputs: Iterable[Path] = (), instead: str = "") -> None:
    """Refuse to start work whose output cannot be written.

    instead: what else one may want of an output that exists, for the hint.

    Raises:
        OutputExistsError: `path` exists and `force` is off.
        DataError: its folder does not exist; it is a folder, a device or one of the `inputs`.
        LackingError: its folder may not be written.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder; a file name is needed", "give -o a file name")
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is not a regular file and would be replaced by one", "give -o a file name")
    if any(path.exists() and each.exists() and path.samefile(each) for each in inputs):
        raise DataError(f"{path}: is an input and would be lost", "give -o another name")
    if path.exists() and not force:
        hint = "give --force to overwrite it, or -o for another name" + (f"; {instead}" if instead else "")
        raise OutputExistsError(f"{path}: exists already", hint)
    check_parent(path)


def check_parent(path: Path) -> None:
    """Refuse an output that is to stand in a folder that does not exist or may not be written.

    Raises:
        DataError, LackingError.
    """
    folder = target_of(path).parent
    if not folder.is_dir():
        raise DataError(f"{path}: the folder {folder} does not exist", f"mkdir -p {shlex.quote(str(folder))}")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise LackingError(f"{path}: no permission to write to the folder {folder}", "give -o another folder")


def checkpoint_of(output: Path) -> Path:
    """The checkpoint of a run that is to write `output`, beside it."""
    return output.parent / f"{output.name}.checkpoint"


def check_checkpoint(output: Path, *, force: bool, resume: bool) -> None:
    """Refuse to overwrite what an interrupted run has saved.

    Raises:
        OutputExistsError: `output` has a checkpoint, and neither `force` nor `resume` is on.
    """
    path = checkpoint_of(output)
    if path.exists() and not (force or resume):
        hint = "give --resume to go on with it, --force to start from the beginning, or -o for another name"
        raise OutputExistsError(f"{path}: the checkpoint of an interrupted run would be lost", hint)


class Clock:
    """Says when the next checkpoint is due.

    apart: seconds between two: what a kill may cost, beside the work that it cuts; more if writing one takes long.
    """

    def __init__(self, apart: float) -> None:
        self._apart, self._next = apart, time.monotonic() + apart

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._next

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around the writing of a checkpoint."""
        began = time.monotonic()
        yield
        now = time.monotonic()
        self._next = now + max(self._apart, (now - began) / _LARGEST_SHARE)


def target_of(path: Path) -> Path:
    """The target of a symbolic link, else the path: the link stays and its target is written."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def partial_of(path: Path) -> Path:
    """The temporary file for `path`, beside its target."""
    target = target_of(path)
    return target.with_name(f".{target.name}.partial")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The temporary file for `path`, which replaces it at the end; on any error it is removed, and `path` unchanged.

    Raises:
        DiskFullError, LackingError: also if another run is writing to it.
    """
    partial = partial_of(path)
    with _held(path, partial):
        try:
            yield partial
            os.replace(partial, target_of(path))
        except BaseException as error:
            with suppress(OSError):
                partial.unlink()
            if isinstance(error, OSError):
                raise write_error(path, error) from error
            raise


def only_writer(path: Path) -> AbstractContextManager[None]:
    """Keep other runs from writing the folder or the file `path`. Raises: LackingError."""

    def refuse() -> None:
        raise _another_run(path)

    return alone(partial_of(path).with_suffix(".lock"), refuse)


def one_at_a_time(run: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A stage's `run(config, …)` that keeps other runs from `config.output`, and so from its checkpoint, to its end.

    Raises: LackingError: another run is at work on it.
    """

    @functools.wraps(run)
    def alone_at_work(config: Any, *args: P.args, **named: P.kwargs) -> T:
        output, folder = config.output, target_of(config.output).parent
        impossible = output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK)
        if rank_of_environment() or impossible:  # the stage says why
            return run(config, *args, **named)
        with only_writer(config.output):
            return run(config, *args, **named)

    return alone_at_work


def _held(path: Path, file: Path) -> IO[bytes]:
    """The lock of `path`, which is `file`. Raises: as `replacing`."""
    try:
        stream = taken(file)
    except OSError as error:
        raise write_error(path, error) from error
    if stream is None:
        raise _another_run(path)
    return stream


def _another_run(path: Path) -> LackingError:
    return LackingError(f"{path}: another run is writing to it", "wait for it, or give -o another name")


def write_error(path: Path, error: OSError) -> Exception:
    """The error for a failed write: DiskFullError, LackingError (no permission), or `error` itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(f"{path}: the disk is full; nothing was written", "free some space, or -o another folder")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return LackingError(f"{path}: cannot be written: {error}")
    return error


def make_folder(folder: Path) -> None:
    """Raises: LackingError: no permission to make it. DataError: it cannot be made otherwise."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        kind = LackingError if isinstance(error, PermissionError) else DataError
        raise kind(f"{folder}: cannot be made the work folder: {error.strerror}", "give -o elsewhere") from None
