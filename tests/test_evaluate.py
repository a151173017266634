from __future__ import annotations

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from helpers import Listener

from bbqrec_cli import hdf5
from bbqrec_cli.errors import DataError, UsageError, WrongKindError
from bbqrec_cli.records import Sequences, TrainedModel
from bbqrec_cli.stages.evaluate import EvaluateConfig, run


def popularity(path, catalogue, counts) -> None:
    weights = {"counts": np.array(counts, dtype=np.float32)}
    hdf5.write_model(
        path, TrainedModel(catalogue=catalogue, name="popularity", settings={}, weights=weights), config={}
    )


@pytest.fixture
def config(files, tmp_path) -> EvaluateConfig:
    return EvaluateConfig(model=files["model"], output=tmp_path / "metrics.h5", device="cpu", k=(1, 5, 10))


@pytest.mark.parametrize(("split", "back"), [("test", 1), ("validation", 2)])
def test_against_brute_force(config, catalogue, trained_model, split, back):
    """Ranks counted one by one: how many items score more, or as much in an earlier row."""
    counts = trained_model.weights["counts"]
    result = run(dataclasses.replace(config, split=split))
    ranks = []
    for sequence in catalogue.sequences:
        target = sequence[-back]
        before = [i for i in range(12) if counts[i] > counts[target] or (counts[i] == counts[target] and i < target)]
        ranks.append(1 + len(before))
    made = hdf5.read_metrics(config.output)
    assert made.ranks.tolist() == [rank if rank <= 10 else 0 for rank in ranks]
    for k in (1, 5, 10):
        gains = [1 / math.log2(1 + rank) if rank <= k else 0.0 for rank in ranks]
        assert result.aggregates[f"recall@{k}"] == pytest.approx(np.mean([rank <= k for rank in ranks]))
        assert result.aggregates[f"ndcg@{k}"] == pytest.approx(np.mean(gains))
        np.testing.assert_allclose(made.ndcg[k], gains, rtol=1e-6)
    assert (made.model, made.split, made.user_ids) == ("popularity", split, catalogue.user_ids)


def test_test_histories_hold_the_validation_item_and_only_what_came_before(config, catalogue, monkeypatch):
    """What the model is shown, seen from inside."""
    from bbqrec_cli.models.popularity import Popularity

    shown: dict[int, list] = {}
    recommend = Popularity.recommend

    def spy(self, batch, wanted):
        for items, targets, length in zip(batch.items, batch.targets, batch.lengths, strict=True):
            shown.setdefault(int(targets[length - 1]), []).append(items[:length].tolist())
        return recommend(self, batch, wanted)

    monkeypatch.setattr(Popularity, "recommend", spy)
    run(dataclasses.replace(config, batch_size=1))
    # The first user once more: ranking is timed after a warm-up batch.
    found = sorted((target, history) for target, histories in shown.items() for history in histories)
    found.remove((int(catalogue.sequences[0][-1]), catalogue.sequences[0][:-1].tolist()))
    assert found == sorted((int(s[-1]), s[:-1].tolist()) for s in catalogue.sequences)


def test_json_keys_and_intervals(config):
    result = run(config).to_json()
    assert {"output", "model", "split", "users", "recall@5", "recall@10", "ndcg@5", "ndcg@10", "confidence"} <= set(
        result
    )
    for name, (low, high) in result["confidence"].items():
        assert low <= result[name] <= high
    assert result["users"] == 30


def test_short_users_are_counted_and_not_evaluated(config, catalogue, tmp_path, bbqrec):
    walks = [[0, 1], [2, 3, 0], [4, 5, 6, 7], [], *([[8, 9, 10]] * 26)]
    popularity(tmp_path / "m.h5", dataclasses.replace(catalogue, sequences=Sequences.from_lists(walks)), range(12))
    result = run(dataclasses.replace(config, model=tmp_path / "m.h5"))
    assert (result.users, result.unevaluated) == (28, 2)
    assert hdf5.read_metrics(config.output).user_ids[:2] == ["u1", "u2"]
    said = bbqrec("evaluate", tmp_path / "m.h5", "-o", tmp_path / "x.h5")
    assert "2 users have fewer than 3 interactions" in said.err


def test_nobody_to_evaluate(config, catalogue, tmp_path):
    short = dataclasses.replace(catalogue, sequences=Sequences.from_lists([[0]] * 30))
    popularity(tmp_path / "m.h5", short, range(12))
    with pytest.raises(DataError, match="no user has 3 interactions"):
        run(dataclasses.replace(config, model=tmp_path / "m.h5"))


