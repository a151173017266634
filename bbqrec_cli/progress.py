"""Progress output of stages, independent of the terminal: `cli/console.py` implements it; scripts use SILENT."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


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


class _SilentTask:
    def advance(self, steps: int = 1, **figures: float | str) -> None:
        pass


class _Silent:
    def log(self, message: str) -> None:
        pass

    def detail(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass

    def task(self, description: str, total: int | None) -> AbstractContextManager[ProgressBar]:
        return nullcontext(_SilentTask())


SILENT: Progress = _Silent()
