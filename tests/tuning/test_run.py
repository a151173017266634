"""Equal budgets, going on, what is kept of each trial, and what is never read."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
from helpers import Listener, stop_trial

from bbqrec_cli import hdf5
from bbqrec_cli.config import load_toml
from bbqrec_cli.errors import (
    BrokenFileError,
    DataError,
    InterruptedRunError,
    MissingPackageError,
    OutputExistsError,
    UsageError,
)
from bbqrec_cli.records import Sequences
from bbqrec_cli.stages import train
from bbqrec_cli.tuning import study, trial
from bbqrec_cli.tuning.report import best_table
from bbqrec_cli.tuning.result import best_of
from bbqrec_cli.tuning.run import TuneConfig, run

pytest.importorskip("optuna")
SMALL = {"epochs": 3, "batch_size": 10, "width": 8, "layers": 1}


@pytest.fixture
def config(files, tmp_path) -> TuneConfig:
    """Two systems with three trials each."""
    return TuneConfig(
        input=files["features"], output=tmp_path / "work", model=("sasrec", "item-knn"), trials=3, device="cpu",
        precision="fp32", options=SMALL,
    )  # fmt: skip


def said(result) -> list[dict]:
    """The trials without what a clock says."""
    return said_of(result.trials)


def said_of(trials) -> list[dict]:
    return [{key: value for key, value in each.items() if key not in ("seconds", "finished")} for each in trials]


def test_the_budget_is_the_same_for_every_system(config):
    result = run(config)
    assert [(each["system"], each["number"]) for each in result.trials] == [
        (system, number) for number in (1, 2, 3) for system in ("sasrec", "item-knn")
    ]
    assert all(each["status"] == "complete" for each in result.trials)
    sasrec, knn = result.trials[:2]
    assert sasrec["tuned"].keys() == {
        "learning_rate", "weight_decay", "dropout", "heads", "loss", "negatives", "gbce_t",
    }  # fmt: skip
    assert knn["tuned"] == {"neighbours": 100, "shrinkage": 40.0, "decay": 0.5}, "first the defaults"
    assert (sasrec["options"]["width"], sasrec["epochs"]) == (8, 3)
    assert json.loads(json.dumps(result.to_json()))["systems"]["sasrec"]["trials"] == 3


def test_every_trial_is_in_the_ledger(config):
    result = run(config)
    kept = hdf5.read_tuning(config.output / "tuning.h5")
    assert kept["trials"] == result.trials
    assert kept["budget"] == {"trials": 3, "minutes": 0.0, "trial_minutes": 0.0}
    assert kept["systems"]["item-knn"]["tried"]["decay"] == "0 to 1"
    about = hdf5.describe(config.output / "tuning.h5")
    assert about["parents"][0]["sha256"] == hdf5.sha256(config.input)
    assert kept["trials"][0]["origin"]["precision"] == "fp32"
    assert "optuna" in kept["trials"][0]["origin"]["packages"]


def test_the_best_settings_are_a_recipe_that_train_takes(config, bbqrec, tmp_path):
    result = run(config)
    for system in ("sasrec", "item-knn"):
        best = result.best(system)
        assert best["figures"]["ndcg@10"] == max(each["figures"]["ndcg@10"] for each in result.of(system))
        recipe = result.recipes[system]
        done = bbqrec(
            "train", config.input, "--recipe", recipe, "-o", tmp_path / f"{system}.h5", "--device", "cpu",
            "--precision", "fp32", "--json",
        )  # fmt: skip
        assert done.status == 0, done.err
        assert json.loads(done.out)["validation"] == pytest.approx(best["figures"], abs=0)


def test_options_without_effect_are_in_no_recipe(config):
    """Negatives and their calibration, beside the whole softmax, which is trial 1's."""
    listener = Listener()
    result = run(dataclasses.replace(config, model=("sasrec",), trials=1), listener)
    (only,) = result.trials
    assert (only["options"]["loss"], "negatives" in only["options"]) == ("ce", True)
    values = load_toml(result.recipes["sasrec"], "recipe")[0]["train"]
    assert values["loss"] == "ce"
    assert not {"negatives", "gbce_t"} & values.keys()
    assert not [line for line in listener.logged if "no effect" in line]
    given = dataclasses.replace(config, model=("sasrec",), trials=1, options=SMALL | {"loss": "ce", "negatives": 7})
    given = dataclasses.replace(given, output=config.output / "given")
    run(given, listener)
    assert any("--negatives has no effect with this --loss" in line for line in listener.logged)


