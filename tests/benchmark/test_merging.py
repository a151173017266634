"""Work folders of two machines as one."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark.merging import merge
from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.errors import DataError
from bbqrec_cli.hdf5.schema import KINDS
from bbqrec_cli.records import Sequences


@pytest.fixture
def suite(folder):
    """`suite("seeds = [1]")` is the tiny suite with other seeds."""

    def write(seeds: str) -> str:
        text = (folder / "suite.toml").read_text().replace("seeds = [0, 1]", seeds)
        (folder / "own.toml").write_text(text)
        return str(folder / "own.toml")

    return write


@pytest.fixture
def two(suite, folder, fake):
    """Folders with seed 0 and with seed 1."""
    fake.records["model"] = dataclasses.replace(fake.records["model"], history=[{"epoch": 1, "loss": 0.5}])
    for seed, name in enumerate("ab"):
        run(BenchmarkConfig(suite=suite(f"seeds = [{seed}]"), output=folder / name, device="cpu"))
    fake.calls.clear()
    return folder / "a", folder / "b"


def test_both_seeds_are_done_afterwards(two, suite, folder, fake, bbqrec):
    done = bbqrec("benchmark", "merge", *two, "-o", folder / "c", "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["conflicts"] == []
    # tokens (2) and metrics (3) of each seed, and a record of each of the 8 steps.
    assert found["taken"] == {str(each): 13 for each in two}
    assert not list((folder / "c").glob("*.model.h5")), "models are large"
    made = run(BenchmarkConfig(suite=suite("seeds = [0, 1]"), output=folder / "c", device="cpu"))
    assert fake.calls == [], "nothing runs again"
    assert len(made.of("done")) == 8
    assert len(made.systems[""]["sasrec"]["recall@5"].values) == 2
    assert made.provenance["unrecorded_steps"] == 0
    curves = {"loss": [(1, 0.5)]}
    systems = ("popularity", "sasrec", "ours")
    assert made.curves == {(name, "", seed): curves for seed in (0, 1) for name in systems}, "models are not there"


def test_the_same_twice_changes_nothing(two, folder):
    merge(two, folder / "c")
    again = merge(two, folder / "c")
    assert (again.taken, again.conflicts) == ({str(each): 0 for each in two}, [])


def test_conflicts_are_named_and_the_first_is_kept(two, folder, suite):
    run(BenchmarkConfig(suite=suite("seeds = [0]"), output=folder / "other", device="cpu"))
    path = next((folder / "other").glob("sasrec*.metrics.h5"))
    changed = hdf5.read_metrics(path)
    changed.ranks[0] += 1
    hdf5.write_metrics(path, changed, config={}, force=True)
    found = merge([two[0], folder / "other"], folder / "c")
    assert found.conflicts == [{"file": path.name, "kept": str(two[0]), "left_out": str(folder / "other")}]
    kept = hdf5.read_metrics(folder / "c" / path.name)
    assert np.array_equal(kept.ranks, hdf5.read_metrics(two[0] / path.name).ranks)
    assert "1 conflict" in found.said()


def test_a_step_that_is_done_somewhere_wins_over_one_that_failed(two, folder, suite, fake):
    def fail(stage, config):
        if stage == "evaluate":
            raise DataError("no")

    fake.before = fail
    run(BenchmarkConfig(suite=suite("seeds = [0]"), output=folder / "bad", device="cpu"))
    merge([folder / "bad", two[0]], folder / "c")
    records = [hdf5.read_record(path) for path in (folder / "c").glob("*.metrics.h5.record")]
    assert {each["status"] for each in records} == {"done"}


def test_folders_of_other_data_are_refused(two, folder, dataset):
    """Of one name, since a download is called after what was asked for."""
    for place, rows in enumerate((30, 29)):
        walks = [row.tolist() for row in dataset.catalogue.sequences][:rows] + [[0, 1, 2]] * (30 - rows)
        other = dataclasses.replace(dataset.catalogue, sequences=Sequences.from_lists(walks))
        hdf5.write_dataset(two[place] / "d-0.dataset.h5", dataclasses.replace(dataset, catalogue=other), config={})
    with pytest.raises(DataError, match=r"hold other interactions: the folders are of other data"):
        merge(two, folder / "c")
    assert not list((folder / "c").glob("*.h5")), "nothing of it is mixed"


def test_seeds_of_other_data_have_no_mean(two, suite, folder):
    merge(two, folder / "c")
    path = next(path for path in (two[1]).glob("sasrec*.metrics.h5"))
    metrics = hdf5.read_metrics(folder / "c" / path.name)
    other = dataclasses.replace(metrics, user_ids=[f"other-{each}" for each in metrics.user_ids])
    hdf5.write_metrics(folder / "c" / path.name, other, config={}, force=True)
    with pytest.raises(DataError, match=r"sasrec, seed 1: of other data than sasrec, seed 0"):
        run(BenchmarkConfig(suite=suite("seeds = [0, 1]"), output=folder / "c", device="cpu"))


def test_what_is_no_work_folder(two, folder):
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no work folder"):
        merge([two[0], folder / "empty"], folder / "c")
    assert not (folder / "c").exists()


@pytest.mark.parametrize("turned", [False, True])
def test_the_first_folder_counts_whatever_its_files_are_called(folder, metrics, turned):
    """Two trainings of one step, each with the metrics of another evaluation."""
    key, names = "ab" * 32, ["0" * 16, "f" * 16]
    for place, name in enumerate(names[::-1] if turned else names):
        here = folder / "ab"[place]
        here.mkdir()
        record = dict.fromkeys(KINDS["record"].attributes, "") | {"status": "done", "inputs": {}, "seconds": 1.0}
        model = here / f"sasrec-{key[:16]}.model.h5.record"
        hdf5.write_record(model, record | {"settings": {"width": place}})
        hdf5.write_metrics(here / f"sasrec-{name}.metrics.h5", metrics, config={})
        hdf5.write_record(here / f"sasrec-{name}.metrics.h5.record", record | {"inputs": {"model": [key]}})
    merged = merge([folder / "a", folder / "b"], folder / "c")
    name = f"sasrec-{key[:16]}.model.h5"
    assert merged.conflicts == [{"file": name, "kept": str(folder / "a"), "left_out": str(folder / "b")}]
    assert hdf5.read_record(folder / "c" / f"{name}.record")["settings"] == {"width": 0}
