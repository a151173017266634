"""Who runs the steps: this process, several, or Ray. Which one changes no result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bbqrec_cli.errors import UsageError
from bbqrec_cli.progress import Progress

if TYPE_CHECKING:
    from bbqrec_cli.benchmark.executors.base import Executor

NAMES = ("local", "processes", "ray")


def make_executor(
    name: str, progress: Progress, *, jobs: int = 1, device: str = "auto", threads: int = 0, address: str = ""
) -> Executor:
    """An executor, which is a context manager.

    Args:
        name: one of NAMES; '': local, or processes for several jobs.
        jobs: steps at the same time; 0: as the executor sees fit.
        device, threads: as of every command; threads are a step's.
        address: of a Ray cluster; '': a local one.

    Raises:
        UsageError: options that do not go together.
        LackingError: what the executor needs is not there.
    """
    name = name or ("processes" if jobs > 1 else "local")
    if name == "local" and jobs > 1:
        raise UsageError(f"--executor local runs one step at a time, and --jobs is {jobs}", "--executor processes")
    if address and name != "ray":
        raise UsageError("--ray-address is for --executor ray", "--executor ray")
    if name == "local":
        from bbqrec_cli.benchmark.executors.local import Local

        return Local(progress, device=device, threads=threads)
    if name == "processes":
        from bbqrec_cli.benchmark.executors.processes import Processes

        return Processes(progress, jobs=jobs, device=device, threads=threads)
    from bbqrec_cli.benchmark.executors.ray import Ray

    return Ray(progress, jobs=jobs, device=device, threads=threads, address=address)