def test_the_protocol_is_in_the_recipe(config):
    result = run(dataclasses.replace(config, trials=1, exclude_seen=True))
    values, text = load_toml(result.recipes["sasrec"], "recipe")
    assert values["train"]["exclude_seen"] is True
    assert "seen items left out" in text


def test_a_recipe_keeps_its_patience(config, tmp_path, monkeypatch):
    """A figure that only falls: the best validation is the first one, and one more without a better one ends it."""
    mine = tmp_path / "mine.toml"
    settings = "epochs = 8\npatience = 1\nbatch_size = 10\nwidth = 8\nlayers = 1\n"
    mine.write_text(f'[train]\nmodel = "sasrec"\nvalidate_every = 3\n{settings}')
    values = iter(np.linspace(0.9, 0.1, 50))
    monkeypatch.setattr(train, "validation", lambda *_, **__: lambda model: {"ndcg@10": next(values), "recall@10": 0.5})
    one = dataclasses.replace(config, model=(), recipe=(str(mine),), trials=1, options={})
    result = run(one)
    (only,) = result.trials
    assert (only["best_epoch"], only["epochs"]) == (3, 6)
    assert load_toml(result.recipes["mine"], "recipe")[0]["train"]["validate_every"] == 3
    mine.write_text(mine.read_text().replace("validate_every = 3", "validate_every = 2"))
    with pytest.raises(DataError, match="validate_every was 3 and is 2"):
        run(one)


