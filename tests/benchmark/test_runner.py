from __future__ import annotations

import dataclasses
import subprocess
import sys
import time

import pytest
from helpers import Listener

from bbqrec_cli.benchmark import records, work
from bbqrec_cli.benchmark.executors.local import Local
from bbqrec_cli.benchmark.planning import Estimates
from bbqrec_cli.benchmark.runner import Runner
from bbqrec_cli.errors import DataError, InterruptedRunError
from bbqrec_cli.locks import locked


@pytest.fixture
def tiny(graph, folder):
    """The suite's graph."""
    (folder / "work").mkdir()
    return graph()


@pytest.fixture
def runner(fake):
    """A fresh runner on a graph, as after a new start."""

    def make(graph, *, clock=time.monotonic, **more) -> Runner:
        talk = Listener()
        return Runner(graph=graph, executor=Local(talk, device="cpu", clock=clock), progress=talk, clock=clock, **more)

    return make


def test_everything_once(tiny, runner, fake):
    outcomes = runner(tiny).run()
    assert [(outcome.cell, outcome.status) for outcome in outcomes] == [(cell, "done") for cell in tiny.cells]
    assert [len(fake.of(stage)) for stage in ("tokenize", "train", "evaluate")] == [4, 6, 6]
    assert len(set(fake.calls)) == len(fake.calls) == len(tiny.steps) == 16
    assert all(step.done for step in tiny.steps.values())


def test_what_runs_and_what_is_left_is_shown(tiny, runner):
    sasrec = next(step for step in tiny.steps.values() if step.label == "sasrec, seed 0" and step.stage == "train")
    run = runner(tiny, estimates=Estimates({sasrec.alike: [600.0]}))
    run.run()
    assert run.progress.steps == 16
    assert run.progress.shown[0] == {"run": "train popularity, seed 0", "rest": "about 20 min and 14 steps not known"}
    assert run.progress.shown[-1] == {"run": "–", "rest": "nothing"}
    assert any(line.startswith("done: train sasrec, seed 0, ") for line in run.progress.logged)


def test_a_second_start_runs_nothing(tiny, runner, fake):
    first = runner(tiny)
    first.run()
    fake.calls.clear()
    second = runner(tiny)
    assert {outcome.status for outcome in second.run()} == {"done"}
    assert fake.calls == []
    assert second.records() == first.records(), "costs are remembered"


def test_every_step_has_a_record(tiny, runner, fake):
    runner(tiny).run()
    step = tiny.cells[1].step("train")
    record = records.read(step, Listener())
    record["figures"].pop("peak_memory_mb", None)  # on Linux
    assert {name: record[name] for name in ("stage", "label", "key", "status", "error", "at_least", "figures")} == {
        "stage": "train", "label": "sasrec, seed 0", "key": step.key, "status": "done", "error": "", "at_least": False,
        "figures": {"epochs": 2, "best_epoch": 1, "seconds": 0.5},
    }  # fmt: skip
    assert record["inputs"] == {"input": list(step.inputs["input"])}
    assert record["origin"]["device"] == "cpu"
    assert {path.name for path in step.output.parent.glob("*.record")} == {
        f"{each.output.name}.record" for each in tiny.steps.values()
    }


def test_numbers_within_numbers_are_figures():
    result = {"output": "x.h5", "epochs": 3, "fit": True, "validation": {"ndcg@10": 0.5}, "signals": ["id"], "cold": {}}
    assert records.numbers(result) == {"epochs": 3, "validation/ndcg@10": 0.5}


def test_what_cells_share_is_run_once(graph, folder, runner, fake, monkeypatch):
    (folder / "work").mkdir()
    twin = '[[system]]\nname = "other"\nmodel = "bbqrec"\ntokenizer = "ids"\n[[system]]\nname = "sasrec"'
    monkeypatch.setattr("bbqrec_cli.stages.evaluate.run", fake._stage("evaluate", "metrics"))
    runner(graph(('[[system]]\nname = "sasrec"', twin), ('file = "features.h5"', 'source = "demo"'))).run()
    assert [len(fake.of(stage)) for stage in ("prepare", "embed", "tokenize")] == [1, 1, 4]