@pytest.mark.parametrize("trained_otherwise", [False, True])
def test_against_another_file(config, catalogue, tmp_path, trained_otherwise):
    from scipy.stats import ttest_rel, wilcoxon

    run(config)
    if trained_otherwise:
        metrics = hdf5.read_metrics(config.output)
        changed = dataclasses.replace(metrics, target_interactions=metrics.target_interactions + 1)
        hdf5.write_metrics(config.output, changed, config={}, force=True)
    popularity(tmp_path / "other.h5", catalogue, [0, 9, 1, 0, 7, 0, 0, 3, 0, 5, 0, 0])
    other = dataclasses.replace(
        config, model=tmp_path / "other.h5", output=tmp_path / "other_metrics.h5", against=config.output
    )
    listener = Listener()
    significance = run(other, listener).significance
    assert listener.warned == [f"{config.output}: trained on other interactions than {other.model}"] * trained_otherwise
    assert set(significance) == {f"{name}@{k}" for name in ("recall", "ndcg", "mrr") for k in (1, 5, 10)}
    mine, theirs = hdf5.read_metrics(other.output).ndcg[5], hdf5.read_metrics(config.output).ndcg[5]
    found = significance["ndcg@5"]
    assert found["t_test"] == pytest.approx(ttest_rel(mine, theirs).pvalue)
    assert found["wilcoxon"] == pytest.approx(wilcoxon((mine - theirs)[mine != theirs]).pvalue)
    assert 0 < found["t_test"] < 1
    assert found["against"] == pytest.approx(theirs.mean())
    assert found["difference"] == pytest.approx(mine.mean() - theirs.mean())
    low, high = found["confidence"]
    assert low < found["difference"] < high
    # The interval of a mean of 30 differences: 1.96 standard errors on either side, about.
    assert high - low == pytest.approx(2 * 1.96 * np.std(mine - theirs) / math.sqrt(30), rel=0.15)


def test_against_is_checked_before_the_work(config, catalogue, monkeypatch):
    from bbqrec_cli.evaluation import protocol

    run(config)
    monkeypatch.setattr(protocol, "target_ranks", lambda *_, **__: pytest.fail("worked first"))
    other = dataclasses.replace(config, output=config.output.with_name("o.h5"), against=config.output)
    with pytest.raises(DataError, match="of the test split, not the validation split"):
        run(dataclasses.replace(other, split="validation"))
    with pytest.raises(DataError, match="no metrics at k = 3,7") as caught:
        run(dataclasses.replace(other, k=(3, 7)))
    assert caught.value.hint == "--k 1,5,10"
    with pytest.raises(DataError, match="seen items in the ranking, this one has seen items left out") as caught:
        run(dataclasses.replace(other, exclude_seen=True))
    assert caught.value.hint == "leave --exclude-seen out"
    assert not other.output.exists()
    with pytest.raises(DataError, match="is an input and would be lost"):
        run(dataclasses.replace(other, output=config.output, force=True))
    with pytest.raises(DataError, match="is an input and would be lost"):
        run(dataclasses.replace(config, output=config.model, force=True))


def test_against_other_users(config, catalogue, tmp_path):
    run(config)
    renamed = dataclasses.replace(catalogue, user_ids=[f"v{user}" for user in range(30)])
    popularity(tmp_path / "other.h5", renamed, range(12))
    with pytest.raises(DataError, match="different users"):
        run(dataclasses.replace(config, model=tmp_path / "other.h5", output=tmp_path / "o.h5", against=config.output))


def test_against_another_catalogue(config, catalogue, tmp_path):
    """The same users and targets among more items: one that nobody evaluated took."""
    run(config)
    assert hdf5.read_metrics(config.output).items == 12
    more = dataclasses.replace(
        catalogue, item_ids=[*catalogue.item_ids, "i12"], titles=[*catalogue.titles, ""], attributes={}
    )
    popularity(tmp_path / "other.h5", more, range(13))
    with pytest.raises(DataError, match=r"metrics\.h5: of other data than .*other\.h5: 12 items were ranked, not 13"):
        run(dataclasses.replace(config, model=tmp_path / "other.h5", output=tmp_path / "o.h5", against=config.output))