def test_the_first_trial_has_the_systems_own_values(config, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('[train]\nmodel = "item-knn"\nshrinkage = 12.3456\ndecay = 0.98765\n')
    first, second, _ = run(dataclasses.replace(config, model=(), recipe=(str(mine),), options={})).trials
    assert (first["options"]["shrinkage"], first["options"]["decay"]) == (12.3456, 0.98765)
    assert second["options"]["decay"] == float(f"{second['options']['decay']:.3g}"), "proposed: three digits"


@pytest.mark.parametrize("call", [1, 2, 4])
def test_resumed_is_uninterrupted(config, tmp_path, monkeypatch, call):
    with monkeypatch.context() as patch:
        stop_trial(call, patch)
        with pytest.raises(InterruptedRunError, match=f"{call - 1} finished trials are kept"):
            run(config)
    (config.output / "journal.log.lock").symlink_to("nowhere")
    whole = run(dataclasses.replace(config, output=tmp_path / "whole"))
    assert said(run(config)) == said(whole)


def test_systems_take_turns_after_an_interruption_and_with_one_more(config, monkeypatch):
    with monkeypatch.context() as patch:
        stop_trial(2, patch)
        with pytest.raises(InterruptedRunError):
            run(config)
    begun = stop_trial(0, monkeypatch)
    run(dataclasses.replace(config, model=("sasrec", "item-knn", "markov")))
    order = [rest[0].model for rest in begun]
    assert order == ["item-knn", "markov", *["sasrec", "item-knn", "markov"] * 2]


def test_nothing_runs_twice_and_a_larger_budget_goes_on(config, monkeypatch):
    first = run(config)
    with monkeypatch.context() as patch:
        stop_trial(1, patch)
        assert run(config).trials == first.trials
    more = run(dataclasses.replace(config, trials=4, model=("sasrec", "item-knn", "markov")))
    assert [len(more.of(name)) for name in ("sasrec", "item-knn", "markov")] == [4, 4, 4]
    assert more.of("sasrec")[:3] == first.of("sasrec")


def test_other_options_or_another_input_are_refused(config, files):
    run(dataclasses.replace(config, trials=1))
    with pytest.raises(DataError, match="sasrec in this folder are of another run: seed was 0 and is 1"):
        run(dataclasses.replace(config, seed=1))
    with pytest.raises(DataError, match="of another run: epochs was 3 and is 2"):
        run(dataclasses.replace(config, options=SMALL | {"epochs": 2}))
    with pytest.raises(DataError, match="its trials are of another input"):
        run(dataclasses.replace(config, input=files["dataset"]))


def test_the_test_split_is_never_read(config, catalogue, features, tmp_path):
    """With other last items, everything is the same."""
    lists = [[*map(int, rows[:-1]), (int(rows[-1]) + 5) % 12] for rows in catalogue.sequences]
    times = [list(range(len(rows))) for rows in lists]
    other = dataclasses.replace(catalogue, sequences=Sequences.from_lists(lists, times))
    hdf5.write_features(tmp_path / "other.h5", dataclasses.replace(features, catalogue=other), config={})
    changed = dataclasses.replace(config, input=tmp_path / "other.h5", output=tmp_path / "other")
    assert said(run(config)) == said(run(changed))


def test_what_stays_behind_is_pruned(config, monkeypatch):
    values = iter(np.linspace(0.9, 0.1, 50))
    monkeypatch.setattr(study, "UNPRUNED", 1)
    monkeypatch.setattr(train, "validation", lambda *_, **__: lambda model: {"ndcg@10": next(values), "recall@10": 0.5})
    result = run(dataclasses.replace(config, model=("sasrec",), options=SMALL | {"epochs": 8}))
    first, *later = result.trials
    assert (first["status"], first["epochs"]) == ("complete", 7), "6 validations without a better one"
    assert {each["status"] for each in later} == {"pruned"}
    assert [each["epochs"] for each in later] == [3, 3], "not in the first fourth of its epochs"
    assert all(each["figures"]["ndcg@10"] > 0 for each in later)
    assert hdf5.read_tuning(config.output / "tuning.h5")["trials"] == result.trials


def test_minutes_cut_the_last_trial(config):
    options = SMALL | {"epochs": 5000, "patience": 0}
    result = run(dataclasses.replace(config, trials=None, minutes=0.001, options=options))
    sasrec = result.of("sasrec")
    assert sasrec[-1]["status"] == "cut"
    assert 0 < sasrec[-1]["epochs"] < 5000
    assert sasrec[-1]["figures"]
    assert result.seconds("sasrec") >= 0.06
    assert sum(each["seconds"] for each in sasrec[:-1]) < 0.06


def test_a_trial_that_has_had_its_minutes_is_whole(config):
    options = SMALL | {"epochs": 5000, "patience": 0}
    result = run(dataclasses.replace(config, model=("sasrec",), trial_minutes=0.0005, options=options))
    assert [each["status"] for each in result.trials] == ["complete"] * 3
    assert all(0 < each["epochs"] < 5000 and each["figures"] for each in result.trials)
    assert hdf5.read_tuning(config.output / "tuning.h5")["budget"]["trial_minutes"] == 0.0005
    with pytest.raises(DataError, match=r"trial_minutes was 0.0005 and is 0.0"):
        run(dataclasses.replace(config, model=("sasrec",), options=options))


def test_pruning_waits_for_a_fourth_of_the_longest_trial_where_time_ends_them(config, monkeypatch):
    values = iter(np.linspace(0.9, 0.1, 50))
    monkeypatch.setattr(study, "UNPRUNED", 1)
    monkeypatch.setattr(train, "validation", lambda *_, **__: lambda model: {"ndcg@10": next(values), "recall@10": 0.5})
    options = SMALL | {"epochs": 200, "patience": 6}
    result = run(dataclasses.replace(config, model=("sasrec",), trial_minutes=5.0, options=options))
    assert [each["epochs"] for each in result.trials] == [7, 2, 2], "a fourth of 200 epochs would be 50"


@pytest.mark.slow
def test_a_trial_that_was_cut_is_run_again_with_a_larger_budget(config, tmp_path):
    """Else the best could stay behind the defaults."""
    long = dataclasses.replace(config, model=("sasrec",), options=SMALL | {"epochs": 30, "patience": 0})
    (cut,) = run(dataclasses.replace(long, trials=None, minutes=0.0001)).trials
    assert (cut["status"], cut["number"]) == ("cut", 1)
    assert said(run(dataclasses.replace(long, trials=None, minutes=0.0001))) == said_of([cut]), "its budget is spent"
    first, second = run(dataclasses.replace(long, trials=2)).trials
    assert (first["status"], first["epochs"], first["number"]) == ("complete", 30, 1)
    assert first["options"] == cut["options"]
    whole = run(dataclasses.replace(long, trials=1, output=tmp_path / "whole"))
    assert said_of([first]) == said(whole)
    assert second["number"] == 2


@pytest.mark.parametrize("less", [{"trials": 2}, {"trials": None, "minutes": 1e-6}])
def test_less_than_a_system_has_had_is_refused(config, less):
    run(dataclasses.replace(config, model=("item-knn",)))
    journal = (config.output / "journal.log").read_text()
    with pytest.raises(UsageError, match=r"item-knn has had more than this budget in this folder: 3 trials"):
        run(dataclasses.replace(config, model=("markov", "item-knn"), options={}, **less))
    assert "markov" not in hdf5.read_tuning(config.output / "tuning.h5")["systems"]
    assert (config.output / "journal.log").read_text().startswith(journal)


def test_the_ledger_keeps_the_trials_of_systems_that_are_not_asked_for(config, files):
    first = run(dataclasses.replace(config, model=("item-knn",)))
    second = run(dataclasses.replace(config, model=("markov",), options={}, trials=3))
    kept = hdf5.read_tuning(config.output / "tuning.h5")
    assert kept["trials"] == [*first.trials, *second.trials]
    assert kept["systems"].keys() == {"item-knn", "markov"}
    assert len(second.trials) == 3
    third = dataclasses.replace(config, model=("popularity",), options={})
    with pytest.raises(DataError, match=r"tuning\.h5: item-knn, markov had --seed 0, not 7"):
        run(dataclasses.replace(third, seed=7))
    with pytest.raises(DataError, match=r"had --exclude-seen False, not True"):
        run(dataclasses.replace(third, exclude_seen=True))
    with pytest.raises(UsageError, match=r"item-knn has had more than this budget in this folder: 3 trials"):
        run(dataclasses.replace(third, trials=2))
    with pytest.raises(DataError, match=r"tuning\.h5: its trials are of another input"):
        run(dataclasses.replace(config, model=("popularity",), options={}, input=files["dataset"]))


def test_a_recipe_of_ones_own_is_not_replaced(config):
    config.output.mkdir()
    mine = config.output / "mine.toml"
    mine.write_text('[train]\nmodel = "item-knn"\n')
    with pytest.raises(UsageError, match="it lies where the best settings are written"):
        run(dataclasses.replace(config, model=(), recipe=(str(mine),), options={}))
    assert mine.read_text() == '[train]\nmodel = "item-knn"\n'


def test_a_file_that_tune_did_not_write_is_not_replaced(config):
    config.output.mkdir()
    mine = config.output / "item-knn.toml"
    mine.write_text('# mine\n[train]\nmodel = "item-knn"\n')
    with pytest.raises(OutputExistsError, match=r"item-knn\.toml: is not of bbqrec tune"):
        run(config)
    assert mine.read_text().startswith("# mine")
    assert not (config.output / "journal.log").exists()
    run(dataclasses.replace(config, trials=1, force=True))
    assert mine.read_text().startswith("# item-knn tuned on ")
    run(config)


def test_a_refused_command_leaves_nothing_that_another_would_have_to_agree_with(config):
    run(dataclasses.replace(config, model=("item-knn",)))
    more = dataclasses.replace(config, model=("sasrec", "item-knn"))
    with pytest.raises(UsageError, match="item-knn has had more than this budget"):
        run(dataclasses.replace(more, trials=2, options=SMALL | {"epochs": 2}))
    assert len(run(more).of("sasrec")) == 3


def test_what_a_stopped_first_trial_leaves(config, monkeypatch):
    """Its study goes on with its settings only: Optuna knows a choice's values by then."""
    with monkeypatch.context() as patch:
        stop_trial(1, patch)
        with pytest.raises(InterruptedRunError):
            run(dataclasses.replace(config, model=("sasrec",)))
    with pytest.raises(DataError, match="of another run: width was 8 and is 16"):
        run(dataclasses.replace(config, model=("sasrec",), options=SMALL | {"width": 16}))


def test_others_of_a_smaller_budget_are_named(config):
    run(dataclasses.replace(config, model=("item-knn",), trials=1))
    said, later = Listener(), dataclasses.replace(config, model=("popularity",), options={})
    run(dataclasses.replace(later, trials=1), said)
    assert not said.warned
    warning = f"item-knn: less than this budget was spent in {config.output}; name all, for equal ones"
    for time in (1, 2):
        run(later, said)
        assert said.warned == [warning] * time
    run(dataclasses.replace(config, model=("item-knn",)))
    run(later, said)
    assert said.warned == [warning] * 2, "popularity, which has nothing to try, has one trial at any budget"


def test_where_nothing_is_tuned_one_trial_is_all(config):
    assert len(run(dataclasses.replace(config, model=("popularity",), options={})).trials) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("epoch 1, step 1: the loss is nan"), "epoch 1, step 1: the loss is nan"),
        (ValueError("a bug"), "ValueError: a bug"),
    ],
)
def test_a_failed_trial_is_kept_and_counted(config, monkeypatch, error, said):
    calls = []

    def fails(*rest, **more):
        calls.append(rest)
        if len(calls) == 2:
            raise error
        return train.learn(*rest, **more)

    monkeypatch.setattr(trial, "learn", fails)
    result = run(dataclasses.replace(config, model=("sasrec",)))
    assert [each["status"] for each in result.trials] == ["complete", "failed", "complete"]
    assert result.trials[1]["error"] == said
    assert hdf5.read_tuning(config.output / "tuning.h5")["trials"] == result.trials
    result.check()


