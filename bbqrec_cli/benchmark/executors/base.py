"""What the runner asks of an executor, and what executors on this machine share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from bbqrec_cli.benchmark.graph import Step
from bbqrec_cli.benchmark.records import Record


class Executor(AbstractContextManager, Protocol):
    """Runs steps, each by `work.run_step`. At its end as a context it leaves nothing running.

    threads: CPU threads of each step; 0: torch's own choice. gpus: how many GPUs there are for the steps.
    """

    threads: int
    gpus: int

    def free(self, step: Step) -> bool:
        """Whether the step could begin now."""

    def submit(self, step: Step) -> None:
        """Begin the step, all of whose inputs are there."""

    def next(self) -> tuple[Step, Record]:
        """Wait until a step that was begun ends, in whichever way; its record.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM; `stop` is to be called.
        """

    def stop(self) -> list[tuple[Step, Record]]:
        """Interrupt what runs; it leaves checkpoints. The records of all that was begun and did not end."""


def local_gpus(device: str) -> int:
    """The GPUs of this machine that `--device` means.

    Raises:
        LackingError, UsageError: the device is not there, or is none.
    """
    from bbqrec_cli.device import resolve_device

    found = resolve_device(device)
    if found.type != "cuda":
        return 0
    import torch

    return torch.cuda.device_count() if found.index is None else 1
