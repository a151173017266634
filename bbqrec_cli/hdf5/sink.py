"""Whether an output may be written, and the file object that HDF5 writes into.

Nothing is raised while HDF5 calls that object, neither for a full disk nor for a signal: the library would crash.
"""

from __future__ import annotations

import errno
import os
import shlex
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from bbqrec_cli.errors import DataError, DiskFullError, LackingError, OutputExistsError
from bbqrec_cli.locks import take


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


def target_of(path: Path) -> Path:
    """The target of a symbolic link, else the path: the link stays and its target is written."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def partial_of(path: Path) -> Path:
    """The temporary file for `path`, beside its target."""
    target = target_of(path)
    return target.with_name(f".{target.name}.partial")


@contextmanager
def replacing(path: Path, partial: Path) -> Iterator[Path]:
    """Replace `path` by `partial` at the end; on any error, remove `partial` and leave `path` unchanged.

    Raises:
        DiskFullError, LackingError.
    """
    try:
        yield partial
        os.replace(partial, target_of(path))
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink()


class Sink:
    """A file object over `partial`, for h5py's file-object driver; a context manager that syncs and closes it.

    The first OSError of a write is kept, and later writes are dropped. Ctrl-C and SIGTERM are deferred. Both are raised
    by `raise_pending` and at the end of the context.

    Args:
        output: the final file, for the errors.
        partial: the temporary file, created, or emptied if a killed run left it.

    Raises:
        LackingError, DiskFullError: it cannot be created, or another run is writing to it.
    """

    def __init__(self, output: Path, partial: Path) -> None:
        self.error: OSError | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._signals: list[int] = []
        try:
            # Not truncated yet: it may be another run's.
            self._stream = open(os.open(partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise write_error(output, error) from error
        if not take(self._stream.fileno()):
            self._stream.close()
            raise LackingError(f"{output}: another run is writing to it", "wait for it, or give -o another name")
        self._stream.truncate(0)

    def write(self, data: bytes) -> int:
        """Write all of `data`, or keep the first error."""
        view = memoryview(data).cast("B")
        try:
            written = 0
            while self.error is None and written < len(view):
                written += self._stream.write(view[written:])
        except OSError as error:
            self.error = error
        return len(view)

    def read(self, size: int) -> bytes:
        """`size` bytes at the position; zeros for dropped ones."""
        return self._stream.read(size).ljust(size, b"\0")

    def readinto(self, buffer: memoryview) -> int:
        """Like `read`, into `buffer`."""
        view = memoryview(buffer).cast("B")
        view[:] = self.read(len(view))
        return len(view)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._stream.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def flush(self) -> None:
        """Nothing is buffered here."""

    def raise_pending(self) -> None:
        """Raise deferred errors; called when no HDF5 call is running.

        Raises:
            OSError: of an earlier write; KeyboardInterrupt, or what the handler of a signal raises.
        """
        while self._signals:
            number = self._signals.pop()
            self._handlers[number](number, None)
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Sink:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, lambda number, _: self._signals.append(number))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None and self.error is None:
                os.fsync(self._stream.fileno())
        finally:
            self._stream.close()
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        self.raise_pending()


def write_error(path: Path, error: OSError) -> Exception:
    """The error for a failed write: DiskFullError, LackingError (no permission), or `error` itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError(f"{path}: the disk is full; nothing was written", "free some space, or -o another folder")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return LackingError(f"{path}: cannot be written: {error}")
    return error
