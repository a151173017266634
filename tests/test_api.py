"""`import bbqrec_cli as bbqrec`: the same as the commands, with frames, results and errors of Python."""

from __future__ import annotations

import csv
import errno
import json
import re
import subprocess
import sys
import warnings
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import bbqrec_cli as api
from bbqrec_cli import errors, hdf5
from bbqrec_cli.data.sources.frame import write_frame
from bbqrec_cli.records import Sequences

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    """Outputs have default names."""
    monkeypatch.chdir(tmp_path)


def test_importing_it_imports_nothing_else():
    """And the function `collisions` is never hidden by the package of that name."""
    code = (
        "import sys, bbqrec_cli as b\n"
        "heavy = {'typer', 'rich', 'numpy', 'torch', 'h5py', 'dataclasses', 'bbqrec_cli.api'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import bbqrec_cli.collisions.analysis, bbqrec_cli.cli.collisions\n"
        "assert b.collisions.__module__ == 'bbqrec_cli.api', b.collisions\n"
        "from bbqrec_cli import collisions\n"
        "assert collisions is b.collisions\n"
        "assert not {'pandas', 'polars'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_public_is_there_and_documented():
    public = PAGE[PAGE.index("## What is public") :]
    for name in api.__all__:
        assert name in dir(api)
        assert getattr(api, name).__doc__
        assert f"`{name}`" in public or f"`{name}`" in PAGE[PAGE.index("## Stages") : PAGE.index("## Frames out")]
    with pytest.raises(AttributeError, match="has no attribute 'tun'"):
        api.tun  # noqa: B018
    assert (Path(api.__file__).parent / "py.typed").exists()


def test_the_page_shows_the_notebook():
    """The code of docs/python.md is that of examples/notebook.py, which test_examples.py runs."""
    notebook = (ROOT / "examples" / "notebook.py").read_text(encoding="utf-8")
    shown = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    cells = [cell.strip() for cell in re.split(r"^# %%.*$", notebook, flags=re.MULTILINE)]
    code = [cell for cell in cells if cell and not cell.startswith("#")]
    assert len(code) == len(shown)
    assert sorted(cell for cell in code) == sorted(map(str.strip, shown))


# Stages


def test_results_are_those_of_the_commands(files, bbqrec, capsys):
    made = api.train(files["dataset"], model="item-knn", seed=3)
    judged = api.evaluate(made, k=[1, 5], batch_size=np.int64(7))
    assert capsys.readouterr() == ("", ""), "nothing is printed"
    assert (made.output, judged.output) == (Path("model.h5"), Path("metrics.h5"))
    bbqrec("train", files["dataset"], "--model", "item-knn", "--seed", "3", "-o", "other.h5")
    done = bbqrec("evaluate", "other.h5", "-o", "other-metrics.h5", "--k", "1,5", "--json")
    found = json.loads(done.out)
    assert {name: found[name] for name in judged.aggregates} == judged.aggregates
    assert api.inspect("model.h5")["config"] == api.inspect("other.h5")["config"]


def test_every_stage_of_semantic_ids(files):
    features = api.embed(str(files["dataset"]), modalities="image", normalize=True)
    assert features.features["image"]["present"] == 11
    ids = api.tokenize(features, method="random", levels=1, codebook_size=2, on_collision="share")
    assert ids.items == 12
    both = api.collisions(ids, files["tokens"], groups=1)
    assert [each.colliding_items for each in both.every] == [12, 0]
    with pytest.raises(errors.CollisionError):
        api.collisions("tokens.h5", max_collisions=3)
    with pytest.raises(errors.DataError, match="cannot encode new items"):
        api.tokenize(features, append=ids, output="grown.h5")
    with pytest.raises(errors.UsageError, match="--append keeps the tokenizer of its file: --levels has no effect"):
        api.tokenize(features, append=ids, levels=2)


def test_compare_and_export_are_the_commands(files, bbqrec):
    ours = api.evaluate(files["model"], output="ours.h5", k=[1, 5])
    theirs = api.evaluate(api.train(files["dataset"], model="markov", output="m.h5"), output="theirs.h5", k=[1, 5])
    compared = api.compare(ours, theirs, metric="recall@5", report=Path("page.md"))
    done = bbqrec("compare", "ours.h5", "theirs.h5", "--metric", "recall@5", "--json").out
    assert json.loads(json.dumps(compared.to_json() | {"report": None})) == json.loads(done)
    assert api.compare([ours, theirs], metric="recall@5").against == compared.against
    written = api.export(ours, to="csv", output="users.csv")
    assert (written.what, written.rows) == ("results", {"results": ours.users})
    bbqrec("export", "ours.h5", "--to", "csv", "-o", "again.csv")
    assert Path("users.csv").read_bytes() == Path("again.csv").read_bytes()
    with pytest.raises(errors.UsageError, match="two metrics files or more"):
        api.compare(ours)
    with pytest.raises(errors.UsageError, match="--to is 'cvs'"):
        api.export(ours, to="cvs")


def test_a_result_keeps_its_users(files):
    """A second evaluation overwrites the file of the first."""
    first = api.evaluate(api.train(files["dataset"], model="markov", output="a.h5"), k=[1, 5])
    then = first.columns()["recall@5"]
    api.evaluate(api.train(files["dataset"], model="popularity", output="b.h5"), k=[1, 5], force=True)
    assert first.columns()["recall@5"] == then
    assert np.mean(then) == pytest.approx(first.aggregates["recall@5"])
    assert api.load("metrics.h5").columns()["recall@5"] != then


@pytest.mark.parametrize(
    ("name", "source", "options", "flags"),
    [
        ("collisions", "tokens", {}, []),
        ("evaluate", "model", {"k": [1]}, ["--k", 1]),
        ("train", "dataset", {"model": "markov"}, ["--model", "markov"]),
    ],
)
def test_what_a_result_says_as_json(files, bbqrec, name, source, options, flags):
    """What --json prints (docs/python.md)."""
    printed = json.loads(bbqrec(name, files[source], *flags, "--json").out)
    again = {} if name == "collisions" else {"force": True}
    found = json.loads(json.dumps(getattr(api, name)(files[source], **options, **again).to_json()))
    timed = {"seconds": 0, "ms_per_user": 0}
    assert found | timed == printed | timed


def test_recipes_are_as_on_the_command_line(files):
    with pytest.raises(errors.UsageError, match=r"--recipe is 'sasrek'.*did you mean 'sasrec-f'"):
        api.train(files["tokens"], recipe="sasrek")
    with pytest.raises(errors.UsageError, match=r"--recipe is \['tiger'\]; a name or a path is needed"):
        api.train(files["tokens"], recipe=["tiger"])
    made = api.train(files["tokens"], recipe="sasrec-sampled", epochs=1, width=8, layers=1, heads=1)
    options = api.inspect(made)["config"]["options"]
    assert (options["loss"], options["width"]) == ("sampled", 8)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda f: api.train(f["dataset"], epoch=3), errors.UsageError,
         r"bbqrec.train: unknown option 'epoch' \(did you mean 'epochs'\?\)"),
        (lambda f: api.train(f["dataset"], model="popularity", epochs=3), errors.UsageError,
         "popularity has no epochs"),
        (lambda f: api.train(f["dataset"], model="markof"), errors.UsageError, r"\(did you mean 'markov'\?\)"),
        (lambda f: api.evaluate(f["model"], k="x"), errors.UsageError, "bbqrec.evaluate: --k is 'x'; an integer"),
        (lambda f: api.evaluate("gone.h5"), errors.MissingFileError, "gone.h5: no such file"),
        (lambda f: api.evaluate(f["dataset"]), errors.WrongKindError, "is a dataset file; a model file is needed"),
        (lambda f: api.prepare("tabel", "x.csv"), errors.UsageError, r"\(did you mean 'table'\?\)"),
        (lambda f: api.recommend(f["model"], stdin=True), errors.UsageError, "reads no stdin"),
        (lambda f: api.load(f["features"], tokens=f["tokens"]), errors.UsageError, "tokens= and unite= are for model"),
        (lambda f: api.load(f["tuning"] if "tuning" in f else ROOT / "tests/golden/v1/tuning.h5"),
         errors.WrongKindError, "is a tuning file"),
    ],
)  # fmt: skip
def test_errors_are_those_of_the_commands(call, error, said, files, capfd):
    with pytest.raises(error, match=said):
        call(files)
    assert capfd.readouterr() == ("", "")


