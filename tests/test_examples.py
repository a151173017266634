"""Every file in examples/ works; a new one needs a test here."""

from __future__ import annotations

import dataclasses
import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.records import Sequences, Splitting

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCRIPTS = {"demo.sh": [], "chain.sh": ["dataset.h5"], "compare.sh": ["sequences"]}
"""name -> what it needs before its output folder."""


def test_every_example_is_tested():
    found = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*") if path.is_file()}
    assert {name for name in found if "__pycache__" not in name} == {
        *SCRIPTS, "alignment.py", "collisions_scale.py", "tokenize_scale.py", "prepare_scale.py", "scale.py",
        "suite.toml", "pages.sh", "pages.toml", "new-items.sh", "yesterday.py", "notebook.py",
    }  # fmt: skip


def test_suite():
    from bbqrec_cli.benchmark.suite import load_suite, method_of

    suite = load_suite(str(EXAMPLES / "suite.toml"))
    variants = {system.name: method_of(system.config).variant for system in suite.systems if system.tokenizer}
    assert variants.pop("without similarity") == "no-similarity"
    assert set(variants.values()) == {"full"}


def shell(*command: object, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **more)  # type: ignore


@pytest.fixture
def place(tmp_path, files, catalogue) -> Path:
    """A folder with the tiny catalogue as dataset.h5 and as sequences/."""
    (tmp_path / "dataset.h5").write_bytes(files["dataset"].read_bytes())
    folder = tmp_path / "sequences"
    folder.mkdir()
    lines = [" ".join([user, *(f"i{row}" for row in rows)]) for user, rows in zip(
        catalogue.user_ids, catalogue.sequences, strict=True)]  # fmt: skip
    (folder / "sequences.txt").write_text("\n".join(lines) + "\n")
    items = {item: {"title": title} for item, title in zip(catalogue.item_ids, catalogue.titles, strict=True)}
    (folder / "items.json").write_text(json.dumps(items))
    return tmp_path


