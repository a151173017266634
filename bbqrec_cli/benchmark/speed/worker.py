"""A process that measures one entrant's rounds when told to. It also runs in the environment of another program, so it
imports nothing of this package.

Arguments: the file of the measure, the function in it, and the job as JSON. The function gets the job (a dict) and
returns a round, which returns the units that it has done, and a dict: `whole`, the units of an epoch; `started`, true
where what is measured are processes that a round starts. On stdin come the words `round` and `end`; on stdout go lines
of JSON: first the dict, then for each round its seconds and units, then the peak of memory in bytes; or `error`.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TextIO


def serve(
    make: Callable[[dict[str, Any]], tuple[Callable[[], float], dict[str, Any]]], job: dict[str, Any],
    orders: Iterable[str], answers: TextIO, clock: Callable[[], float] = time.perf_counter,
) -> None:  # fmt: skip
    """Prepare, warm up with one round (unless the job's `warm` is false), and answer the orders.

    A round is repeated until it has taken the job's `least` seconds.
    """

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        run, about = make(job)
        if job.get("warm", True):
            run()
        answer(**about)
        for order in orders:
            if order.strip() != "round":
                break
            began, units = clock(), 0.0
            while True:
                units += run()
                if (seconds := clock() - began) >= job.get("least", 0):
                    break
            if not units:
                raise ValueError("there is nothing to measure in these data")
            answer(seconds=seconds, units=units)
        answer(peak=peak(started=about.get("started", False)))
    except Exception as error:
        answer(error=f"{type(error).__name__}: {error}")


def peak(*, started: bool = False) -> int:
    """The most memory that this process, or one that it started, has used, in bytes; 0 where it is not known. started:
    only of those that it started."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    own, others = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    try:  # what the process that started this one used counts as its own there, but not here
        with open("/proc/self/status", encoding="utf-8") as stream:
            own = next(int(line.split()[1]) for line in stream if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    return (others if started else max(own, others)) * unit


def main() -> None:
    """What other programs print goes to stderr, so that stdout holds answers alone."""
    path, function, job = sys.argv[1:4]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def make(given: dict[str, Any]) -> Any:
        return runpy.run_path(path)[function](given)

    serve(make, json.loads(job), sys.stdin, answers)


if __name__ == "__main__":
    main()
