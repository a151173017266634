"""Splits other than leave-last-out, from `prepare` to the tables."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime, timezone

import h5py
import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import BrokenFileError, DataError
from bbqrec_cli.records import LAST, Features, Splitting
from bbqrec_cli.stages.evaluate import EvaluateConfig
from bbqrec_cli.stages.evaluate import run as evaluate


@pytest.fixture
def log(catalogue, tmp_path):
    """The tiny catalogue as a table: user u begins at 50 · u, and takes an item every 100 seconds."""
    lines = ["user,item,timestamp"]
    for user, walk in enumerate(catalogue.sequences):
        lines += [f"u{user},i{item},{1_000_000_000 + 50 * user + 100 * step}" for step, item in enumerate(walk)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def prepared(bbqrec, log, *options):
    made = bbqrec("prepare", "table", log, "-o", log.with_name("dataset.h5"), "--json", "--force", *options)
    assert made.status == 0, made.err
    return log.with_name("dataset.h5"), json.loads(made.out), made.err


def test_time_goes_through_every_stage(bbqrec, log, tmp_path):
    path, said, err = prepared(bbqrec, log, "--split", "time", "--quantiles", ".6,.8")
    times = sorted(
        int(line.split(",")[2]) for user in range(30)
        for line in [each for each in log.read_text().splitlines() if each.startswith(f"u{user},")][1:]
    )  # fmt: skip
    cuts = [times[int(len(times) * share)] for share in (0.6, 0.8)]
    assert (said["split"]["kind"], said["split"]["cuts"]) == ("time", cuts)
    whole = hdf5.read_catalogue(path)
    assert whole.splitting == Splitting(kind="time", quantiles=(0.6, 0.8), cuts=tuple(cuts))
    split = split_of(whole.sequences)
    assert said["split"]["targets"] == {"validation": len(split.validation.users), "test": len(split.test.users)}
    assert said["split"]["untrained_users"] == int((split.train.lengths == 0).sum()) > 0
    assert f"{said['split']['untrained_users']} of 30 users have no interaction in the training part" in err
    assert said["evaluated_users"] == len(set(split.test.users.tolist()))

    tokens, model, metrics = (tmp_path / f"{name}.h5" for name in ("tokens", "model", "metrics"))
    assert bbqrec("tokenize", path, "--method", "random", "-o", tokens, "--codebook-size", 8).status == 0
    small = ("--epochs", 1, "--width", 8, "--layers", 1, "--heads", 2, "--device", "cpu")
    assert bbqrec("train", tokens, "--model", "bbqrec", "--variant", "no-similarity", "-o", model, *small).status == 0
    shown = bbqrec("evaluate", model, "-o", metrics, "--device", "cpu", "--json")
    found = json.loads(shown.out)
    assert (found["users"], found["targets"]) == (len(set(split.test.users.tolist())), len(split.test.users))
    assert found["unevaluated"] == 30 - found["users"]
    days = [datetime.fromtimestamp(cut, timezone.utc).strftime("%Y-%m-%d %H:%M:%S") for cut in cuts]
    assert found["splitting"] == f"by time, validation from {days[0]}, test from {days[1]} UTC"
    made = hdf5.read_metrics(metrics)
    assert made.splitting == whole.splitting
    assert made.user_ids == [f"u{user}" for user in split.test.users]
    assert made.targets == [f"{whole.item_ids[item]}" for item in split.test.targets]
    assert made.history_length.tolist() == split.test.lengths.tolist()
    counts = np.bincount(split.train.items, minlength=12)
    assert made.target_interactions.tolist() == counts[split.test.targets].tolist()
    table = bbqrec("evaluate", model, "-o", metrics, "--device", "cpu", "--force")
    assert f"{found['users']} users with {found['targets']} targets" in " ".join(table.out.split())


def test_training_sees_nothing_from_the_cut_on(bbqrec, log, tmp_path, monkeypatch):
    """What the models and the tokenizer are given, seen from inside."""
    from bbqrec_cli.models.popularity import Popularity
    from bbqrec_cli.stages import tokenize

    path, said, _ = prepared(bbqrec, log, "--split", "time", "--quantiles", ".6,.8")
    given = []
    prepare, read = Popularity.prepare, tokenize.tokenizer_input
    monkeypatch.setattr(Popularity, "prepare", lambda self, train: (given.append(train), prepare(self, train))[1])

    def spied(*rest):
        found = read(*rest)
        given.append(found[1].train)
        return found

    monkeypatch.setattr(tokenize, "tokenizer_input", spied)
    assert bbqrec("train", path, "--model", "popularity", "-o", tmp_path / "model.h5").status == 0
    options = ("--method", "random", "--codebook-size", 8)
    assert bbqrec("tokenize", path, *options, "-o", tmp_path / "tokens.h5").status == 0
    assert len(given) == 2
    for train in given:
        assert train.timestamps.max() < said["split"]["cuts"][0]
        assert len(train.items) == said["split"]["interactions"]["train"]


def test_items_that_come_after_the_cut_are_cold(bbqrec, log):
    log.write_text(log.read_text() + "u0,late,1000002000\nu1,late,1000002000\n")
    _, said, err = prepared(bbqrec, log, "--split", "time")
    assert said["split"]["cold_items"] == 1
    assert "1 of 13 items have no interaction in the training part (cold items)" in err


def test_files_of_different_splits_are_not_compared(bbqrec, log, tmp_path):
    made = {}
    early = ("--split", "time", "--quantiles", ".5,.7")
    for name, options in (("last", ()), ("time", ("--split", "time")), ("early", early)):
        path, _, _ = prepared(bbqrec, log, *options)
        model, made[name] = tmp_path / f"{name}-model.h5", tmp_path / f"{name}.h5"
        assert bbqrec("train", path, "--model", "popularity", "-o", model).status == 0
        assert bbqrec("evaluate", model, "-o", made[name]).status == 0
    for name, other in (("last", "time"), ("time", "last"), ("time", "early")):
        said = bbqrec("evaluate", tmp_path / f"{name}-model.h5", "-o", tmp_path / "x.h5", "--against", made[other])
        assert said.status == 3
        assert "the interactions were split otherwise" in said.err
    config = EvaluateConfig(
        model=tmp_path / "time-model.h5", output=tmp_path / "again.h5", against=made["time"], device="cpu"
    )
    found = evaluate(config).significance["recall@10"]
    assert (found["difference"], found["t_test"], found["wilcoxon"]) == (0, 1, 1)


def test_rows_are_matched_by_user_and_target(bbqrec, log, tmp_path):
    """The same rows in another order give the same tests; another target is refused."""
    path, _, _ = prepared(bbqrec, log, "--split", "time")
    for name in ("popularity", "markov"):
        assert bbqrec("train", path, "--model", name, "-o", tmp_path / f"{name}.h5").status == 0
    config = EvaluateConfig(model=tmp_path / "popularity.h5", output=tmp_path / "one.h5", device="cpu", k=(1, 3))
    evaluate(config)
    one = hdf5.read_metrics(config.output)
    assert len(set(one.user_ids)) < len(one.user_ids), "some users have several targets"
    order = np.random.default_rng(0).permutation(len(one.user_ids))

    def picked(values):
        return [values[row] for row in order] if isinstance(values, list) else values[order]

    rows = ("user_ids", "ranks", "cold", "history_length", "target_interactions", "targets")
    shuffled = dataclasses.replace(
        one, **{name: picked(getattr(one, name)) for name in rows},
        recall={k: v[order] for k, v in one.recall.items()}, ndcg={k: v[order] for k, v in one.ndcg.items()},
    )  # fmt: skip
    hdf5.write_metrics(tmp_path / "shuffled.h5", shuffled, config={})
    other = dataclasses.replace(config, model=tmp_path / "markov.h5", force=True, output=tmp_path / "two.h5")
    straight = evaluate(dataclasses.replace(other, against=config.output)).significance
    assert straight == evaluate(dataclasses.replace(other, against=tmp_path / "shuffled.h5")).significance
    assert min(of["t_test"] for of in straight.values()) < 1
    # Means and their difference are over targets, as in either file alone.
    mine = hdf5.read_metrics(other.output)
    for k in (1, 3):
        found = straight[f"recall@{k}"]
        assert found["against"] == pytest.approx(one.recall[k].mean())
        assert found["difference"] == pytest.approx(mine.recall[k].mean() - one.recall[k].mean())
        assert found["confidence"][0] <= found["difference"] <= found["confidence"][1]
    other_item = "i1" if one.targets[0] == "i0" else "i0"
    strange = dataclasses.replace(one, targets=[other_item, *one.targets[1:]])
    hdf5.write_metrics(tmp_path / "strange.h5", strange, config={})
    with pytest.raises(DataError, match="is in one only"):
        evaluate(dataclasses.replace(other, against=tmp_path / "strange.h5"))


def test_given_by_a_column(bbqrec, log):
    """Leave-last-out, written into a column: all stages do what they do without it."""
    plain = hdf5.read_catalogue(prepared(bbqrec, log)[0]).sequences
    names = ["train", "valid", "test"]
    lines, left = [], {}
    for line in log.read_text().splitlines()[1:]:
        left[line.split(",")[0]] = left.get(line.split(",")[0], 0) + 1
    for line in log.read_text().splitlines()[1:]:
        user = line.split(",")[0]
        lines.append(f"{line},{names[max(0, 3 - left[user])]}")
        left[user] -= 1
    log.write_text("\n".join(["user,item,timestamp,part", *lines]) + "\n")
    path, said, _ = prepared(bbqrec, log, "--split-column", "part")
    assert (said["split"]["kind"], said["split"]["targets"]) == ("given", {"validation": 30, "test": 30})
    given, last = split_of(hdf5.read_catalogue(path).sequences), split_of(plain)
    assert given.train.items.tolist() == last.train.items.tolist()
    for part in ("validation", "test"):
        np.testing.assert_array_equal(getattr(given, part).read(), getattr(last, part).read())
        for name in ("users", "targets"):
            np.testing.assert_array_equal(getattr(getattr(given, part), name), getattr(getattr(last, part), name))


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        (
            ("--split", "given"),
            2,
            "--split given: three files are needed, the training, validation and test part, or a",
        ),
        (("--split", "time", "--split-column", "part"), 2, "--split time: the data are split already"),
        (("--split", "time", "--quantiles", ".9,.8"), 2, "--quantiles is '0.9,0.8'; two rising numbers"),
        (("--quantiles", ".5,.6"), 2, "--quantiles has no effect without --split time"),
        (("--split", "time", "--order", "file"), 3, "--split time needs timestamps"),
        (("--split-column", "part"), 3, "no validation row has a row of its user before it"),
        (("--split", "somehow"), 2, "--split is 'somehow'; allowed: last, time, given"),
    ],
)
def test_contradictions(bbqrec, tmp_path, options, status, says):
    path = tmp_path / "log.csv"
    path.write_text("user,item,timestamp,part\nu1,a,1,train\nu1,b,2,train\nu1,c,3,test\nu2,a,1,valid\n")
    said = bbqrec("prepare", "table", path, "-o", tmp_path / "dataset.h5", *options)
    assert (said.status, says in " ".join(said.err.split())) == (status, True), said.err
    assert not (tmp_path / "dataset.h5").exists()


def test_a_source_without_parts(bbqrec, tmp_path):
    said = bbqrec("prepare", "demo", "-o", tmp_path / "dataset.h5", "--split", "given")
    assert (said.status, "nothing in the source demo names the parts" in said.err) == (2, True)


def test_three_files_need_the_word(bbqrec, tmp_path):
    paths = [tmp_path / f"{name}.csv" for name in ("train", "valid", "test")]
    for number, path in enumerate(paths):
        path.write_text(f"user,item,timestamp\nu1,i{number},{number + 1}\nu2,i{2 - number},{number + 1}\n")
    said = bbqrec("prepare", "table", *paths, "-o", tmp_path / "joined.h5")
    assert (said.status, "train.csv, valid.csv, test.csv are read as one log" in said.err) == (0, True)
    assert hdf5.read_catalogue(tmp_path / "joined.h5").splitting == LAST
    assert bbqrec("prepare", "table", *paths, "-o", tmp_path / "dataset.h5", "--split", "given").status == 0
    about = hdf5.describe(tmp_path / "dataset.h5")
    assert [each["path"] for each in about["parents"]] == ["train.csv", "valid.csv", "test.csv"]
    assert about["attributes"]["splitting"] == {"kind": "given"}
    made = hdf5.read_catalogue(tmp_path / "dataset.h5")
    split = split_of(made.sequences)
    assert [[made.item_ids[item] for item in row] for row in split.train] == [["i0"], ["i2"]]
    assert [made.item_ids[item] for item in split.test.targets] == ["i2", "i0"]


def test_a_file_that_contradicts_itself(catalogue, tmp_path):
    path = tmp_path / "features.h5"

    def written(parts, splitting):
        sequences = dataclasses.replace(catalogue.sequences, parts=parts)
        made = dataclasses.replace(catalogue, sequences=sequences, splitting=splitting)
        hdf5.write_features(path, Features(catalogue=made, features={}), config={}, force=True)
        return hdf5.read_catalogue(path)

    count, given = len(catalogue.sequences.items), Splitting(kind="given")
    parts = np.zeros(count, dtype=np.uint8)
    assert written(parts, given).sequences.parts.tolist() == [0] * count
    for wrong, splitting in ((None, given), (parts, LAST)):
        with pytest.raises(BrokenFileError, match="one is missing"):
            written(wrong, splitting)
    for place, value in ((0, 1), (5, 3)):
        broken = parts.copy()
        broken[place] = value
        with pytest.raises(BrokenFileError, match="must rise from 0 to 2 within each user"):
            written(broken, given)
    with h5py.File(path) as file:
        assert file.attrs["schema_version"] == 2


SUITE = """
name = "by-time"
seeds = [0]
k = [1, 3]
[data]
source = ["table", "log.csv"]
prepare = { split = "time" }
[[system]]
name = "popularity"
[[system]]
name = "markov"
"""


def test_pages_name_the_split(bbqrec, log, monkeypatch):
    folder = log.parent
    monkeypatch.chdir(folder)
    (folder / "suite.toml").write_text(SUITE)
    said = bbqrec("benchmark", "suite.toml", "-o", "work", "--report", "page.html", "--json")
    assert said.status == 0, said.err
    name = json.loads(said.out)["data"]["splitting"]
    assert name.startswith("by time, validation from ")
    page = (folder / "page.html").read_text()
    assert f"Full ranking over all items, split test ({name})." in page
    path, _, _ = prepared(bbqrec, log, "--split", "time")
    said = bbqrec("tune", path, "--model", "markov", "--trials", 1, "-o", "tuned", "--report", "tuned.html")
    assert said.status == 0, said.err
    assert f"Figures are of the validation split ({name}), under full ranking" in (folder / "tuned.html").read_text()
    (folder / "suite.toml").write_text(SUITE.replace('prepare = { split = "time" }', ""))
    said = bbqrec("benchmark", "suite.toml", "-o", "work2", "--report", "last.html", "--json")
    assert json.loads(said.out)["data"]["splitting"] == ""
    assert "split test." in (folder / "last.html").read_text()
