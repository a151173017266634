"""One step after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable

from bbqrec_cli.benchmark.executors.base import local_gpus
from bbqrec_cli.benchmark.graph import Step
from bbqrec_cli.benchmark.records import Record
from bbqrec_cli.benchmark.work import run_step
from bbqrec_cli.progress import Progress


class Local:
    """See `base.Executor`. clock: what the seconds are counted by."""

    def __init__(
        self, progress: Progress, *, device: str = "auto", threads: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.threads, self.gpus = threads, local_gpus(device)
        self._progress, self._clock = progress, clock
        self._step: Step | None = None

    def free(self, step: Step) -> bool:
        """See `Executor.free`."""
        return self._step is None

    def submit(self, step: Step) -> None:
        """See `Executor.submit`: it is run when its end is waited for."""
        self._step = step

    def next(self) -> tuple[Step, Record]:
        """See `Executor.next`. An interruption is in the record: the stage has dealt with it."""
        assert self._step is not None
        record = run_step(self._step, self._progress, self._clock)
        step, self._step = self._step, None
        return step, record

    def stop(self) -> list[tuple[Step, Record]]:
        """See `Executor.stop`: interrupted before or after the stage itself."""
        return [(self._step, {"error": "interrupted"})] if self._step else []

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        pass
