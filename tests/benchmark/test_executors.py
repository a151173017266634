"""Steps in processes of their own and on Ray: the same files and figures as here, one after the other."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import Listener

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark.executors import make_executor
from bbqrec_cli.benchmark.executors.processes import Processes
from bbqrec_cli.benchmark.graph import Graph, Needs, Step
from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.benchmark.runner import Runner
from bbqrec_cli.errors import LackingError, MissingPackageError, UsageError
from bbqrec_cli.progress import SILENT

STUB = """
import json, os, pathlib, sys, time
step = json.loads(sys.stdin.readline())
say = lambda *line: print(json.dumps(line), flush=True)
what = os.environ.get("WHAT", "")
say("log", f"{step['stage']} {step['label']}")
say("warn", os.environ.get("CUDA_VISIBLE_DEVICES", "all") + " " + os.environ["OMP_NUM_THREADS"])
if what == "stop":
    sys.stdin.read()
    sys.exit(130)
if what == "die" and "sasrec" in step["label"]:
    os.kill(os.getpid(), 9)
if what == "fail" and "sasrec" in step["label"]:
    sys.exit(3)
pathlib.Path(step["output"]).touch()
"""
"""A process that runs no stage: its output is an empty file."""


@pytest.fixture
def stubbed(graph, folder) -> Callable[..., tuple[Graph, Runner, Listener]]:
    """The suite's graph, and a runner whose steps are stubs."""
    (folder / "work").mkdir()

    def make(jobs: int = 2) -> tuple[Graph, Runner, Listener]:
        talk, made = Listener(), graph()
        executor = Processes(talk, jobs=jobs, device="cpu", threads=3, command=(sys.executable, "-c", STUB))
        return made, Runner(graph=made, executor=executor, progress=talk), talk

    return make


def test_every_step_in_a_process_of_its_own(stubbed):
    made, runner, talk = stubbed()
    with runner.executor:
        assert {outcome.status for outcome in runner.run()} == {"done"}
    assert all(step.done for step in made.steps.values())
    said = [f"{step.name}: all 3" for step in made.steps.values()]
    assert sorted(talk.warned) == sorted(said), "lines say whose they are"
    assert {step.name for step in made.steps.values()} <= set(talk.logged)


@pytest.mark.parametrize(
    ("what", "how"),
    [("die", "its process was killed by signal 9 (too little memory?)"), ("fail", "its process ended with status 3")],
)
def test_a_crash_is_one_failed_step(stubbed, monkeypatch, what, how):
    monkeypatch.setenv("WHAT", what)
    made, runner, talk = stubbed()
    with runner.executor:
        outcomes = {outcome.cell.name: outcome for outcome in runner.run()}
    failed = {name: outcome.error for name, outcome in outcomes.items() if outcome.status == "failed"}
    assert failed == {f"sasrec, seed {seed}": f"train sasrec, seed {seed}: {how}" for seed in (0, 1)}
    assert {outcome.status for name, outcome in outcomes.items() if name not in failed} == {"done"}
    step = made.cells[1].step("train")
    assert hdf5.read_record(step.record)["error"] == how
    assert any(warning == f"failed: {step.name}: {how}" for warning in talk.warned)


def test_no_more_at_once_than_jobs(stubbed, monkeypatch):
    monkeypatch.setenv("WHAT", "stop")
    made, runner, _ = stubbed(jobs=2)
    steps = [step for step in made.steps.values() if not made.before(step)]
    with runner.executor as executor:
        for step in steps[:2]:
            assert executor.free(step)
            executor.submit(step)
        assert not executor.free(steps[2])
        stopped = executor.stop()
    assert {step.key for step, _ in stopped} == {step.key for step in steps[:2]}
    assert {record["status"] for _, record in stopped} == {"interrupted"}


def test_a_time_budget_ends_what_has_begun(stubbed, monkeypatch):
    """A minute passes with every step that ends: what two jobs have begun by the first one is ended: two cells,
    or one, if its first step has written its output before the second job looks for work."""
    now, (_, runner, talk) = [0.0], stubbed(jobs=2)
    runner.minutes, runner.clock, ends = 1, lambda: now[0], runner.executor.next

    def tick():
        now[0] += 60
        return ends()

    monkeypatch.setattr(runner.executor, "next", tick)
    with runner.executor:
        statuses = [outcome.status for outcome in runner.run()]
    done = statuses.count("done")
    assert done in (1, 2)
    assert statuses == ["done"] * done + ["left"] * (8 - done)
    assert talk.logged[-1] == f"1 minutes are over: {8 - done} cells are left for the next time"