def test_nothing_is_overwritten(files):
    api.train(files["dataset"], model="popularity")
    with pytest.raises(errors.OutputExistsError):
        api.train(files["dataset"], model="popularity")
    api.train(files["dataset"], model="popularity", force=True)


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (MemoryError(), errors.LackingError),
        (OSError(errno.ENOSPC, "no space"), errors.DiskFullError),
        (ModuleNotFoundError("no x", name="x"), errors.MissingPackageError),
        (ZeroDivisionError("a bug"), ZeroDivisionError),
    ],
)
def test_what_is_lacking_is_said_as_on_the_command_line(raised, error, files, monkeypatch):
    import bbqrec_cli.stages.train as stage

    def run(*_):
        raise raised

    monkeypatch.setattr(stage, "run", run)
    with pytest.raises(error):
        api.train(files["dataset"])


def test_progress(files, capfd):
    notes: list[str] = []
    small = {"model": "sasrec", "epochs": 2, "width": 8, "layers": 1, "heads": 1, "force": True}
    api.train(files["dataset"], progress=notes.append, **small)
    assert [note.split("  ")[0] for note in notes if note.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
    assert capfd.readouterr().err == ""
    api.train(files["dataset"], progress=True, **small)
    assert "epoch 2/2" in capfd.readouterr().err


def test_warnings_are_pythons(files):
    """At the line that called, so that each call has its own."""
    with pytest.warns(errors.BBQRecWarning, match=r"--history: no item 'nix'; left out") as warned:
        api.recommend(files["model"], history=["i1", "nix"])
    assert Path(warned[0].filename) == Path(__file__)


# Recommendations


def ranking(files) -> list[str]:
    """All items, the most popular first, as the model `popularity` has them."""
    counts = hdf5.read_model(files["model"]).weights["counts"]
    return [f"i{item}" for item in np.argsort(-counts, kind="stable")]


def test_a_loaded_model(files, monkeypatch):
    best = ranking(files)
    model = api.load(files["model"])
    (one,) = model.recommend(["i1", "i2"], top=3, include_seen=True)
    assert [item.id for item in one.items] == best[:3]
    assert [item.id for item in one.history] == ["i1", "i2"]
    several = model.recommend([["i1"], ["i2", "nix"], np.array(["i3"])], top=2)
    assert [[item.id for item in each.items] for each in several] == [
        [item for item in best if item != seen][:2] for seen in ("i1", "i2", "i3")
    ]
    assert [each.unknown for each in several] == [(), ("nix",), ()]
    monkeypatch.setattr("bbqrec_cli.hdf5.read_model", None)  # it is in memory
    fruit = [item for item in best if int(item[1:]) < 4]
    (found,) = model.recommend("i8", filter={"group": "Fruit"}, top=12)
    assert [item.id for item in found.items] == fruit
    (found,) = model.recommend(["i8"], filter="group=fruit", allow=["i0", "i3", "i9"])
    assert {item.id for item in found.items} == {"i0", "i3"}
    (found,) = model.recommend(["i8"], filter="group=fruit", allow=["i0", "i3", "i9"], deny=["i0"])
    assert [item.id for item in found.items] == ["i3"]
    assert [each.user for each in model.recommend(user=["u1", "u5"], top=3)] == ["u1", "u5"]
    assert model.recommend(user="u1", top=3)[0].items == api.recommend(files["model"], user="u1", top=3)[0].items
    assert repr(model).endswith("12 items, 30 users>")
    assert [item.id for item in model.recommend([" i8 "], top=2)[0].items] == best[:2], "spaces do not count in ids"
    with pytest.raises(errors.UsageError, match="no user '7'"):
        api.recommend(files["model"], user=[7])
    with pytest.raises(errors.UsageError, match="no item '7'"):
        api.recommend(files["model"], history=7)


def test_batches_change_nothing(files):
    model, histories = api.load(files["model"]), [[f"i{row}"] for row in range(12)]
    alone = model.recommend(histories, batch_size=1)
    assert model.recommend(histories, batch_size=5).columns() == alone.columns()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one of history and user is needed"),
        ({"history": ["i1"], "user": "u1"}, "one of history and user"),
        ({"history": []}, "the history is empty"),
        ({"history": [["i1"], []]}, "history 1: the history is empty"),
        ({"history": ["i99"]}, "history: no item 'i99'"),
        ({"history": [1.5]}, r"1\.5 is no id"),
        ({"history": [["i1"], "i2"]}, r"\['i1'\] is no id"),
        ({"user": "u99"}, "no user 'u99'"),
        ({"history": ["i1"], "tops": 3}, r"unknown option 'tops' \(did you mean 'top'\?\)"),
        ({"history": ["i1"], "stdin": True}, "has no option 'stdin'"),
        ({"history": ["i1"], "top": 0}, "--top is 0"),
        ({"history": ["i1"], "filter": {"grup": "fruit"}}, r"no attribute 'grup' \(did you mean 'group'\?\)"),
        ({"history": ["i1"], "allow": ["i99"]}, "allow: no item 'i99'"),
        (
            {"history": ["i1"], "allow": ["i9"], "filter": {"group": "fruit"}},
            "no item passes --filter group=fruit and --allow",
        ),
    ],
)
def test_what_cannot_be_recommended(options, said, files):
    with pytest.raises(errors.UsageError, match=said):
        api.load(files["model"]).recommend(**options)


