from __future__ import annotations

import subprocess
import sys
import time

import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark.lock import locked
from bbqrec_cli.benchmark.runner import STATE, Runner
from bbqrec_cli.errors import DataError, InterruptedRunError


class Talk:
    """A progress that remembers what was said."""

    def __init__(self) -> None:
        self.logs: list[str] = []
        self.warnings: list[str] = []

    def log(self, message: str) -> None:
        self.logs.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def cells(plan, folder):
    (folder / "work").mkdir()
    return plan()


@pytest.fixture
def runner(folder, fake):
    """A fresh runner on the same folder, as after a new start."""

    def make(**more) -> Runner:
        return Runner(folder=folder / "work", suite={"name": "tiny"}, stages=fake.stages(), progress=Talk(), **more)

    return make


def test_everything_once(cells, runner, fake):
    outcomes = runner().run(cells)
    assert [(outcome.cell, outcome.status) for outcome in outcomes] == [(cell, "done") for cell in cells]
    assert [len(fake.of(stage)) for stage in ("tokenize", "train", "evaluate")] == [4, 6, 6]
    assert len(set(fake.calls)) == len(fake.calls) == 16
    assert all(step.output.exists() for cell in cells for step in cell.steps)


def test_a_second_start_runs_nothing(cells, runner, fake):
    first = runner()
    first.run(cells)
    fake.calls.clear()
    second = runner()
    assert {outcome.status for outcome in second.run(cells)} == {"done"}
    assert fake.calls == []
    assert second.records == first.records, "costs are remembered"


def test_what_cells_share_is_run_once(plan, folder, runner, fake):
    (folder / "work").mkdir()
    twin = '[[system]]\nname = "other"\nmodel = "bbqrec"\ntokenizer = "ids"\n[[system]]\nname = "sasrec"'
    fake._evaluate = fake._stage("evaluate", "metrics")
    cells = plan(('[[system]]\nname = "sasrec"', twin), ('file = "features.h5"', 'source = "demo"'))
    runner().run(cells)
    assert [len(fake.of(stage)) for stage in ("prepare", "embed", "tokenize")] == [1, 1, 4]


def test_a_new_system_runs_alone(cells, plan, runner, fake):
    runner().run(cells)
    fake.calls.clear()
    runner().run(plan(("width = 8", "width = 16")))
    assert {output.split("-")[0] for _, output in fake.calls} == {"sasrec"}
    assert len(fake.calls) == 4, "two seeds, train and evaluate"


def test_a_deleted_output_is_made_again(cells, runner, fake):
    runner().run(cells)
    fake.calls.clear()
    cells[1].last.output.unlink()
    runner().run(cells)
    assert fake.calls == [("evaluate", cells[1].last.output.name)]


def test_a_failure_stops_only_what_needs_it(cells, runner, fake):
    def fail(stage, config):
        if stage == "tokenize" and config.output == cells[2].step("tokenize").output:
            raise DataError("no good", "mend it")
        if stage == "train" and config.model == "sasrec" and config.seed == 1:
            raise ZeroDivisionError("a bug")

    fake.before = fail
    run = runner()
    outcomes = {outcome.cell.name: outcome for outcome in run.run(cells)}
    assert {name for name, outcome in outcomes.items() if outcome.status == "failed"} == {
        "ours, seed 0", "sasrec, seed 1",
    }  # fmt: skip
    assert outcomes["ours, seed 0"].error == "tokenize ids, seed 0: no good"
    assert outcomes["sasrec, seed 1"].error == "train sasrec, seed 1: ZeroDivisionError: a bug"
    assert run.progress.warnings == [f"failed: {outcomes[name].error}" for name in ("ours, seed 0", "sasrec, seed 1")]
    records = hdf5.read_benchmark(run.folder / STATE)["steps"]
    assert records[cells[2].step("tokenize").key]["status"] == "failed"
    assert 'raise ZeroDivisionError("a bug")' in records[cells[5].step("train").key]["traceback"]

    fake.before = lambda stage, config: None
    fake.calls.clear()
    assert {outcome.status for outcome in runner().run(cells)} == {"done"}
    assert [stage for stage, _ in fake.calls] == ["tokenize", "train", "evaluate", "train", "evaluate"]


def test_a_shared_failure_is_met_once(plan, folder, runner, fake):
    def fail(stage, config):
        raise DataError("no data")

    (folder / "work").mkdir()
    fake.before = fail
    outcomes = runner().run(plan(('file = "features.h5"', 'source = "demo"')))
    assert {(outcome.status, outcome.error) for outcome in outcomes} == {("failed", "prepare demo: no data")}
    assert len(fake.calls) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InterruptedRunError("interrupted; 3 epochs are saved", "…")])