def test_united_with_another_model(config, catalogue, tmp_path, bbqrec):
    """Ranks by sums of 1 / (60 + rank) in both lists, counted one by one."""
    mine, theirs = [12 - item for item in range(12)], [0, 9, 1, 0, 7, 0, 0, 3, 0, 5, 0, 0]
    for name, counts in (("a.h5", mine), ("b.h5", theirs)):
        popularity(tmp_path / name, catalogue, counts)
    both = dataclasses.replace(config, model=tmp_path / "a.h5", unite=(tmp_path / "b.h5",))
    assert run(both).model == "popularity + popularity"
    lists = [sorted(range(12), key=lambda item: (-counts[item], item)) for counts in (mine, theirs)]
    points = [sum(1 / (61 + each.index(item)) for each in lists) for item in range(12)]
    order = sorted(range(12), key=lambda item: (-points[item], item))
    ranks = [1 + order.index(sequence[-1]) for sequence in catalogue.sequences]
    assert hdf5.read_metrics(config.output).ranks.tolist() == [rank if rank <= 10 else 0 for rank in ranks]
    command = ("recommend", tmp_path / "a.h5", "--unite", tmp_path / "b.h5", "--history", "i0", "--top", "12", "--json")
    said = json.loads(bbqrec(*command, "--include-seen").out)
    assert [item["id"] for item in said["items"]] == [f"i{item}" for item in order]
    assert said["items"][0]["score"] == pytest.approx(points[order[0]])
    parents = bbqrec("inspect", config.output).out
    assert "a.h5" in parents
    assert "b.h5" in parents


def test_what_can_not_be_united(config, catalogue, files, tmp_path):
    renamed = dataclasses.replace(catalogue, item_ids=[f"j{item}" for item in range(12)])
    popularity(tmp_path / "other.h5", renamed, range(12))
    unite = dataclasses.replace(config, unite=(tmp_path / "other.h5",))
    with pytest.raises(DataError, match=r"--unite .*other\.h5: has other items than the first model"):
        run(unite)
    longer = Sequences.from_lists([[*walk, 0] for walk in catalogue.sequences])
    popularity(tmp_path / "later.h5", dataclasses.replace(catalogue, sequences=longer), range(12))
    with pytest.raises(DataError, match=r"later\.h5 was trained on .* interactions that are held out here"):
        run(dataclasses.replace(config, unite=(tmp_path / "later.h5",)))
    with pytest.raises(UsageError, match="--tokens and --unite"):
        run(dataclasses.replace(config, unite=(config.model,), tokens=files["tokens"]))
    with pytest.raises(WrongKindError, match="a model file is needed"):
        run(dataclasses.replace(config, unite=(files["tokens"],)))
    with pytest.raises(UsageError, match="--diagnose and --unite exclude each other"):
        run(dataclasses.replace(config, unite=(config.model,), diagnose=True))


def test_what_is_refused(config, files):
    with pytest.raises(UsageError, match="--k"):
        run(dataclasses.replace(config, k=()))
    with pytest.raises(WrongKindError, match="a model file is needed"):
        run(dataclasses.replace(config, model=files["tokens"]))


def test_the_command(bbqrec, files, tmp_path):
    said = bbqrec("evaluate", files["model"], "-o", tmp_path / "m.h5", "--k", "3", "--split", "validation", "--json")
    assert said.status == 0
    assert {"recall@3", "ndcg@3"} <= set(json.loads(said.out))
    against = ("--k", "3,9", "--split", "validation", "--against", tmp_path / "m.h5")
    table = bbqrec("evaluate", files["model"], "-o", tmp_path / "n.h5", *against)
    assert table.status == 0
    head = next(line for line in table.out.splitlines() if line.startswith("metric"))
    assert re.split(r"  +", head.strip())[:4] == ["metric", "mean", "theirs", "difference"]
    row = next(line for line in table.out.splitlines() if line.startswith("recall@3")).split()
    assert row[1] == row[2], "the same model"
    assert row[3:] == ["+0.0000", "+0.0000", "…", "+0.0000", "1", "1"]
    row = next(line for line in table.out.splitlines() if line.startswith("recall@9")).split()
    assert len(row) == 2, "what the other file has not is shown too"
    assert max(map(len, table.out.splitlines())) <= 80


def test_against_other_targets(config, catalogue, tmp_path):
    """The same users, of data that were prepared otherwise."""
    run(config)
    walks = [walk.tolist() for walk in catalogue.sequences]
    walks[0][-2:] = walks[0][:-3:-1]
    other = dataclasses.replace(catalogue, sequences=Sequences.from_lists(walks))
    popularity(tmp_path / "other.h5", other, range(12))
    with pytest.raises(DataError, match=r"of other data than .*other\.h5: the target of user 'u0': "):
        run(dataclasses.replace(config, model=tmp_path / "other.h5", output=tmp_path / "o.h5", against=config.output))