def test_models_that_recommend_together(files, tmp_path):
    """One file or several, as text, path or result; the same as by the command's option."""
    other = api.train(files["dataset"], output=tmp_path / "other.h5", model="markov")
    wanted = api.recommend(files["model"], history=["i1"], unite=[other])[0].items
    for unite in (str(other.output), other.output, other, [other], (other,)):
        assert api.load(files["model"], unite=unite).recommend(["i1"])[0].items == wanted
    assert wanted != api.load(files["model"]).recommend(["i1"])[0].items
    for twice in ([files["model"]], [other, other.output]):
        with pytest.raises(errors.UsageError, match="this file is among the models already"):
            api.load(files["model"], unite=twice)
        with pytest.raises(errors.UsageError, match="this file is among the models already"):
            api.evaluate(files["model"], unite=twice)
    with pytest.raises(errors.UsageError, match="unite= are for model files"):
        api.load(files["tokens"], unite=other)


def test_load_reads_every_kind(files, codes):
    assert api.load(files["dataset"]).texts[0] == "apple, one of the fruit"
    assert api.load(files["features"]).features["text"].values.shape == (12, 8)
    np.testing.assert_array_equal(api.load(files["tokens"]).codes.codes, codes.codes)
    assert api.load(files["metrics"]).columns()["user"][:2] == ["u0", "u1"]