@pytest.mark.parametrize("given", ["", "5,7"])
def test_gpus_are_shared_out(stubbed, monkeypatch, given):
    """Those that the user has given, if some."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    first, second = (given or "0,1").split(",")
    made, runner, talk = stubbed(jobs=4)
    runner.executor.gpus = 2
    step = made.cells[0].steps[0]
    several = [
        Step(**(vars(step) | {"key": name, "label": name, "needs": Needs(gpu=gpu)}))
        for name, gpu in (("a", 1), ("b", 1), ("c", 0), ("d", 1))
    ]
    with runner.executor as executor:
        for each in several:
            executor.submit(each)
        for _ in several:
            executor.next()
    said = dict(warning.split(": ") for warning in talk.warned)
    assert {said[f"train {name}"] for name in "ab"} == {f"{first} 3", f"{second} 3"}
    assert said["train c"] == f"{given or 'all'} 3"
    assert said["train d"] in (f"{first} 3", f"{second} 3")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "local", "jobs": 2}, "--executor local runs one step at a time"),
        ({"name": "", "address": "auto"}, "--ray-address is for --executor ray"),
        ({"name": "processes", "address": "auto"}, "--ray-address is for --executor ray"),
        ({"name": "ray", "device": "cuda:1"}, "Ray chooses the GPU"),
    ],
)
def test_options_that_do_not_go_together(options, says):
    with pytest.raises(UsageError, match=says):
        make_executor(progress=SILENT, **{"device": "cpu"} | options)


def test_jobs_choose_the_executor():
    assert type(make_executor("", SILENT, device="cpu", jobs=1)).__name__ == "Local"
    made = make_executor("", SILENT, device="cpu", jobs=2)
    assert (type(made).__name__, made.threads) == ("Processes", max(1, len(os.sched_getaffinity(0)) // 2))


def test_ray_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError) as caught:
        make_executor("ray", SILENT)
    assert caught.value.hint == "pip install 'bbqrec[ray]'"


def test_a_step_goes_to_another_process_and_back(graph):
    for step in graph(('file = "features.h5"', 'source = "demo"')).steps.values():
        assert Step.from_json(step.to_json()) == step


SMALL = """
name = "small"
[data]
file = "features.h5"
[[tokenizer]]
name = "ids"
method = "rqvae"
codebook_size = 4
levels = 2
epochs = 2
[[system]]
name = "popularity"
[[system]]
name = "sasrec"
width = 8
epochs = 2
[[system]]
name = "tiger"
tokenizer = "ids"
epochs = 1
width = 16
layers = 1
decoder_layers = 1
"""
LONG = SMALL.split("[[tokenizer]]")[0] + '[[system]]\nname = "popularity"\n[[system]]\nname = "sasrec"\nwidth = 32\n'
LONG += "epochs = 25\nbatch_size = 4\npatience = 0\n"


@pytest.fixture
def real(tmp_path, files) -> Callable[..., BenchmarkConfig]:
    """`real(SMALL, "work", jobs=2)`: the options of a run of a suite on the real stages."""
    (tmp_path / "features.h5").write_bytes(files["features"].read_bytes())

    def make(text: str, folder: str, **options) -> BenchmarkConfig:
        (tmp_path / "suite.toml").write_text(text)
        return BenchmarkConfig(
            suite=str(tmp_path / "suite.toml"), output=tmp_path / folder, device="cpu", threads=1, **options
        )

    return make


def same(one: Path, other: Path) -> None:
    """Both folders hold the same steps with the same outcome."""
    outputs = [sorted(path.name for path in folder.glob("*-*.h5")) for folder in (one, other)]
    assert outputs[0] == outputs[1]
    for name in outputs[0]:
        if name.endswith(".metrics.h5"):
            np.testing.assert_array_equal(*(hdf5.read_metrics(folder / name).ranks for folder in (one, other)))
        if name.endswith(".model.h5"):
            first, second = (hdf5.read_model(folder / name).weights for folder in (one, other))
            for weight, value in first.items():
                np.testing.assert_array_equal(second[weight], value, err_msg=weight)
        first, second = (hdf5.read_record(folder / f"{name}.record") for folder in (one, other))
        own = ("seconds", "ms_per_user", "peak_memory_mb")  # of the process
        figures = [{k: v for k, v in each["figures"].items() if k not in own} for each in (first, second)]
        assert figures[0] == figures[1]
        assert first["status"] == second["status"] == "done"


@pytest.mark.slow
def test_two_jobs_do_what_one_does(real, tmp_path, capfd):
    alone, two = run(real(SMALL, "alone")), run(real(SMALL, "two", jobs=2))
    assert "Traceback" not in capfd.readouterr().err, "processes end in peace"
    assert [cell["status"] for cell in two.cells] == ["done"] * 3
    assert {name: scores["ndcg@10"].values for name, scores in two.systems[""].items()} == {
        name: scores["ndcg@10"].values for name, scores in alone.systems[""].items()
    }
    same(tmp_path / "alone", tmp_path / "two")


def start(config: BenchmarkConfig, *options: str) -> subprocess.Popen:
    """The command, as it is typed in a terminal: in a process group that Ctrl-C reaches as a whole."""
    given = ["-o", str(config.output), "--device", "cpu", "--threads", "1", "--json", *options]
    command = [sys.executable, "-m", "bbqrec_cli", "benchmark", config.suite, *given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(found: Callable[[], object], seconds: float = 120) -> None:
    """Until something is there."""
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_runs_at_once_is_interrupted_at_once(real, tmp_path, how):
    """Ctrl-C, SIGTERM and even the death of the program leave checkpoints and no process; the same command goes on."""
    other = 'name = "other"\nmodel = "sasrec"\nwidth = 24\nepochs = 25\nbatch_size = 4\npatience = 0'
    suite = LONG.replace('name = "popularity"', other).replace("epochs = 25", "epochs = 300")
    config = real(suite, "broken", jobs=2)  # checkpoints are written every five seconds
    process, folder = start(config, "--jobs", "2"), tmp_path / "broken"
    wait_for(lambda: len(list(folder.glob("*.checkpoint"))) == 2)
    running = [hdf5.read_record(path)["process"] for path in folder.glob("*.record")]
    os.killpg(process.pid, how)
    _, said = process.communicate()
    assert process.returncode == (-9 if how == signal.SIGKILL else 130), said
    wait_for(lambda: not any(Path(f"/proc/{each}").exists() for each in running), 20)
    records = [hdf5.read_record(path) for path in folder.glob("*.record")]
    assert {record["status"] for record in records} == {"interrupted"}
    if how != signal.SIGKILL:
        message = json.loads(said.splitlines()[-1])["message"]
        assert {record["label"] for record in records} == {"other, seed 0", "sasrec, seed 0"}
        assert all(f"train {record['label']}: {record['error']}" in message for record in records)
    result = run(config)
    assert [(cell["status"], cell["at_least"]) for cell in result.cells] == [("done", [])] * 2, "each knows its seconds"
    assert not list(folder.glob("*.checkpoint"))
    if how == signal.SIGKILL:
        run(real((tmp_path / "suite.toml").read_text(), "whole"))
        same(folder, tmp_path / "whole")


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of two nodes with a CPU each."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'bbqrec[ray]'")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made.address
    made.shutdown()


RAY = pytest.mark.filterwarnings("ignore")
"""Ray's own warnings are not ours."""


