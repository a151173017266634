"""Steps as tasks of Ray, on one machine or several that share a file system.

A task asks for the CPUs and GPUs that its step needs. Where its process is killed or its node is lost, Ray begins it
again, on from its checkpoint.
"""

from __future__ import annotations

import json
import os
from typing import Any

from bbqrec_cli.benchmark import records
from bbqrec_cli.benchmark.graph import Step
from bbqrec_cli.benchmark.records import Record
from bbqrec_cli.benchmark.work import run_step
from bbqrec_cli.errors import LackingError, MissingPackageError, UsageError
from bbqrec_cli.plugins import VARIABLE
from bbqrec_cli.progress import SILENT, Progress

RETRIES = 3
"""How often a step is begun again whose process was killed."""
PATIENCE = 60.0
"""Seconds that interrupted tasks get to leave checkpoints."""


class Ray:
    """See `base.Executor`.

    Args:
        jobs: steps at once; 0: as many as the cluster has room for.
        threads: CPUs of each step; 0: one.
        address: of the cluster; '': one that is made here, for as long as this runs.

    Raises:
        UsageError: a device with a number.
        MissingPackageError: Ray is not installed.
        LackingError: the cluster does not answer, or no node has what a step needs.
    """

    def __init__(
        self, progress: Progress, *, jobs: int = 0, device: str = "auto", threads: int = 0, address: str = ""
    ) -> None:
        if ":" in device:
            raise UsageError(f"--device {device}: Ray chooses the GPU of each step", "--device cuda")
        self._ray, self._progress, self._jobs = import_ray(), progress, jobs
        self._running: dict[Any, Step] = {}
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._connect(address)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        cpus, gpus = (max((int(node.get(kind, 0)) for node in nodes), default=0) for kind in ("CPU", "GPU"))
        self.threads, self.gpus = threads or 1, 0 if device == "cpu" else gpus
        if self.threads > cpus or (device.startswith("cuda") and not gpus):
            self.__exit__()
            asked = f"{self.threads} CPUs" + (" and a GPU" if device.startswith("cuda") else "")
            raise LackingError(f"--executor ray: no node has {asked}", "--threads 1 --device cpu")
        self._task = self._ray.remote(max_retries=RETRIES)(_run)

    def free(self, step: Step) -> bool:
        """See `Executor.free`: what runs and this step fit into the cluster as it is now."""
        if not self._running:
            return True
        if self._jobs and len(self._running) >= self._jobs:
            return False
        there, needs = self._ray.cluster_resources(), [each.needs for each in (*self._running.values(), step)]
        cpus, gpus = sum(each.cpu for each in needs), sum(each.gpu for each in needs)
        return cpus <= there.get("CPU", 0) and gpus <= there.get("GPU", 0)

    def submit(self, step: Step) -> None:
        """See `Executor.submit`."""
        self._progress.log(step.name)
        plugins = os.environ.get(VARIABLE, "")  # a worker of a cluster that was there before has not inherited it
        how = {"num_cpus": step.needs.cpu, "num_gpus": step.needs.gpu, "name": step.name}
        self._running[self._task.options(**how).remote(step.to_json(), os.getcwd(), plugins)] = step

    def next(self) -> tuple[Step, Record]:
        """See `Executor.next`. What the stage said is shown at its end."""
        (reference, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        return self._ended(reference)

    def stop(self) -> list[tuple[Step, Record]]:
        """See `Executor.stop`."""
        for reference in self._running:
            self._ray.cancel(reference)
        ended, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=PATIENCE)
        return [self._ended(reference) for reference in ended]

    def __enter__(self) -> Ray:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._ray.shutdown()

    def _connect(self, address: str) -> None:
        local = {} if address else {"include_dashboard": False}
        try:
            self._ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise LackingError(f"--executor ray: no cluster at {address or 'this machine'}: {error}") from None

    def _ended(self, reference: Any) -> tuple[Step, Record]:
        step = self._running.pop(reference)
        try:
            record, said = json.loads(self._ray.get(reference))
        except self._ray.exceptions.TaskCancelledError:
            return step, records.read(step, self._progress) | {"status": "interrupted", "error": "interrupted"}
        except self._ray.exceptions.RayError as error:
            what = f"Ray gave it up: {str(getattr(error, 'cause', None) or error).splitlines()[0]}"
            return step, records.failed(step, what, self._progress)
        for message in said:
            self._progress.warn(f"{step.name}: {message}")
        if record["status"] == "done" and not step.done:
            what = f"{step.output} is not there: --executor ray needs a file system that all nodes share"
            return step, records.failed(step, what, self._progress)
        return step, record


def import_ray() -> Any:
    """Ray. Raises: MissingPackageError: it is not installed."""
    try:
        import ray
    except ImportError as error:
        what = "--executor ray needs Ray, which is not installed"
        raise MissingPackageError(what, "pip install 'bbqrec[ray]'") from error
    return ray


class _Warnings:
    """A `Progress` that keeps warnings."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def log(self, message: str) -> None:
        """Nobody would see it in time."""

    detail = log

    def warn(self, message: str) -> None:
        """See `Progress.warn`."""
        self.said.append(message)

    task = SILENT.task


def _run(step: str, folder: str, plugins: str) -> str:
    """What a worker does: run the step, whose paths may be relative to `folder`; its record and warnings as JSON."""
    os.chdir(folder)
    os.environ[VARIABLE] = plugins
    progress = _Warnings()
    record = run_step(Step.from_json(step), progress)
    return json.dumps([record, progress.said])