def commands(place: Path, body: str) -> dict[str, str]:
    """The environment of a script, in which `bbqrec` does what `body` says."""
    (place / "bin").mkdir(exist_ok=True)
    for name, text in {"bbqrec": body, "python": f'exec {shlex.quote(sys.executable)} "$@"'}.items():
        (place / "bin" / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (place / "bin" / name).chmod(0o755)
    return os.environ | {"PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("failing", ["embed", "tokenize", "train", "evaluate", "collisions"])
def test_scripts_stop_at_the_first_error(name, failing, place):
    """A bbqrec that only says what it was asked fails at one command; nothing may run after it."""
    environment = commands(place, f'echo "$1" >> "{place}/asked"; [ "$1" != {failing} ] || exit 3')
    done = shell("bash", EXAMPLES / name, *SCRIPTS[name], "out", cwd=place, env=environment)
    assert done.returncode == 3
    assert (place / "asked").read_text().split()[-1] == failing


def test_scripts_keep_what_is_done(place):
    """chain.sh and compare.sh run nothing again whose output is there."""
    made = 'for last; do :; done; while [ $# -gt 0 ]; do [ "$1" = -o ] && touch "$2"; shift; done'
    environment = commands(place, f'echo "$1" >> "{place}/asked"; {made}')
    for name in ("chain.sh", "compare.sh"):
        out = place / "out"
        out.mkdir(exist_ok=True)
        for output in ("dataset", "features", "tokens", "model", "metrics"):
            (out / f"{output}.h5").touch()
        (out / "bbqrec-tokens.h5").touch()
        shell("bash", EXAMPLES / name, *SCRIPTS[name], "out", cwd=place, env=environment)
        other = shell("bash", EXAMPLES / name, ".", "out", cwd=place, env=environment)
        assert (other.returncode, "name another folder" in other.stderr) == (2, True)
        (out / "made-from").unlink()
    asked = (place / "asked").read_text().split()
    assert asked[:2] == ["collisions", "recommend"], "chain.sh has nothing to make"
    assert asked[2:5] == ["collisions", "tokenize", "collisions"], "compare.sh makes rqvae's tokens only"
    assert asked[5:] == [*["train", "evaluate"] * 4, "compare"]


def test_pages_leaves_its_pages_alone(place):
    """A bbqrec that only writes the pages that it is asked for."""
    page = 'while [ $# -gt 0 ]; do [ "$1" != --report ] || echo "made by bbqrec" > "$2"; shift; done'
    out = place / "out"
    out.mkdir()
    (out / "benchmark.html").write_text("an older run's")
    done = shell("bash", EXAMPLES / "pages.sh", "out", cwd=place, env=commands(place, page))
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_text() for path in out.iterdir()} == dict.fromkeys(
        ("benchmark.html", "collisions.html"), "made by bbqrec\n"
    )
    done = shell("bash", EXAMPLES / "pages.sh", "no", cwd=place, env=commands(place, '[ "$1" != tokenize ]'))
    assert done.returncode == 1
    assert not list((place / "no").iterdir())


@pytest.fixture
def small(quick_python) -> str:
    """The body of a `bbqrec` with everything small."""
    return f'exec {shlex.quote(quick_python)} {shlex.quote(str(ROOT / "tests" / "tiny_bbqrec.py"))} "$@"'


def compared(shown: str) -> dict[str, str]:
    """file -> Recall@10 in the table that `bbqrec compare` prints."""
    table = shown.partition("Metrics\n")[2].partition("User by user")[0]
    rows = [row for line in table.splitlines() if len(row := line.split()) == 5]
    assert rows[0][3] == "Recall@10"
    return {row[0]: row[3] for row in rows[1:] if row[0] not in ("p", "▲")}


@pytest.mark.slow
def test_demo_runs(place, small):
    """Over the remains of an older run, and ends with what a person wants to see."""
    out = place / "out"
    out.mkdir()
    for name in ("dataset", "features", "tokens", "model", "metrics", "popularity", "popularity-metrics"):
        (out / f"{name}.h5").write_text("an older run's")
    done = shell("bash", EXAMPLES / "demo.sh", out, cwd=place, env=commands(place, small) | {"COLUMNS": "120"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert "items in collisions" in done.stdout
    shown = done.stdout.partition("recommended")[2]
    assert sum(title in shown for title in hdf5.read_model(out / "model.h5").catalogue.titles) >= 3, "titles, not ids"
    means = compared(done.stdout)
    for name in ("metrics", "popularity-metrics"):
        assert means[name] == f"{hdf5.read_metrics(out / f'{name}.h5').aggregates['recall@10']:.4f}"


@pytest.mark.slow
def test_chain_runs_and_runs_again(place, small):
    environment = commands(place, small)
    first = shell("bash", EXAMPLES / "chain.sh", "dataset.h5", "out", cwd=place, env=environment)
    assert first.returncode == 0, first.stderr[-3000:]
    before = hdf5.sha256(place / "out" / "model.h5")
    again = shell("bash", EXAMPLES / "chain.sh", "dataset.h5", "out", cwd=place, env=environment)
    assert again.returncode == 0, again.stderr[-3000:]
    assert hdf5.sha256(place / "out" / "model.h5") == before


@pytest.mark.slow
def test_compare_runs(place, small):
    environment = commands(place, small) | {"COLUMNS": "120"}
    done = shell("bash", EXAMPLES / "compare.sh", "sequences", "out", cwd=place, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [*compared(done.stdout)] == [f"{name}-metrics" for name in ("popularity", "sasrec", "tiger", "bbqrec")]


def test_yesterday(files, catalogue, tmp_path):
    """12 items: only the eighth, i7, is new; everything else is as it was, and no held-out item is trained on."""
    done = shell(sys.executable, EXAMPLES / "yesterday.py", files["features"], tmp_path / "y.h5")
    assert done.returncode == 0, done.stderr
    today, less = hdf5.read_features(files["features"]), hdf5.read_features(tmp_path / "y.h5")
    assert less.catalogue.item_ids == [f"i{row}" for row in range(12) if row != 7]
    assert less.catalogue.titles == [title for title in catalogue.titles if title != "drill"]
    for name, feature in less.features.items():
        np.testing.assert_array_equal(feature.values, np.delete(today.features[name].values, 7, axis=0))
    for walk, whole in zip(less.catalogue.sequences, catalogue.sequences, strict=True):
        assert [less.catalogue.item_ids[row] for row in walk] == [f"i{row}" for row in whole if row != 7]
    few = dataclasses.replace(catalogue, sequences=Sequences.from_lists([[7, 0, 7, 1]] * 30))
    hdf5.write_features(tmp_path / "f.h5", dataclasses.replace(today, catalogue=few), config={})
    shell(sys.executable, EXAMPLES / "yesterday.py", tmp_path / "f.h5", tmp_path / "z.h5")
    assert [row.tolist() for row in hdf5.read_features(tmp_path / "z.h5").catalogue.sequences] == [[0]] * 30


def test_yesterday_is_of_leave_last_out(files, catalogue, tmp_path):
    parts = np.minimum(catalogue.sequences.positions // 2, 2).astype(np.uint8)
    sequences = dataclasses.replace(catalogue.sequences, parts=parts)
    timely = dataclasses.replace(catalogue, sequences=sequences, splitting=Splitting(kind="given"))
    today = dataclasses.replace(hdf5.read_features(files["features"]), catalogue=timely)
    hdf5.write_features(tmp_path / "f.h5", today, config={})
    done = shell(sys.executable, EXAMPLES / "yesterday.py", tmp_path / "f.h5", tmp_path / "y.h5")
    assert (done.returncode, "the split of these data is given" in done.stderr) == (1, True)
    assert not (tmp_path / "y.h5").exists()


@pytest.mark.slow
def test_new_items_runs(place, small):
    done = shell("bash", EXAMPLES / "new-items.sh", "out", cwd=place, env=commands(place, small))
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = (hdf5.read_tokens(place / "out" / f"{name}.h5") for name in ("tokens", "grown"))
    assert (before.catalogue.items, after.catalogue.items) == (190, 200)
    np.testing.assert_array_equal(after.codes.codes[:190], before.codes.codes)
    assert "cold targets (" in done.stdout


@pytest.mark.slow
def test_suite_runs(bbqrec, tmp_path):
    """With one seed and few epochs."""
    text = (EXAMPLES / "suite.toml").read_text()
    for long, short in (
        ("seeds = [0, 1]", "seeds = [0]"),
        ("\nepochs = 6\nwarmup_epochs = 3", "\nepochs = 2"),
        ("\nepochs = 4", "\nepochs = 1"),
    ):
        assert long in text
        text = text.replace(long, short)
    (tmp_path / "suite.toml").write_text(text)
    done = bbqrec("benchmark", tmp_path / "suite.toml", "-o", tmp_path / "out", "--json", "--device", "cpu")
    assert done.status == 0, done.err
    result = json.loads(done.out)
    assert len(result["cells"]) == 6
    assert (result["failed"], result["left"]) == (0, 0)


@pytest.mark.slow
def test_alignment(files, bbqrec, tmp_path):
    """The page and its plots, from tokens files with and without pressure on what z and z̄ share."""
    small = ["--dim", 8, "--hidden", 16, "--epochs", 2, "--codebook-size", 4, "--levels", 2, "--device", "cpu"]
    for gamma in (0, 1):
        output = tmp_path / f"gamma-{gamma}.h5"
        made = bbqrec("tokenize", files["features"], "-o", output, "--gamma", gamma, *small)
        assert made.status == 0, made.err
    names = [str(files["features"]), "page.md", "gamma-0.h5", "gamma-1.h5"]
    command = [sys.executable, str(EXAMPLES / "alignment.py"), *names]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "page.md").read_text()
    for name in ("gamma-0, text", "gamma-1, text", "gamma-1, image", "gamma-0, text: z̄", "gamma-1, image: q"):
        assert f"| {name} | " in text
    assert all((tmp_path / f"alignment-{name}.svg").exists() for name in ("information", "neighbours"))


def test_alignment_needs_both_parts(files, tmp_path):
    command = [sys.executable, str(EXAMPLES / "alignment.py"), str(files["features"]), "page.md", str(files["tokens"])]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_tokenize_scale():
    command = [sys.executable, str(EXAMPLES / "tokenize_scale.py"), "3000"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    cells = next(line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| 3,000"))
    assert float(cells[1]) > 3000 * 32 * 4 / 1e6 / 2
    assert 0 <= int(cells[10]) < 1000, "256 codes at 4 levels tell most of 3,000 items apart"


@pytest.mark.slow
def test_prepare_scale(tmp_path):
    """bbqrec keeps as many interactions as polars does."""
    command = [sys.executable, str(EXAMPLES / "prepare_scale.py"), "5000:polars"]
    done = shell(*command, env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| 5,000")]
    assert [row[1::2][:2] for row in rows] == [
        [kind, tool] for kind in ("csv", "parquet") for tool in ("bbqrec", "polars")
    ]
    assert len({row[-1] for row in rows}) == 1
    assert 4000 < int(rows[0][-1].replace(",", "")) < 5000


@pytest.mark.slow
def test_scale():
    """Every stage of the chain, with its seconds, its memory and what it takes per step or user."""
    command = [sys.executable, str(EXAMPLES / "scale.py"), "300"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line[1:-1]] for line in lines]
    whole, single = [row for row in rows if len(row) == 5], [row for row in rows if len(row) == 3]
    assert {row[0].split()[0].strip("`,") for row in whole} == {
        "prepare", "embed", "tokenize", "collisions", "train", "evaluate"
    }  # fmt: skip
    assert all(float(row[1]) > 0 and float(row[2].replace(",", "")) > 50 for row in whole)
    assert [row[0].rpartition(", per ")[2] for row in single] == ["training step"] * 3 + ["user"] * 3
    assert all(float(row[1].replace(",", "")) > 0 for row in single)


def test_the_slope_of_scale(monkeypatch):
    """Seconds that grow with the square have slope 2."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    slope = runpy.run_path(str(EXAMPLES / "scale.py"), run_name="tested")["slope"]
    assert slope([10, 100, 1000], [1.0, 100.0, 10_000.0]) == pytest.approx(2)
    assert slope([10, 1000], [3.0, 3.0]) == pytest.approx(0)


def test_collisions_scale():
    command = [sys.executable, str(EXAMPLES / "collisions_scale.py"), "2000", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("|")][2:]
    assert [row[:2] for row in rows] == [[items, shape] for items in ("2,000", "1,000") for shape in ("4 × 1", "3 × 3")]
    codes = np.random.default_rng(0).integers(0, 256, (2000, 4, 1), dtype=np.uint16)
    _, counts = np.unique(codes[:, :, 0], axis=0, return_counts=True)
    assert int(rows[0][7]) == counts[counts > 1].sum()


@pytest.mark.slow
def test_notebook_runs(tmp_path, monkeypatch):
    """All cells, as they stand. tests/test_api.py compares them with docs/python.md."""
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(EXAMPLES / "notebook.py"))
    assert (found["dataset"].items, found["tokens"].items) == (200, 200)
    assert len(found["groups"]) == 5
    assert (found["groups"]["size"] > 1).all()
    assert len(found["both"]) == found["ours"].users == 300
    assert found["both"]["ndcg@10"].mean() == pytest.approx(found["ours"].aggregates["ndcg@10"])
    assert list(found["means"].columns) == ["ndcg@10", "ndcg@10_markov"]
    titles = found["many"].to_pandas()["title"]
    assert len(titles) == 6
    assert titles.str.contains("mug").all()
    assert not {"item-0010", "item-0020"} & {item.id for item in found["one"][0].items}
    assert [item.title for item in found["after_tea"][0].items] == ["cup"]