# Frames out


def test_columns_of_users(files, metrics):
    found = api.load(files["metrics"]).columns()
    assert found["rank"][:11] == [*range(1, 11), 1]
    assert found["recall@5"][:7] == [1, 1, 1, 1, 1, 0, 0]
    assert list(found)[:2] == ["user", "rank"], "an old file, without targets"
    judged = api.evaluate(files["model"], k=[2])
    rows = judged.columns()
    assert set(rows["rank"]) <= {1, 2, None}, "ranks below the largest k are not known"
    assert np.mean(rows["recall@2"]) == pytest.approx(judged.aggregates["recall@2"])
    assert len(rows["user"]) == judged.users == 30
    assert list(rows)[:3] == ["user", "target", "rank"]
    last = api.load(files["dataset"]).catalogue.sequences
    assert rows["target"] == [f"i{last[int(user[1:])][-1]}" for user in rows["user"]]


def test_columns_of_groups(files, tokens, tmp_path):
    """All fruit share an ID, and two of the books."""
    import dataclasses

    codes = tokens.codes.codes.copy()
    codes[:4] = codes[0]
    codes[8] = codes[9]
    shared = dataclasses.replace(tokens, codes=dataclasses.replace(tokens.codes, codes=codes))
    hdf5.write_tokens(tmp_path / "shared.h5", shared, config={})
    found = api.collisions("shared.h5", files["tokens"], features=files["features"]).columns()
    assert found["input"] == ["shared.h5"] * 2
    assert found["size"] == [4, 2]
    assert found["items"] == [["i0", "i1", "i2", "i3"], ["i8", "i9"]]
    assert found["titles"][1] == ["novel", "atlas"]
    assert found["code"] == [[[0, 0], [0, 0]], [[2, 2], [1, 1]]]
    values = hdf5.read_features(files["features"]).features["text"].values
    assert found["cosine_text"][1] == pytest.approx(float(values[8] @ values[9]), abs=1e-6)
    none = api.collisions(files["tokens"], features=files["features"]).columns()
    assert none == {key: [] for key in found}, "the same columns without groups"


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_of_both_libraries(library, files):
    pytest.importorskip(library)
    made = api.load(files["model"]).recommend([["i1"], ["i2"]], top=2)
    frame = getattr(made, f"to_{library}")()
    assert list(frame.columns) == ["request", "user", "rank", "item", "title", "score"]
    assert frame["request"].to_list() == [0, 0, 1, 1]
    assert frame["item"].to_list() == ranking(files)[:2] * 2


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_library_that_is_not_there(library, files, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    made = api.load(files["model"]).recommend(["i1"])
    with pytest.raises(errors.MissingPackageError, match=f"needs {library}, which is not installed"):
        getattr(made, f"to_{library}")()


# Frames in


LOG = {
    "customer": [7, 7, 7, 8, 8, 8],
    "product": [10.0, 20.0, 30.0, 30.0, 20.0, 10.0],
    "date": [datetime(2014, 7, day) for day in (3, 2, 1, 1, 2, 3)],
    "note": [None, float("nan"), "a\nb", "", "x", 1],
}
ITEMS = {"product": [10, 20, 30], "title": ["tea", None, "pot, large"], "tags": [["hot", "green"], [], ["new"]]}


def framed(library: str, columns: dict) -> object:
    if library == "mapping":
        return columns
    frame = pytest.importorskip(library)
    return frame.DataFrame(columns, **({"strict": False} if library == "polars" else {}))


@pytest.mark.parametrize("library", ["mapping", "pandas", "polars"])
def test_a_frame_is_read_as_a_table(library):
    with pytest.warns(errors.BBQRecWarning, match="1 of 3 items have no text"):
        made = api.prepare(framed(library, LOG), items=framed(library, ITEMS), user_column="customer")
    assert (made.users, made.items, made.interactions, made.fields) == (2, 3, 6, {"title": 2, "tags": 2})
    found = api.load(made)
    assert found.catalogue.user_ids == ["7", "8"]
    assert [[found.catalogue.item_ids[row] for row in rows] for rows in found.catalogue.sequences] == [
        ["30", "20", "10"], ["30", "20", "10"],
    ]  # fmt: skip
    first = int(datetime(2014, 7, 1, tzinfo=timezone.utc).timestamp())
    assert found.catalogue.sequences.timestamps[:3].tolist() == [first, first + 86400, first + 2 * 86400]
    by_id = dict(zip(found.catalogue.item_ids, found.catalogue.titles, strict=True))
    assert by_id == {"10": "tea", "20": "", "30": "pot, large"}
    assert sorted(found.catalogue.attributes["tags"]) == ["", "hot|green", "new"]
    about = api.inspect(made)
    assert (about["config"]["paths"], about["config"]["options"]["items"]) == (["interactions.csv"], "items.csv")
    assert [parent["path"] for parent in about["parents"]] == ["interactions.csv", "items.csv"]


def test_columns_of_a_frame_that_become_one():
    with pytest.raises(errors.UsageError, match="several columns 'item'"):
        api.prepare({"user": ["u"], "item": ["a"], "item ": ["b"], "time": [1]})


def test_three_frames_are_a_split():
    parts = [{"user": ["u", "v", "w"], "item": list(items), "time": [1, 2, 3]} for items in ("abc", "bca", "cab")]
    made = api.prepare(*parts, split="given", order="file")
    assert (made.interactions, made.split["targets"]) == (9, {"validation": 3, "test": 3})
    found = api.load(made).catalogue
    assert found.sequences.parts.tolist() == [0, 1, 2] * 3
    assert "".join(found.item_ids[row] for row in found.sequences.items) == "abcbcacab"
    assert [parent["path"] for parent in api.inspect(made)["parents"]] == [
        "interactions.csv", "interactions-2.csv", "interactions-3.csv",
    ]  # fmt: skip


def test_a_lazy_frame_of_polars():
    polars = pytest.importorskip("polars")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = api.prepare(polars.DataFrame(LOG, strict=False).lazy(), user_column="customer")
    assert made.interactions == 6


def test_a_frame_of_items_beside_a_file(dataset, tmp_path):
    """And the same data set as from the files alone; pictures are relative to the working folder."""
    (tmp_path / "log.csv").write_text("user,item,timestamp\nu,a,100000001\nu,b,100000002\nu,c,100000003\n")
    (tmp_path / "items.csv").write_text("item,title,image\na,A,red.png\nb,B,\nc,C,\n")
    (tmp_path / "red.png").write_bytes(dataset.images[0])
    frame = {"item": ["a", "b", "c"], "title": ["A", "B", "C"], "image": ["red.png", None, None]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.BBQRecWarning)
        from_frame = api.prepare("table", Path("log.csv"), items=frame, output="frame.h5")
        from_file = api.prepare("table", "log.csv", items="items.csv", output="file.h5")
    assert from_frame.images == from_file.images == 1
    one, other = api.load(from_frame), api.load(from_file)
    assert one.catalogue.titles == other.catalogue.titles
    assert list(one.images) == list(other.images)


def test_what_is_said_of_a_frame_has_no_folder_in_it(dataset, tmp_path):
    """As the CSV file through which it goes lies in a folder that is gone afterwards."""
    frame, said = {"user": list("uuuvvv"), "item": list("abc") * 2, "time": [1, 2, 2, 1, 2, 3]}, list[str]()
    items = {"item": ["a", "b"], "title": ["A", "B"], "image": ["red.png", "none.png"]}
    (tmp_path / "red.png").write_bytes(dataset.images[0])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", errors.BBQRecWarning)
        result = api.prepare(frame, items=items, output="frame.h5", progress=said.append)
    said += [str(each.message) for each in warned]
    assert any(each.startswith("items.csv: ") for each in said)
    assert not any("bbqrec-" in each for each in said), said
    assert type(result.sparsity) is float


def changed(**columns: list | None) -> dict:
    made = {"user": ["u"] * 3, "item": ["a", "b", "c"], "time": [1, 2, 3]} | columns
    return {name: values for name, values in made.items() if values is not None}


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (changed(user=["u", None, "u"]), "^interactions.csv, line 3: no user in "),
        (changed(item=["a", "b", float("nan")]), "^interactions.csv, line 4: no item in "),
        (changed(time=[1, 2, None]), "^interactions.csv, line 4: time is ''; a number or a date is needed"),
        (changed(user=["u", b"u", "u"]), "^interactions.csv, line 3: user is of the type bytes"),
        (changed(item=[["a"], "b", "c"]), "^interactions.csv, line 2: item is of the type list"),
        (changed(item=[1.0, 2.5, 3]), r"^interactions.csv, line 3: item is 2.5; an id is a text or a whole number"),
        (changed(item=np.array([1, 2.5, 3], dtype=np.float32)), "^interactions.csv, line 3: item is 2.5; an id is "),
        (changed(user=[2.0**53] * 3), r"^interactions.csv, line 2: user is 9007199254740992.0; an id is a text or a"),
        (changed(user=["u"]), "the columns differ in length: user 1, item 3, time 3"),
        (changed(user=None, who=["u"] * 3), "no column for user; .* 'item', 'time', 'who'"),
        (changed() | {1: [1] * 3}, "the frame has a column 1; names are needed"),
        (changed() | {"20140701": [1] * 3}, "the frame has a column '20140701'; names are needed"),
    ],
)
def test_frames_that_cannot_be_read(frame, said):
    with pytest.raises(errors.BBQRecError, match=said) as raised:
        api.prepare(frame)
    assert str(raised.value) == raised.value.message
    assert not Path("dataset.h5").exists()


