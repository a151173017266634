"""One run a work folder: two would write the same files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        if not _take(stream.fileno()):
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


def _take(descriptor: int) -> bool:
    """Whether the lock could be had; so it is where the system or the file system has no locks."""
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
