"""How a stage tells what it does without knowing who listens: `cli/console.py` shows it; scripts use SILENT."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class ProgressBar(Protocol):
    """A running bar of `total` steps."""

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        """`steps` more are done; `figures` (loss=0.31, …) are shown beside the bar."""


class Progress(Protocol):
    """What a stage may say while it runs. Everything goes to stderr, nothing is a result."""

    def log(self, message: str) -> None:
        """A line of information; hidden by --quiet."""

    def warn(self, message: str) -> None:
        """A line that must not be missed; shown even with --quiet."""

    def task(self, description: str, total: int | None) -> AbstractContextManager[ProgressBar]:
        """A bar for a long step: `with progress.task("epoch 3", 120) as task: task.advance(loss=…)`."""


class _SilentTask:
    def advance(self, steps: int = 1, **figures: float | str) -> None:
        pass


class _Silent:
    def log(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass

    def task(self, description: str, total: int | None) -> AbstractContextManager[ProgressBar]:
        return nullcontext(_SilentTask())


SILENT: Progress = _Silent()
