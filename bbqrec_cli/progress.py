"""Progress output of stages, independent of the terminal: `cli/console.py` implements it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

from bbqrec_cli.errors import BBQRecWarning

T = TypeVar("T")


class ProgressBar(Protocol):
    """A progress bar."""

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """Advance by `steps`; `figures` (loss=0.31, …) are shown beside the bar."""


class Progress(Protocol):
    """Output of a running stage, to stderr; results are not part of it."""

    def log(self, message: str) -> None:
        """A note; hidden by --quiet."""

    def detail(self, message: str) -> None:
        """A note that only --verbose shows."""

    def warn(self, message: str) -> None:
        """A warning; shown even with --quiet."""

    def task(self, description: str, total: int | None) -> AbstractContextManager[ProgressBar]:
        """A progress bar: `with progress.task("epoch 3", 120) as task: task.advance(loss=…)`; total None: unknown."""


SHOWN_EVERY = 1000


def counted(rows: Iterable[T], task: ProgressBar) -> Iterator[T]:
    """The rows; the bar advances by `SHOWN_EVERY` of them at a time, since many files have millions."""
    for number, row in enumerate(rows, start=1):
        yield row
        if number % SHOWN_EVERY == 0:
            task.advance(SHOWN_EVERY)


class _SilentTask:
    def advance(self, steps: int = 1, **figures: float | str) -> None:
        pass


class Silent:
    """Says nothing. A progress of one's own derives from it and has what it wants to say."""

    def log(self, message: str) -> None:
        pass

    def detail(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass

    def task(self, description: str, total: int | None) -> AbstractContextManager[ProgressBar]:
        return nullcontext(_SilentTask())


SILENT: Progress = Silent()


def warn_python(message: str) -> None:
    """A Python warning at the line outside this package that brought it about."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("bbqrec_cli", "contextlib"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, BBQRecWarning, stacklevel=level)


class ToPython(Silent):
    """For Python code: warnings as Python's, and notes to a function, if there is one."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say

    def log(self, message: str) -> None:
        """See `Progress.log`."""
        if self._say is not None:
            self._say(message)

    def warn(self, message: str) -> None:
        """See `Progress.warn`."""
        warn_python(message)


class Without(Silent):
    """Says what another one does, without a text that stands in it."""

    def __init__(self, inner: Progress, text: str) -> None:
        self._inner, self._text = inner, text

    def log(self, message: str) -> None:
        """See `Progress.log`."""
        self._inner.log(message.replace(self._text, ""))

    def detail(self, message: str) -> None:
        """See `Progress.detail`."""
        self._inner.detail(message.replace(self._text, ""))

    def warn(self, message: str) -> None:
        """See `Progress.warn`."""
        self._inner.warn(message.replace(self._text, ""))

    def task(self, description: str, total: int | None) -> AbstractContextManager[ProgressBar]:
        """See `Progress.task`."""
        return self._inner.task(description.replace(self._text, ""), total)
