"""Entrants that are measured in turn, each in a process of its own: A B A B, so that what else the machine does is
nobody's disadvantage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from bbqrec_cli.benchmark.speed import worker

HERE = Path(__file__).resolve().parent
SINGLE = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that say how many threads libraries take."""


class FailedError(Exception):
    """An entrant's process failed; the page says so."""


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One thing that is measured.

    measure: 'file:function' in measures/; job: what the function gets, beside the contest's; needs: the package of
    another program, '' for none; elsewhere: it runs in the environment of --peer-python.
    """

    name: str
    measure: str
    job: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""
    elsewhere: bool = False


@dataclass(eq=False, kw_only=True)
class Measured:
    """rounds: (seconds, units) of each; whole: units of an epoch, 0 if there is none; peak: bytes, 0 if not known;
    lacks: why there is nothing."""

    entrant: Entrant
    rounds: list[tuple[float, float]] = field(default_factory=list)
    whole: float = 0.0
    peak: int = 0
    lacks: str = ""


def peer_environment() -> dict[str, str]:
    """The environment variables for another Python, which has its own packages."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


class Process:
    """The process of an entrant; a context that ends it.

    Args:
        folder: where its messages are kept.
        python: the interpreter of an entrant that runs elsewhere; '' is this one.
    """

    def __init__(self, entrant: Entrant, job: Mapping[str, Any], folder: Path, *, python: str = "") -> None:
        file, function = entrant.measure.split(":")
        words = [sys.executable, "-m", worker.__name__]
        if entrant.elsewhere:
            words = [python or sys.executable, str(HERE / "worker.py")]
        words += [str(HERE / "measures" / f"{file}.py"), function, json.dumps({**job, **entrant.job})]
        environment = peer_environment() if python and entrant.elsewhere else dict(os.environ)
        environment |= dict.fromkeys(SINGLE, str(job["threads"])) if job["threads"] else {}
        self._said = (folder / "said").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True, encoding="utf-8",
            env=environment | {"TOKENIZERS_PARALLELISM": "false"},
            cwd=folder if entrant.elsewhere else None,  # RecBole leaves folders where it runs
        )  # fmt: skip

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def ask(self, order: str = "") -> dict[str, Any]:
        """What it answers to an order, or first of all. Raises: FailedError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if order:
            with suppress(BrokenPipeError):  # it has ended: its last words are read below
                self._process.stdin.write(f"{order}\n")
                self._process.stdin.flush()
        line = self._process.stdout.readline()
        found: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in found:
            raise FailedError(found["error"])
        return found

    def _last_words(self) -> str:
        self._process.wait()
        self._said.seek(0)
        lines = self._said.read().split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "its process ended")


def hold(
    entrants: Sequence[Entrant], job: Mapping[str, Any], folder: Path, *, rounds: int, lacking: Mapping[str, str],
    peer_python: str = "",
) -> list[Measured]:  # fmt: skip
    """Measure the entrants, `rounds` times each, in turn.

    Args:
        job: what every entrant's function gets.
        folder: for their messages.
        peer_python: see `Process`.
        lacking: the names of those that cannot run -> why.
    """
    made = [Measured(entrant=each, lacks=lacking.get(each.name, "")) for each in entrants]
    with ExitStack() as stack:
        running: list[tuple[Measured, Process]] = []
        for number, each in enumerate(made):
            if each.lacks:
                continue
            place = folder / str(number)
            place.mkdir(parents=True)
            running.append((each, stack.enter_context(Process(each.entrant, job, place, python=peer_python))))
        for each, process in running:  # they prepare side by side
            try:
                each.whole = process.ask().get("whole", 0.0)
            except FailedError as error:
                each.lacks = str(error)
        for _ in range(rounds):
            take_turns(running)
        for each, process in running:
            with suppress(FailedError):
                each.peak = process.ask("end")["peak"]
    return made


def take_turns(running: Sequence[tuple[Measured, Process]]) -> None:
    """A round of each; one that fails is left out from then on, with what it has measured."""
    for each, process in running:
        if each.lacks:
            continue
        try:
            found = process.ask("round")
            each.rounds.append((found["seconds"], found["units"]))
        except FailedError as error:
            each.lacks, each.rounds = str(error), []
