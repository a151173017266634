"""The program that runs one step of `executors.processes`."""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading
from contextlib import AbstractContextManager, suppress
from typing import IO

from bbqrec_cli import interrupts, plugins
from bbqrec_cli.benchmark.executors.processes import INTERRUPTED
from bbqrec_cli.benchmark.graph import Step
from bbqrec_cli.benchmark.work import run_step
from bbqrec_cli.progress import SILENT, ProgressBar


class Lines:
    """A `Progress` that writes what is said as lines of JSON."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def log(self, message: str) -> None:
        """See `Progress.log`."""
        self._say("log", message)

    def detail(self, message: str) -> None:
        """See `Progress.detail`."""
        self._say("detail", message)

    def warn(self, message: str) -> None:
        """See `Progress.warn`."""
        self._say("warn", message)

    def task(self, description: str, total: int | None) -> AbstractContextManager[ProgressBar]:
        """No bar: several would stand in each other's way."""
        return SILENT.task(description, total)

    def _say(self, kind: str, message: str) -> None:
        with suppress(OSError):  # nobody listens any more
            self._stream.write(json.dumps([kind, message]) + "\n")
            self._stream.flush()


def main() -> int:
    """Run the step that stdin names; the exit status."""
    plugins.Listener.warn = _pass  # the process that began it has said it
    lines = Lines(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # what a library prints is no line of JSON
    interrupts.listen()
    try:
        step = Step.from_json(sys.stdin.readline())
        threading.Thread(target=_watch, daemon=True).start()
        return INTERRUPTED if run_step(step, lines)["status"] == "interrupted" else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:  # what is done must not be interrupted, and stdin is closed when stdout is
        interrupts.ignore()


def _pass(message: str) -> None:
    pass


def _watch() -> None:
    """Interrupt the main thread when stdin ends."""
    # Not by `sys.stdin`, for whose lock the end of the program would wait.
    while os.read(0, 1 << 12):
        pass
    _thread.interrupt_main(signal.SIGTERM)  # SIGINT may be ignored, in the background of a shell


if __name__ == "__main__":
    raise SystemExit(main())
