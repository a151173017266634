"""Several steps at once on this machine, each in a process of its own: a crash is one failure, memory is given back.

A process gets its step as a line of JSON on its stdin and says what the stage says as lines of JSON on its stdout. When
its stdin is closed, which also happens when this process dies, it interrupts itself and leaves a checkpoint.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from bbqrec_cli.benchmark import records
from bbqrec_cli.benchmark.executors.base import local_gpus
from bbqrec_cli.benchmark.graph import Step
from bbqrec_cli.benchmark.records import Record
from bbqrec_cli.device import cores
from bbqrec_cli.progress import Progress

CHILD = (sys.executable, "-m", "bbqrec_cli.benchmark.executors.child")
INTERRUPTED = 130


@dataclass(frozen=True, eq=False, kw_only=True)
class Running:
    """A step under way. listener: the thread that hears it; gpu: the GPU that its process sees, '' if it sees all."""

    step: Step
    process: subprocess.Popen[str]
    listener: threading.Thread
    gpu: str = ""

    def give(self, text: str) -> None:
        """Write to its stdin, or with no text close it. It may be gone already."""
        stdin = self.process.stdin
        assert stdin is not None
        with suppress(OSError):
            if not text:
                stdin.close()
            else:
                stdin.write(text)
                stdin.flush()

    def end(self) -> int:
        """Wait until it has ended and all that it said is heard; its status."""
        assert self.process.stdout is not None
        self.give("")
        self.listener.join()
        self.process.stdout.close()
        return self.process.wait()


class Processes:
    """See `base.Executor`.

    Args:
        jobs: steps at once; 0: one for each GPU.
        threads: of each step; 0: the cores shared out.
        command: what runs a step.
    """

    def __init__(
        self, progress: Progress, *, jobs: int, device: str = "auto", threads: int = 0, command: Sequence[str] = CHILD
    ) -> None:
        self.gpus = local_gpus(device)
        self._jobs = jobs or max(self.gpus, 1)
        self.threads = threads or max(1, cores() // self._jobs)
        self._progress, self._command = progress, list(command)
        self._running: dict[str, Running] = {}
        self._lines: queue.Queue[tuple[str, str]] = queue.Queue()

    def free(self, step: Step) -> bool:
        """See `Executor.free`."""
        return len(self._running) < self._jobs

    def submit(self, step: Step) -> None:
        """See `Executor.submit`. Steps that compute on a GPU are spread over those that there are."""
        environment, gpu = dict(os.environ, OMP_NUM_THREADS=str(self.threads)), ""
        if step.needs.gpu and self.gpus > 1:
            gpu = environment["CUDA_VISIBLE_DEVICES"] = self._least_used()
        # In a session of its own: Ctrl-C reaches it by this process alone, once. It gets the lock on the folder, so
        # that nobody else begins there before it has ended.
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=environment,
            start_new_session=True, close_fds=False,
        )  # fmt: skip
        listener = threading.Thread(target=self._listen, args=(step.key, process.stdout), daemon=True)
        listener.start()  # before it is among those that run: `stop` waits for what they say
        self._running[step.key] = Running(step=step, process=process, listener=listener, gpu=gpu)
        self._running[step.key].give(step.to_json() + "\n")

    def next(self) -> tuple[Step, Record]:
        """See `Executor.next`."""
        while True:
            key, line = self._lines.get()
            one = self._running[key]
            if not line:
                del self._running[key]
                return one.step, self._record(one.step, one.end())
            kind, text = json.loads(line)
            named = text if text.startswith(one.step.name) else f"{one.step.name}: {text}"
            said = {"warn": self._progress.warn, "detail": self._progress.detail}
            said.get(kind, self._progress.log)(named)

    def stop(self) -> list[tuple[Step, Record]]:
        """See `Executor.stop`. A Ctrl-C some seconds later does not wait for checkpoints."""
        for each in self._running.values():
            each.give("")
        return [self.next() for _ in range(len(self._running))]

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._running.values():
            each.process.kill()
            each.end()

    def _least_used(self) -> str:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(self.gpus)))
        used = [each.gpu for each in self._running.values()]
        return min(visible.split(","), key=used.count)

    def _listen(self, key: str, stream: IO[str]) -> None:
        """In a thread: pass on the lines of a process, and an empty one at its end."""
        for line in stream:
            self._lines.put((key, line))
        self._lines.put((key, ""))

    def _record(self, step: Step, status: int) -> Record:
        """What a process that ended with a status has left."""
        record = records.read(step, self._progress)
        if step.done:
            return record | {"status": "done"}
        if status == INTERRUPTED:
            return record | {"status": "interrupted", "error": record.get("error") or "interrupted"}
        if status == 0:
            return record
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        why = " (too little memory?)" if status == -9 else ""
        return records.failed(step, f"its process {how}{why}", self._progress)