def test_a_new_system_runs_alone(tiny, graph, runner, fake):
    runner(tiny).run()
    fake.calls.clear()
    runner(graph(("width = 8", "width = 16"))).run()
    assert {output.split("-")[0] for _, output in fake.calls} == {"sasrec"}
    assert len(fake.calls) == 4, "two seeds, train and evaluate"


def test_a_deleted_output_is_made_again(tiny, runner, fake):
    runner(tiny).run()
    fake.calls.clear()
    last = tiny.cells[2].last
    last.output.unlink()
    tiny.cells[2].step("tokenize").output.unlink()
    runner(tiny).run()
    assert fake.calls == [("evaluate", last.output.name)], "and what only its inputs needed is not"


def test_a_failure_stops_only_what_needs_it(tiny, runner, fake):
    def fail(stage, config):
        if stage == "tokenize" and config.output == tiny.cells[2].step("tokenize").output:
            raise DataError("no good", "mend it")
        if stage == "train" and config.model == "sasrec" and config.seed == 1:
            raise ZeroDivisionError("a bug")

    fake.before = fail
    run = runner(tiny)
    outcomes = {outcome.cell.name: outcome for outcome in run.run()}
    assert {name for name, outcome in outcomes.items() if outcome.status == "failed"} == {
        "ours, seed 0", "sasrec, seed 1",
    }  # fmt: skip
    assert outcomes["ours, seed 0"].error == "tokenize ids, seed 0: no good"
    assert outcomes["sasrec, seed 1"].error == "train sasrec, seed 1: ZeroDivisionError: a bug"
    assert run.progress.warned == [f"failed: {outcomes[name].error}" for name in ("ours, seed 0", "sasrec, seed 1")]
    failed = (tiny.cells[number].step(stage) for number, stage in ((2, "tokenize"), (5, "train")))
    first, second = (records.read(step, Listener()) for step in failed)
    assert (first["status"], first["error"], first["traceback"]) == ("failed", "no good", "")
    assert 'raise ZeroDivisionError("a bug")' in second["traceback"]

    fake.before = lambda stage, config: None
    fake.calls.clear()
    assert {outcome.status for outcome in runner(tiny).run()} == {"done"}
    assert [stage for stage, _ in fake.calls] == ["tokenize", "train", "evaluate", "train", "evaluate"]


def test_a_shared_failure_is_met_once(graph, folder, runner, fake):
    def fail(stage, config):
        raise DataError("no data")

    (folder / "work").mkdir()
    fake.before = fail
    outcomes = runner(graph(('file = "features.h5"', 'source = "demo"'))).run()
    assert {(outcome.status, outcome.error) for outcome in outcomes} == {("failed", "prepare demo: no data")}
    assert len(fake.calls) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InterruptedRunError("interrupted; 3 epochs are saved", "…")])
def test_an_interruption_goes_on(tiny, runner, fake, error):
    def interrupt(stage, config):
        if (stage, config.seed, getattr(config, "model", "")) == ("train", 0, "sasrec"):
            config.output.with_name(f"{config.output.name}.checkpoint").write_text("state")
            raise error

    fake.before = interrupt
    with pytest.raises(InterruptedRunError, match=r"^train sasrec, seed 0: interrupted") as caught:
        runner(tiny).run()
    assert caught.value.hint == "the same command goes on from there"
    done = list(fake.calls)
    step = tiny.cells[1].step("train")
    assert records.read(step, Listener())["status"] == "interrupted"

    fake.before = lambda stage, config: None
    fake.calls.clear()
    fake.configs.clear()
    runner(tiny).run()
    assert fake.calls[0] == ("train", step.output.name)
    assert fake.configs[0].resume
    assert not any(config.resume for config in fake.configs[1:] if hasattr(config, "resume"))
    assert not set(fake.calls) & set(done[:-1]), "what was done is not done again"
    assert not step.checkpoint.exists()