def test_columns_of_equal_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([["u", "a", 1, 2]], columns=["user", "item", "time", "time"])
    with pytest.raises(errors.UsageError, match="several columns 'time'"):
        api.prepare(frame)


def test_cells_are_written_as_they_are_meant(tmp_path):
    zone = timezone(timedelta(hours=2))
    values = [
        5, 5.0, 0.5, 1e300, float("inf"), True, Decimal("1.50"), None, float("nan"), "  a\n b ", np.int64(7),
        np.float64(7.0), date(2014, 7, 1), datetime(2014, 7, 1, 12, 0, 0, 5), datetime(2014, 7, 1, tzinfo=zone), 2**63,
        np.datetime64("2014-07-01"),
    ]  # fmt: skip
    write_frame({"x": values, "y": ["-"] * len(values)}, tmp_path / "x.csv", items=False)
    with (tmp_path / "x.csv").open(newline="") as stream:
        assert [row[0] for row in csv.reader(stream)] == [
            "x", "5", "5", "0.5", str(int(1e300)), "inf", "True", "1.50", "", "", "a b", "7", "7", "2014-07-01",
            "2014-07-01T12:00:00.000005", "2014-07-01T00:00:00.000000+02:00", str(2**63), "2014-07-01",
        ]  # fmt: skip