def test_if_all_fail_it_is_said(config, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("CUDA out of memory.\nMore")

    monkeypatch.setattr(trial, "learn", fails)
    result = run(dataclasses.replace(config, model=("sasrec",)))
    assert not result.recipes
    with pytest.raises(DataError, match="sasrec: every trial failed, the first with: RuntimeError: CUDA out of memory"):
        result.check()


def test_needs_are_checked_before_any_trial(config):
    with pytest.raises(DataError, match="bbqrec needs semantic IDs"):
        run(dataclasses.replace(config, model=("sasrec", "bbqrec"), options={}))
    assert not config.output.exists()


def test_a_damaged_journal(config):
    config.output.mkdir()
    (config.output / "journal.log").write_text("no journal\n{}\n")
    with pytest.raises(BrokenFileError, match=r"journal\.log"):
        run(config)


def test_without_optuna(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match="needs Optuna") as caught:
        run(config)
    assert caught.value.hint == "pip install 'bbqrec[tune]'"


def test_the_page(config, tmp_path):
    for name in ("page.md", "page.html"):
        run(dataclasses.replace(config, report=tmp_path / name))
    text = (tmp_path / "page.md").read_text()
    for heading in ("Best settings", "Trials of sasrec", "Trials of item-knn", "What is tried"):
        assert f"## {heading}\n" in text
    assert "The budget of each system: 3 trials." in text
    assert "--trials 3" in text
    assert 'model = "item-knn"' in text
    assert "<html" in (tmp_path / "page.html").read_text()
    with pytest.raises(UsageError, match=r"\.html or \.md"):
        run(dataclasses.replace(config, report=tmp_path / "page.pdf"))


def test_the_command_line(bbqrec, files, tmp_path):
    folder = tmp_path / "work"
    common = (files["features"], "-o", folder, "--device", "cpu", "--trials", 2)
    done = bbqrec("tune", *common, "--model", "item-knn,markov", "--decay", 0.4)
    assert done.status == 0, done.err
    assert "item-knn.toml" in "".join(done.out.split()), "the command that uses the best settings, broken into lines"
    assert (folder / "item-knn.toml").exists()
    assert "item-knn, trial 1: neighbours 100, shrinkage 40.0\n" in done.err
    kept = hdf5.read_tuning(folder / "tuning.h5")["trials"]
    assert {each["options"]["decay"] for each in kept} == {0.4}
    wrong = bbqrec("tune", *common, "--model", "item-knn,markov", "--width", 8)
    assert wrong.status == 2
    assert "item-knn or markov has no width" in wrong.err
    assert bbqrec("tune", *common, "--model", "item-nn").status == 2
    shown = bbqrec("tune", "--show-space", "--model", "sasrec", "--recipe", "hstu", "--json")
    assert json.loads(shown.out)["systems"]["sasrec"]["tried"]["width"] == "32, 64, 128, 256"
    assert "--temperature" in bbqrec("tune", "--recipe", "hstu", "--help").out


@pytest.mark.parametrize("left", [-1, -20, 30])
def test_a_line_that_was_not_finished(config, left):
    """As a full disk or a power cut leaves the journal: Optuna would write on in that line."""
    first = run(dataclasses.replace(config, trials=2))
    journal = config.output / "journal.log"
    text = journal.read_bytes()
    journal.write_bytes(text[:left] if left < 0 else text[: text.rfind(b"\n", 0, -1) + left])
    assert said(run(config))[: len(first.trials)] == said(first)


def test_an_input_that_changes(config, files, tmp_path, monkeypatch):
    """A trial on other data is no trial of this tuning; nor is it one afterwards."""
    source, before = tmp_path / "source.h5", files["features"].read_bytes()
    source.write_bytes(before)
    config, learn = dataclasses.replace(config, input=source, model=("sasrec",)), trial.learn

    def changed(*args, **more):
        made = learn(*args, **more)
        source.write_bytes(before + b"\0")
        return made

    run(dataclasses.replace(config, trials=1))
    with monkeypatch.context() as patch:
        patch.setattr(trial, "learn", changed)
        with pytest.raises(DataError, match=r"source\.h5: has changed since the tuning began; the last trial"):
            run(config)
    with pytest.raises(DataError, match="of another input"):
        run(config)
    source.write_bytes(before)
    assert [len(run(config).of("sasrec")), len(hdf5.read_tuning(config.output / "tuning.h5")["trials"])] == [3, 3]
    assert hdf5.describe(config.output / "tuning.h5")["parents"][0]["sha256"] == hdf5.sha256(source)


def test_of_equal_trials_the_first_is_best():
    trials = [{"number": number, "figures": {"ndcg@10": value}} for number, value in enumerate((0.1, 0.3, 0.3))]
    assert best_of(trials)["number"] == 1


def test_the_best_trial_stands_beside_the_first(config):
    result = run(config)
    for each, value in zip(result.of("item-knn"), (0.1, 0.3, 0.2), strict=True):
        each["figures"] = {"ndcg@10": value, "recall@10": value / 2}
    row = best_table(result).rows[1]
    assert [each.lines[0] for each in row][-4:-1] == ["0.3000", "0.1500", "0.1000"]