def test_interrupted_between_two_steps(tiny, runner, fake, monkeypatch):
    run = runner(tiny)
    monkeypatch.setattr(run.executor, "next", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(InterruptedRunError, match="train popularity, seed 0: interrupted"):
        run.run()


def test_seconds_add_up_over_interruptions(tiny, fake, runner):
    """A clock that goes on by ten seconds within each stage."""
    now = [0.0]

    def tick(stage, config):
        now[0] += 10
        if stop and stage == "train" and config.model == "sasrec":
            config.output.with_name(f"{config.output.name}.checkpoint").write_text("state")
            raise KeyboardInterrupt

    fake.before, stop, key = tick, True, tiny.cells[1].step("train").key
    for _ in range(2):
        with pytest.raises(InterruptedRunError):
            runner(tiny, clock=lambda: now[0]).run()
    stop = False
    run = runner(tiny, clock=lambda: now[0])
    run.run()
    found = run.records()
    assert (found[key]["seconds"], found[key]["at_least"]) == (30, False)
    assert found[tiny.cells[2].step("train").key]["seconds"] == 10


def test_a_kill_leaves_seconds_that_are_not_known(tiny, fake, runner):
    """As kill -9 leaves it: a checkpoint, and a record of a step that is still running."""
    step = tiny.cells[1].step("train")
    records.write(step, records.fresh(step) | {"status": "running"})
    step.checkpoint.write_text("state")
    run = runner(tiny)
    run.run()
    assert run.records()[step.key]["at_least"] is True
    assert run.records()[tiny.cells[2].step("train").key]["at_least"] is False


def test_a_step_whose_output_is_there_is_not_run(tiny, fake, runner):
    """As when whoever ran it was killed right after it had written its output, and it is asked for once more."""
    runner(tiny).run()
    fake.calls.clear()
    assert work.run_step(tiny.cells[0].last, Listener())["status"] == "done"
    assert fake.calls == []


def test_a_checkpoint_that_does_not_fit_is_done_without(tiny, fake, runner):
    step = tiny.cells[1].step("train")
    step.checkpoint.write_text("other")

    def refuse(stage, config):
        if getattr(config, "resume", False):
            raise DataError(f"{config.output}.checkpoint: the checkpoint is of another run: seed was 1 and is 0")

    fake.before = refuse
    run = runner(tiny)
    assert {outcome.status for outcome in run.run()} == {"done"}
    assert run.progress.warned[0].endswith("seed was 1 and is 0; starting anew")
    assert fake.of("train").count(step.output.name) == 2


def test_the_time_budget(tiny, fake, runner):
    """Every stage takes a minute. After three of them no cell is begun; the one that is under way is ended."""
    now = [0.0]

    def tick(stage, config):
        now[0] += 60

    fake.before = tick
    run = runner(tiny, minutes=3, clock=lambda: now[0])
    assert [outcome.status for outcome in run.run()] == ["done", "done", *["left"] * 6]
    assert run.progress.logged[-1] == "3 minutes are over: 6 cells are left for the next time"
    run = runner(tiny, minutes=1, clock=lambda: now[0])
    assert [outcome.status for outcome in run.run()] == ["done"] * 3 + ["left"] * 5, "what is done costs no time"
    run = runner(tiny, clock=lambda: now[0])
    assert {outcome.status for outcome in run.run()} == {"done"}
    assert len(fake.calls) == len(set(fake.calls))


def test_a_damaged_record_costs_the_seconds_only(tiny, fake, runner):
    runner(tiny).run()
    path = tiny.cells[1].last.record
    path.write_bytes(path.read_bytes()[:200])
    fake.calls.clear()
    run = runner(tiny)
    assert {outcome.status for outcome in run.run()} == {"done"}
    assert fake.calls == []
    assert set(tiny.steps) - set(run.records()) == {tiny.cells[1].last.key}
    assert "is not known any more" in run.progress.warned[0]


def test_origins_are_recorded(tiny, runner, monkeypatch):
    for number, commit in enumerate("ab"):
        monkeypatch.setattr(work, "_origin", lambda device, threads, commit=commit: {"commit": commit})
        some = dataclasses.replace(tiny, cells=tiny.cells[: number + 1])
        run = runner(some)
        run.run()
    found = [run.records()[cell.last.key]["origin"]["commit"] for cell in tiny.cells[:2]]
    assert found == ["a", "b"]


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
from bbqrec_cli.locks import locked
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
    with locked(tmp_path):
        pass