def test_an_interruption_goes_on(cells, runner, fake, error):
    def interrupt(stage, config):
        if (stage, config.seed, getattr(config, "model", "")) == ("train", 0, "sasrec"):
            config.output.with_name(f"{config.output.name}.checkpoint").write_text("state")
            raise error

    fake.before = interrupt
    with pytest.raises(InterruptedRunError, match=r"^train sasrec, seed 0: interrupted") as caught:
        runner().run(cells)
    assert caught.value.hint == "the same command goes on from there"
    done = list(fake.calls)
    step = cells[1].step("train")
    assert hdf5.read_benchmark(step.output.parent / STATE)["steps"][step.key]["status"] == "interrupted"

    fake.before = lambda stage, config: None
    fake.calls.clear()
    fake.configs.clear()
    runner().run(cells)
    assert fake.calls[0] == ("train", step.output.name)
    assert fake.configs[0].resume
    assert not any(config.resume for config in fake.configs[1:] if hasattr(config, "resume"))
    assert not set(fake.calls) & set(done[:-1]), "what was done is not done again"
    assert not step.checkpoint.exists()


def test_interrupted_between_two_steps(cells, runner, fake, monkeypatch):
    run = runner()
    monkeypatch.setattr(run, "_run_step", lambda step: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(InterruptedRunError, match="popularity, seed 0: interrupted"):
        run.run(cells)


def test_seconds_add_up_over_interruptions(cells, fake, runner):
    """A clock that goes on by ten seconds within each stage."""
    now = [0.0]

    def tick(stage, config):
        now[0] += 10
        if stop and stage == "train" and config.model == "sasrec":
            config.output.with_name(f"{config.output.name}.checkpoint").write_text("state")
            raise KeyboardInterrupt

    fake.before, stop, key = tick, True, cells[1].step("train").key
    for _ in range(2):
        with pytest.raises(InterruptedRunError):
            runner(clock=lambda: now[0]).run(cells)
    stop = False
    run = runner(clock=lambda: now[0])
    run.run(cells)
    assert (run.records[key]["seconds"], run.records[key]["at_least"]) == (30, False)
    assert run.records[cells[2].step("train").key]["seconds"] == 10


def test_a_kill_leaves_seconds_that_are_not_known(cells, fake, runner):
    """As kill -9 leaves it: a checkpoint, and a record of a step that is still running."""
    first, step = runner(), cells[1].step("train")
    first.records[step.key] = {"status": "running", "seconds": 0.0}
    first.save()
    step.checkpoint.write_text("state")
    run = runner()
    run.run(cells)
    assert run.records[step.key]["at_least"] is True
    assert run.records[cells[2].step("train").key]["at_least"] is False


def test_a_checkpoint_that_does_not_fit_is_done_without(cells, fake, runner):
    step = cells[1].step("train")
    step.checkpoint.write_text("other")

    def refuse(stage, config):
        if getattr(config, "resume", False):
            raise DataError(f"{config.output}.checkpoint: the checkpoint is of another run: seed was 1 and is 0")

    fake.before = refuse
    run = runner()
    assert {outcome.status for outcome in run.run(cells)} == {"done"}
    assert run.progress.warnings[0].endswith("seed was 1 and is 0; starting anew")
    assert fake.of("train").count(step.output.name) == 2


def test_the_time_budget(cells, fake, runner):
    """Every stage takes a minute. After three of them no cell is begun; the one that is under way is ended."""
    now = [0.0]

    def tick(stage, config):
        now[0] += 60

    fake.before = tick
    run = runner(minutes=3, clock=lambda: now[0])
    assert [outcome.status for outcome in run.run(cells)] == ["done", "done", *["left"] * 6]
    assert run.progress.logs[-1] == "3 minutes are over: 6 cells are left for the next time"
    run = runner(minutes=1, clock=lambda: now[0])
    assert [outcome.status for outcome in run.run(cells)] == ["done"] * 3 + ["left"] * 5, "what is done costs no time"
    run = runner(clock=lambda: now[0])
    assert {outcome.status for outcome in run.run(cells)} == {"done"}
    assert len(fake.calls) == len(set(fake.calls))


def test_damaged_notes_cost_the_seconds_only(cells, fake, runner):
    first = runner()
    first.run(cells)
    (first.folder / STATE).write_bytes((first.folder / STATE).read_bytes()[:200])
    fake.calls.clear()
    run = runner()
    assert {outcome.status for outcome in run.run(cells)} == {"done"}
    assert fake.calls == []
    assert "made anew" in run.progress.warnings[0]


def test_origins_are_recorded(cells, runner):
    runner(origin={"commit": "a"}).run(cells[:1])
    run = runner(origin={"commit": "b"})
    run.run(cells[:2])
    assert [run.records[cell.last.key]["origin"] for cell in cells[:2]] == [{"commit": "a"}, {"commit": "b"}]


def test_one_run_a_folder(tmp_path):
    with locked(tmp_path):
        with pytest.raises(DataError, match=r"another run is at work in this folder \(process \d+\)"), locked(tmp_path):
            pass
        with pytest.raises(DataError), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


def test_a_killed_run_keeps_nobody_out(tmp_path):
    code = f"""
import time
from pathlib import Path
from bbqrec_cli.benchmark.lock import locked
with locked(Path({str(tmp_path)!r})):
    print("locked", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(DataError, match=f"process {process.pid}"), locked(tmp_path):
            pass
        process.kill()
        process.wait()
    began = time.monotonic()
    with locked(tmp_path):
        assert time.monotonic() - began < 5