@pytest.mark.parametrize("library", ["mapping", "pandas", "polars"])
def test_numbers_of_few_bits_and_ids_as_decimals(library, tmp_path):
    """4.1 is not 4.099999904632568, and 12.00 is the item 12."""
    frame = framed(library, {"item": [Decimal("12.00"), Decimal(13)], "price": np.array([4.1, np.nan], np.float32)})
    write_frame(frame, tmp_path / "x.csv", items=True)
    assert (tmp_path / "x.csv").read_text() == "item,price\n12,4.1\n13,\n"


@pytest.mark.parametrize("wrong", [True, np.True_, Decimal("12.5"), np.float32(0.5), np.float32(2**24)])
def test_values_that_are_no_ids(wrong, tmp_path):
    with pytest.raises(errors.DataError, match="an id is a text or a whole number"):
        write_frame({"item": ["a", wrong], "title": ["A", "B"]}, tmp_path / "x.csv", items=True)


def test_missing_values_of_pandas(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": pandas.array([1, None], "Int64"), "b": pandas.to_datetime(["2014-07-01", None])})
    write_frame(frame.assign(c=pandas.Categorical(["x", None])), tmp_path / "x.csv", items=False)
    assert (tmp_path / "x.csv").read_text() == "a,b,c\n1,2014-07-01T00:00:00.000000,x\n,,\n"


def test_the_users_of_a_frame_are_in_its_order(catalogue):
    """The tiny catalogue as a frame is the tiny catalogue."""
    users, items, times = [], [], []
    for user, rows in zip(catalogue.user_ids, catalogue.sequences, strict=True):
        users += [user] * len(rows)
        items += [f"i{row}" for row in rows]
        times += [10**9 + 100 * step for step in range(len(rows))]
    found = api.load(api.prepare({"user": users, "item": items, "time": times})).catalogue
    assert found.user_ids == catalogue.user_ids
    assert [[found.item_ids[row] for row in rows] for rows in found.sequences] == [
        [f"i{row}" for row in rows] for rows in catalogue.sequences
    ]
    assert isinstance(found.sequences, Sequences)
