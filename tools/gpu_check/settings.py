"""What all parts of the check share: where they work, on what, until when; and how they run bbqrec's commands."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TAIL = 3000
"""Characters of a command's error output that are shown."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """device: what is compared with the CPU; until: when measurements end (seconds since 1970); fail: parts that raise
    at once, to see that it is told."""

    device: str
    quick: bool
    threads: int
    work: str
    until: float
    fail: tuple[str, ...] = ()

    @property
    def left(self) -> float:
        """Seconds until measurements end."""
        return self.until - time.time()

    def share(self, of: int) -> int:
        """Threads of one of so many that compute side by side."""
        return max(1, self.threads // of)

    def path(self, *parts: str) -> Path:
        """A file or folder of the working folder."""
        return Path(self.work).joinpath(*parts)

    def write(self) -> None:
        """For the processes of the parts."""
        self.path("settings.json").write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")


def read_settings(work: Path) -> Settings:
    """What `Settings.write` wrote."""
    found = json.loads((work / "settings.json").read_text(encoding="utf-8"))
    return Settings(**found | {"fail": tuple(found["fail"])})


def environment(device: str, threads: int) -> dict[str, str]:
    """Of a process that computes on `device`: it finds this checkout, and no GPU where it is to use none.

    Its threads sleep while they wait: others run beside them, and threads that spin would keep them from it.
    """
    known = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    path = [str(ROOT), *(os.path.abspath(each) for each in known)]
    made = {"PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    return os.environ | made | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})


PLAIN = {"ATEN_CPU_CAPABILITY": "default"}
"""torch without the CPU's vector instructions: the same sums in another order."""


def bbqrec(folder: Path, device: str, threads: int, *arguments: object, plain: bool = False) -> str:
    """What a command prints on stdout.

    Args:
        arguments: those of the command line, without --device and --threads.
        plain: as PLAIN says.

    Raises:
        RuntimeError: it ended with another status than 0.
    """
    words = [str(each) for each in arguments]
    if words[0] not in ("prepare", "collisions"):
        words += ["--device", device, "--threads", str(threads)]
    where = environment(device, threads) | (PLAIN if plain else {})
    command = [sys.executable, "-m", "bbqrec_cli", *words, "--json", "--verbose"]
    done = subprocess.run(command, cwd=folder, env=where, capture_output=True, text=True, check=False)
    if done.returncode:
        shown = f"bbqrec {' '.join(words)} ended with status {done.returncode}"
        raise RuntimeError(f"{done.stderr[-TAIL:]}\n{shown}")
    return done.stdout


def together(tasks: Sequence[Callable[[], Any]], *, workers: int = 4) -> list[Any]:
    """The results of the tasks, run side by side; the first exception is raised when all have ended."""
    with ThreadPoolExecutor(workers) as pool:
        return [each.result() for each in [pool.submit(task) for task in tasks]]