@pytest.mark.slow
@RAY
def test_ray_on_two_nodes_with_a_worker_that_is_killed(real, tmp_path, cluster):
    """It is begun again, on from its checkpoint, to the same numbers."""
    text = LONG.replace(
        'name = "popularity"', 'name = "other"\nmodel = "sasrec"\nwidth = 8\nepochs = 25\nbatch_size = 4'
    )
    folder, killed, together = tmp_path / "ray", [], []

    def kill() -> None:
        wait_for(lambda: list(folder.glob("*.checkpoint")))
        records = [hdf5.read_record(path) for path in folder.glob("*.record")]
        together.extend(record["label"] for record in records if record["status"] == "running")
        name = next(folder.glob("*.checkpoint")).name.removesuffix(".checkpoint")
        killed.append(hdf5.read_record(folder / f"{name}.record"))
        os.kill(killed[0]["process"], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    result = run(real(text, "ray", executor="ray", ray_address=cluster))
    thread.join()
    assert [cell["status"] for cell in result.cells] == ["done", "done"]
    assert len(together) == 2, "a step on each node"
    (cell,) = (cell for cell in result.cells if cell["name"] == killed[0]["label"])
    assert cell["at_least"] == ["train"], "nobody knows how long the killed one ran"
    run(real(text, "whole"))
    same(folder, tmp_path / "whole")


@pytest.mark.slow
@RAY
def test_ray_is_interrupted(real, tmp_path):
    """With a cluster of its own."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'bbqrec[ray]'")
    config = real(LONG, "broken")
    process, folder = start(config, "--executor", "ray"), tmp_path / "broken"
    wait_for(lambda: list(folder.glob("sasrec*.checkpoint")))
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "train sasrec, seed 0: interrupted" in json.loads(said.splitlines()[-1])["message"]
    assert list(folder.glob("sasrec*.checkpoint"))
    assert [cell["status"] for cell in run(config).cells] == ["done", "done"]


@pytest.mark.slow
@RAY
def test_what_no_node_has(real, cluster):
    with pytest.raises(LackingError, match="no node has 64 CPUs"):
        run(dataclasses.replace(real(SMALL, "ray", executor="ray", ray_address=cluster), threads=64))
