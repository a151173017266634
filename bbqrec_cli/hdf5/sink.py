"""The file object that HDF5 writes into.

Nothing is raised while HDF5 calls that object, neither for a full disk nor for a signal: the library would crash.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any


class Sink:
    """A file object over `partial`, for h5py's file-object driver; a context manager that syncs and closes it.

    The first OSError of a write is kept, and later writes are dropped. Ctrl-C and SIGTERM are deferred. Both are raised
    by `raise_pending` and at the end of the context.

    Args:
        partial: the temporary file, of which `replacing` has the lock; emptied if a killed run left it.
    """

    def __init__(self, partial: Path) -> None:
        self.error: OSError | None = None
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._signals: list[int] = []
        self._stream = open(partial, "w+b", buffering=0)  # noqa: SIM115

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
