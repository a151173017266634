"""One process at a time: for a work folder and an output, which two would write, and for a download, which two would
append to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bbqrec_cli.errors import DataError, LackingError

NAME = "benchmark.lock"


@contextmanager
def locked(folder: Path, name: str = NAME) -> Iterator[None]:
    """Keep other runs out of `folder`, by its file `name`. The system gives the lock back however the process ends.

    Raises:
        DataError: another run is at work there.
        LackingError: the folder may not be written.
    """
    path = folder / name
    try:
        # The file stays when the lock goes: a lock on a file that was removed meanwhile would keep nobody out.
        stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise LackingError(f"{path}: cannot be written: {error.strerror}", "give -o elsewhere") from None
    with stream:
        if not take(stream.fileno()):
            stream.seek(0)
            who = stream.read().strip()
            raise DataError(
                f"{folder}: another run is at work in this folder{f' (process {who})' if who else ''}",
                "wait for it, or give -o elsewhere",
            )
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        # Processes that run steps keep it, too: they may outlive this one.
        os.set_inheritable(stream.fileno(), True)
        yield


@contextmanager
def alone(path: Path, waits: Callable[[], None], *, pause: float = 0.5) -> Iterator[None]:
    """Be the only process that holds the file `path`, which goes with the lock.

    Args:
        waits: called once, if another process has it first; what it raises ends the waiting.
        pause: seconds between two attempts.

    Raises:
        LackingError: the file cannot be made.
    """
    said = False
    try:
        while (stream := taken(path)) is None:
            if not said:
                waits()
            said = True
            time.sleep(pause)
    except OSError as error:
        raise LackingError(f"{path}: cannot be written: {error.strerror}", "name another folder") from None
    with stream:
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove an open file
                path.unlink()


def taken(path: Path) -> IO[bytes] | None:
    """The file, opened, made if it is not there, and locked; None if another process has it. Raises: OSError."""
    while True:
        stream = open(path, "ab")  # noqa: SIM115
        if not take(stream.fileno()):
            stream.close()
            return None
        with suppress(OSError):  # it may be renamed or removed between the two
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        stream.close()


def take(descriptor: int) -> bool:
    """Whether the lock on an open file could be had; so it is where the system or the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
