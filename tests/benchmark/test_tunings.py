"""Systems that a suite tunes before it trains them."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from helpers import Listener, stop_trial

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark.graph import Machine, Step, make_graph
from bbqrec_cli.benchmark.merging import merge
from bbqrec_cli.benchmark.planning import Estimates
from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.benchmark.suite import load_suite
from bbqrec_cli.benchmark.work import run_step
from bbqrec_cli.errors import DataError, MissingPackageError, UsageError
from bbqrec_cli.progress import SILENT
from bbqrec_cli.stages import train
from bbqrec_cli.tuning import one, trial
from bbqrec_cli.tuning.systems import in_effect

pytest.importorskip("optuna")
SUITE = """
name = "tiny"
seeds = [0, 1]

[data]
file = "features.h5"

[tune]
trials = 3

[[system]]
name = "popularity"

[[system]]
name = "item-knn"

[[system]]
name = "sasrec"
width = 8
epochs = 3
batch_size = 10
"""
IDS = """
[[tokenizer]]
name = "ids"
method = "rqvae"
codebook_size = 4
levels = 2

[[system]]
name = "ours"
model = "tiger"
tokenizer = "ids"
"""


def steps_of(graph, system: str, seed: int = 0) -> dict[str, Step]:
    (cell,) = (each for each in graph.cells if (each.system, each.seed) == (system, seed))
    return {step.stage: step for step in cell.steps}


@pytest.fixture
def config(folder):
    """The options of a run of the tuned suite."""
    (folder / "suite.toml").write_text(SUITE)

    def make(**more) -> BenchmarkConfig:
        given = {"suite": str(folder / "suite.toml"), "output": folder / "work", "device": "cpu"}
        return BenchmarkConfig(**(given | more))

    return make


def test_a_system_is_tuned_once_for_all_seeds(graph):
    made = graph(text=SUITE + IDS)
    for name in ("item-knn", "sasrec", "ours"):
        first, second = steps_of(made, name, 0), steps_of(made, name, 1)
        assert first["tune"] is second["tune"]
        assert first["train"].key != second["train"].key
        assert first["train"].inputs["tuned"] == [first["tune"].key]
        assert first["tune"] in made.before(second["train"])
    assert "tune" not in steps_of(made, "popularity"), "nothing is to be tried"
    assert steps_of(made, "ours", 1)["tune"].config.input == steps_of(made, "ours", 0)["tokenize"].output
    other = graph(("trials = 3", "trials = 3\nseed = 1"), text=SUITE + IDS)
    assert steps_of(other, "ours", 0)["tune"].config.input == steps_of(other, "ours", 1)["tokenize"].output


def test_other_budgets_are_other_trainings_and_none_is_the_one_before(graph):
    plain = graph(("[tune]\ntrials = 3\n", ""), text=SUITE)
    tuned, more = graph(text=SUITE), graph(("trials = 3", "trials = 4"), text=SUITE)
    left = graph(("width = 8", "width = 8\ntune = false"), text=SUITE)
    keys = [steps_of(each, "sasrec")["train"].key for each in (plain, tuned, more, left)]
    assert len(set(keys)) == 3
    assert keys[0] == keys[3]
    assert "tune" in steps_of(left, "item-knn")


def test_the_order_of_a_table_changes_no_key(graph):
    turned = graph(("width = 8\nepochs = 3", "epochs = 3\nwidth = 8"), text=SUITE)
    assert turned.steps.keys() == graph(text=SUITE).steps.keys()


def test_what_is_tried_is_part_of_the_key(graph, monkeypatch):
    key = steps_of(graph(text=SUITE), "sasrec")["tune"].key
    monkeypatch.setattr(one, "shown", lambda search: "something else")
    assert steps_of(graph(text=SUITE), "sasrec")["tune"].key != key


def test_what_a_table_gives_is_fixed_but_for_what_it_names(graph):
    fixed = steps_of(graph(text=SUITE), "sasrec")["tune"].config
    assert "width" not in fixed.tried
    assert fixed.tried["learning_rate"] == "0.0001 to 0.01, log scale"
    tried = steps_of(graph(("width = 8", 'width = 8\ntune = ["width"]'), text=SUITE), "sasrec")["tune"].config
    assert tried.tried["width"] == "8, 32, 64, 128, 256"
    assert tried.system.first["width"] == 8
    none = steps_of(graph(("width = 8", "width = 8\ntune = []"), text=SUITE), "sasrec")["tune"].config
    assert none.tried == fixed.tried
    recipe = steps_of(graph(('name = "sasrec"', 'name = "sasrec"\nrecipe = "sasrec-recbole"'), text=SUITE), "sasrec")
    assert recipe["tune"].config.system.first["learning_rate"] == 1e-3
    assert "learning_rate" in recipe["tune"].config.tried, "a recipe is where it starts"


def test_what_a_sweep_varies_is_not_tuned(graph):
    """Whatever its system is tuned in."""
    sweep = '\n[[sweep]]\nname = "widths"\nsystem = "sasrec"\noption = "width"\nvalues = [8, 16]\n'
    for words, layers in (('"width"', False), ('["width", "layers"]', True)):
        made = graph(("width = 8", f"width = 8\nlayers = 1\ntune = {words}"), text=SUITE + sweep)
        for value in (8, 16):
            of_value = steps_of(made, f"sasrec, width={value}")["tune"].config
            assert ("width" in of_value.tried, "layers" in of_value.tried) == (False, layers)
            assert of_value.options["width"] == value
        assert "width" in steps_of(made, "sasrec")["tune"].config.tried


def test_the_limit_of_trainings_is_that_of_trials(config):
    suite = Path(config().suite)

    def trial_minutes(limit: float) -> set[float]:
        made = (each.tuning for each in load_suite(str(suite), train_minutes=limit).systems)
        return {each.trial_minutes for each in made if each}

    assert (trial_minutes(0.0), trial_minutes(2.0)) == ({0.0}, {2.0})
    suite.write_text(SUITE.replace("trials = 3", "trials = 3\ntrial-minutes = 0.5"))
    assert trial_minutes(2.0) == {0.5}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("trials = 3", "", r"\[tune\] needs trials or minutes"),
        ("trials = 3", "trials = -1", "trials is -1"),
        ("trials = 3", "trails = 3", "did you mean 'trials'"),
        ("width = 8", 'width = 8\ntune = ["widht"]', "did you mean 'width'"),
        ("width = 8", "width = 8\ntune = 3", "tune is 3"),
        ("width = 8", 'width = 8\ntune = ["epochs"]', "tune is 'epochs'; known: 'width'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(folder, old, new, says):
    (folder / "suite.toml").write_text(SUITE.replace(old, new))
    with pytest.raises(UsageError, match=says):
        load_suite(str(folder / "suite.toml"))


def test_every_seed_is_trained_with_the_best_settings(config, folder):
    listener = Listener()
    result = run(config(report=folder / "page.md"), listener)
    assert not any("has no effect" in line for line in listener.logged), "nobody gave it"
    tuning = result.tunings[""]
    assert [each.name for each in tuning.systems] == ["item-knn", "sasrec"]
    assert len(tuning.of("sasrec")) == 3
    graph = make_graph(load_suite(str(folder / "suite.toml")), _machine(folder))
    for name in ("item-knn", "sasrec"):
        best = max(tuning.of(name), key=lambda each: each["figures"]["ndcg@10"])
        for seed in (0, 1):
            options = hdf5.describe(steps_of(graph, name, seed)["train"].output)["config"]["options"]
            assert in_effect(name, options) == in_effect(name, best["options"])
    said = json.loads(json.dumps(result.to_json()))["tuning"]
    assert said["sasrec"]["best"]["tuned"] == tuning.best("sasrec")["tuned"]
    text = (folder / "page.md").read_text()
    for heading in ("Tuning", "Trials of item-knn", "Trials of sasrec", "What is tried"):
        assert f"## {heading}\n" in text
    assert "The budget of each system: 3 trials." in text
    assert not list((folder / "work").glob("*.journal"))
    again = run(config())
    assert again.tunings[""].trials == tuning.trials


def _machine(folder):
    return Machine(folder=folder / "work", device="cpu")


def test_a_tuning_is_estimated_by_its_budget(graph):
    timed = steps_of(graph(("trials = 3", "minutes = 2"), text=SUITE), "sasrec")
    assert Estimates({}).seconds(timed["tune"]) == 120
    assert Estimates({timed["tune"].alike: [30.0]}).seconds(timed["tune"]) == 30
    assert Estimates({}).seconds(timed["train"]) is None
    assert Estimates({}).seconds(steps_of(graph(text=SUITE), "sasrec")["tune"]) is None


def test_an_interrupted_tuning_goes_on(graph, folder, monkeypatch):
    step = steps_of(graph(text=SUITE, machine=_machine(folder)), "sasrec")["tune"]
    step.output.parent.mkdir()
    with monkeypatch.context() as patch:
        begun = stop_trial(2, patch)
        assert run_step(step, SILENT)["error"] == "interrupted after 1 trials"
    assert not step.done
    more = stop_trial(0, monkeypatch)
    record = run_step(step, SILENT)
    assert (record["status"], record["figures"]["trials"], len(begun) + len(more)) == ("done", 3, 4)


def test_another_process_gets_all_by_json(graph, folder):
    made = graph(text=SUITE, machine=_machine(folder))
    (folder / "work").mkdir()
    for step in made.steps.values():
        assert Step.from_json(step.to_json()) == step
    steps = steps_of(made, "item-knn")
    for stage in ("tune", "train"):
        assert run_step(Step.from_json(steps[stage].to_json()), SILENT)["status"] == "done"
    best = one.best_options(steps["tune"].output)
    assert hdf5.describe(steps["train"].output)["config"]["options"] == best


@pytest.mark.slow
def test_where_every_trial_fails_the_rest_goes_on(config, monkeypatch):
    def fails(config, *rest, **more):
        if config.model == "sasrec":
            raise DataError("no luck")
        return train.learn(config, *rest, **more)

    monkeypatch.setattr(trial, "learn", fails)
    result = run(config())
    assert [each["system"] for each in result.of("failed")] == ["sasrec", "sasrec"]
    assert "tune sasrec: every trial failed, the first with: no luck" in result.of("failed")[0]["error"]
    assert len(result.of("done")) == 4
    monkeypatch.setattr(trial, "learn", train.learn)
    assert len(run(config()).of("done")) == 6, "what failed is tried again"


@pytest.mark.slow
def test_merged_folders_keep_the_trials(config, folder):
    first = run(config())
    merge([folder / "work"], folder / "both")
    again = run(config(output=folder / "both"))
    assert again.tunings[""].trials == first.tunings[""].trials


def with_other_trials(work: Path) -> Path:
    """The ledger of sasrec in a work folder, whose trials all have another rate from now on."""
    (ledger,) = work.glob("sasrec-*.tuning.h5")
    found = hdf5.read_tuning(ledger)
    for each in found["trials"]:
        each["options"]["learning_rate"] = 0.25
    ledger.unlink()
    hdf5.write_tuning(ledger, found)
    return ledger


@pytest.mark.slow
def test_other_trials_than_a_cell_was_trained_with(config, folder):
    """Of another machine, or made anew: the seeds would stand under settings that they did not have. So would those of
    a model that is united with it."""
    (folder / "suite.toml").write_text(SUITE + '[[system]]\nname = "both"\nmodel = "popularity"\nunite = ["sasrec"]\n')
    run(config())
    work, other = folder / "work", folder / "other"
    shutil.copytree(work, other)
    ledger = with_other_trials(work)
    merged = merge([work, other], folder / "both")
    assert [each["file"] for each in merged.conflicts] == [ledger.name]
    before = [each["system"] for each in run(config()).of("failed")]
    result = run(config())
    assert before == [each["system"] for each in result.of("failed")] == ["sasrec", "both", "sasrec", "both"]
    said = result.of("failed")[0]["error"]
    assert f"trained with other settings than the best of {ledger.name}; delete sasrec-" in said
    assert len(result.of("done")) == 4
    stale = {name for each in result.of("failed") for name in re.findall(r"[\w-]+\.\w+\.h5", each["error"])} - {
        ledger.name
    }
    assert sorted(name.split(".")[1] for name in stale) == ["metrics"] * 4 + ["model"] * 2
    for name in stale:
        (work / name).unlink()
    assert len(run(config()).of("done")) == 8
    (model, _) = work.glob("sasrec-*.model.h5")
    assert hdf5.describe(model)["config"]["options"]["learning_rate"] == 0.25


@pytest.mark.slow
def test_metrics_of_another_folders_model(config, folder):
    """A folder that was stopped before it evaluated has a record of its own training, which its ledger is of."""
    run(config())
    work, stopped = folder / "work", folder / "stopped"
    shutil.copytree(work, stopped)
    ledger = with_other_trials(stopped)
    for path in stopped.glob("sasrec-*"):
        if path != ledger and not path.name.endswith("tuning.h5.record"):
            path.unlink()
    run(config(output=stopped))
    for path in stopped.glob("sasrec-*.metrics.h5*"):
        path.unlink()
    merged = merge([stopped, work], folder / "both")
    assert [each["file"] for each in merged.conflicts] == [ledger.name]
    failed = run(config(output=folder / "both")).of("failed")
    assert [each["system"] for each in failed] == ["sasrec", "sasrec"]
    both = merge([work, stopped], folder / "other")
    assert len(run(config(output=both.output)).of("done")) == 6, "all of the first one"


@pytest.mark.slow
def test_a_damaged_ledger_costs_its_cells_only(config, folder):
    run(config())
    (ledger,) = (folder / "work").glob("sasrec-*.tuning.h5")
    ledger.write_bytes(ledger.read_bytes()[:2000])
    result = run(config(report=folder / "page.md"))
    assert [each["system"] for each in result.of("failed")] == ["sasrec", "sasrec"]
    assert f"{ledger.name}: " in result.of("failed")[0]["error"]
    assert [each.name for each in result.tunings[""].systems] == ["item-knn"]


def test_optuna_is_missed_before_anything_runs(config, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match="Optuna"):
        run(config())
    assert not (folder / "work").exists()
