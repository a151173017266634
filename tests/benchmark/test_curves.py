"""What trainings reported by epoch: kept, read, and shown a panel a system."""

from __future__ import annotations

import dataclasses

import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark import trainings
from bbqrec_cli.benchmark.curves import curves, curves_in, of_cells
from bbqrec_cli.benchmark.run import BenchmarkConfig, run

MODEL = [{"epoch": n, "loss": 7.1234567 - n, "seconds": 1.0} for n in (1, 2, 3)]
MODEL[1]["ndcg@10"] = 0.0312345678
TOKENIZER = [
    {"epoch": 1, "loss": 900.0, "quantised": False},
    {"epoch": 2, "loss": 500.0, "usage/id/1": 2, "usage/id/2": 4, "perplexity/id/1": 1.5, "colliding_items": 6},
]


def test_what_is_kept_of_a_history():
    assert curves(MODEL) == {"loss": [(1, 6.1235), (2, 5.1235), (3, 4.1235)], "ndcg@10": [(2, 0.031235)]}
    assert curves(TOKENIZER) == {"loss": [(1, 900), (2, 500)], "usage": [(2, 3)], "colliding_items": [(2, 6)]}
    assert curves([]) == {}


@pytest.fixture
def work(folder, fake):
    """The tiny suite, run with these histories, and its page."""
    fake.records["model"] = dataclasses.replace(fake.records["model"], history=MODEL)
    fake.records["tokens"] = dataclasses.replace(fake.records["tokens"], history=TOKENIZER)
    config = BenchmarkConfig(
        suite=str(folder / "suite.toml"), output=folder / "work", device="cpu", report=folder / "page.html"
    )
    return run(config)


def test_records_keep_curves(work, folder, graph):
    made = next((folder / "work").glob("sasrec-seed-0*.model.h5"))
    assert curves_in("train", made) == curves(MODEL)
    assert curves_in("evaluate", made) == {}
    assert curves_in("train", folder / "none.h5") == {}
    kept = hdf5.read_record(made.with_name(f"{made.name}.record"))["curves"]
    assert kept == {name: [list(point) for point in points] for name, points in curves(MODEL).items()}
    assert work.curves["sasrec", "", 1] == curves(MODEL)
    assert work.fits["alone", "", 0] == curves(TOKENIZER)
    assert len(work.fits) == 4


def test_without_a_record_the_output_says_it(work, graph):
    cells = graph().cells
    assert of_cells(cells, {}, "train") == work.curves
    assert of_cells(cells, {}, "tokenize") == work.fits
    assert of_cells(cells, {cells[0].steps[-1].key: {"curves": {}}}, "train") == work.curves


@pytest.mark.slow
@pytest.mark.drawn
def test_the_page_has_them(work, folder):
    page = (folder / "page.html").read_text()
    for title in ("Validation by epoch", "Training loss by epoch", "Tokenizers by epoch", "Time and memory"):
        assert page.count(f"<h2>{title}</h2>") == 1
    assert page.count('aria-label="Tokenizers by epoch, ') == 6, "three plots, for wide and for narrow screens"


def test_only_the_best_of_many_are_shown(work, monkeypatch):
    shown = []
    monkeypatch.setattr("bbqrec_cli.benchmark.plots.epoch_panels", lambda runs, *_, **__: shown.append(runs) or "x")
    monkeypatch.setattr(trainings, "MOST_PANELS", 2)
    systems = {f"s{n}": {"loss": [(1, 0.5)], "ndcg@10": [(1, 0.1 * (n % 4))]} for n in range(5)}
    many = {(name, "", seed): each for name, each in systems.items() for seed in (0, 1)}
    made = trainings.training_sections(dataclasses.replace(work, curves=many, fits={}), "")
    assert [list(runs) for runs in shown] == [["s2", "s3"]] * 2
    assert all(len(lines) == 2 for lines in shown[0].values()), "a line per seed"
    assert "The 2 systems of the 5 with the highest values." in made[0].caption
    assert trainings.training_sections(dataclasses.replace(work, curves={}, fits={}), "") == []
    assert trainings.training_sections(work, "other data") == []
