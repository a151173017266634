from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark import results
from bbqrec_cli.benchmark.graph import Step
from bbqrec_cli.benchmark.results import about_cell
from bbqrec_cli.benchmark.runner import Outcome
from bbqrec_cli.benchmark.scores import made_of
from bbqrec_cli.errors import DataError
from bbqrec_cli.evaluation.metrics import bootstrap_interval, ndcg_at_k, recall_at_k
from bbqrec_cli.records import Sequences
from bbqrec_cli.stages.prepare import PrepareConfig


@pytest.fixture
def measured(metrics):
    """The one evaluation of the given ranks, on users u0, u1, …"""

    def make(ranks, users=None):
        ranks = np.array(ranks)
        made = dataclasses.replace(
            metrics, user_ids=users or [f"u{row}" for row in range(len(ranks))], ranks=ranks,
            recall={k: recall_at_k(ranks, k) for k in (5, 10)}, ndcg={k: ndcg_at_k(ranks, k) for k in (5, 10)},
        )  # fmt: skip
        return (made,)

    return make


def test_worked_by_hand(measured):
    """Recall@5 of four users: (1, 1, 0, 1) against (0, 1, 0, 0). The differences 1, 0, 0, 1 have mean 1/2 and standard
    deviation 1/√3, so t = √3 with 3 degrees of freedom; 2·P(T > √3) = 0.18169."""
    found = results.scores({"a": {0: measured([1, 5, 6, 2])}, "b": {0: measured([0, 1, 9, 7])}}, ["recall@5"])
    a, b = found["a"]["recall@5"], found["b"]["recall@5"]
    assert (a.mean, b.mean, a.values, a.sd) == (0.75, 0.25, [0.75], None)
    assert (a.against, b.against) == ("b", "a")
    assert a.p_t == b.p_t == pytest.approx(0.18169, abs=1e-5)
    assert (a.difference, b.difference) == (0.5, -0.5)


def test_a_lead_on_nothing_has_a_sign(measured):
    """Where the best other system never has a target, there is no share that one is ahead by; it is ahead still."""
    made = {"a": {0: measured([1] * 30 + [0] * 10)}, "b": {0: measured([0] * 40)}}
    found = results.scores(made, ["recall@5"])
    a, b = found["a"]["recall@5"], found["b"]["recall@5"]
    assert (a.gain, a.lead, a.clear, a.significant) == (None, 0.75, True, True)
    assert (b.clear, b.significant) == (True, False)


@pytest.mark.parametrize("hits", [10, 15, 20, 23])
def test_a_tie_over_seeds_is_one(measured, hits):
    """Whatever the last bits of the means are."""
    made = {
        "a": {seed: measured([1] * own + [0] * (50 - own)) for seed, own in enumerate((hits - 1, hits, hits + 1))},
        "b": {seed: measured([1] * hits + [0] * (50 - hits)) for seed in range(3)},
    }
    found = results.scores(made, ["recall@10"])
    assert found["a"]["recall@10"].mean == found["b"]["recall@10"].mean == pytest.approx(hits / 50)
    assert found["a"]["recall@10"].lead == 0


def test_systems_of_the_same_evaluations_are_one(measured):
    """As a sweep's value that the system has already: not compared with itself, and counted once by Holm."""
    made = {
        "a": {0: measured([1, 2, 1, 9, 1])},
        "b": {0: measured([3, 1, 0, 4, 7])},
        "c": {0: measured([9, 9, 0, 1, 6])},
    }
    plain = results.scores(made, ["recall@5", "ndcg@5"])
    found = results.scores(made | {"a, x=1": made["a"], "b, x=2": made["b"]}, ["recall@5", "ndcg@5"])
    assert list(found) == ["a", "b", "c", "a, x=1", "b, x=2"]
    assert str({name: found[name] for name in made}) == str(plain)
    assert str([found["a, x=1"], found["b, x=2"]]) == str([plain["a"], plain["b"]])


def test_wilcoxon_worked_by_hand(measured):
    """Six users whom only one system serves: of the 2⁶ choices of signs two are as far to one side."""
    found = results.scores({"a": {0: measured([1] * 6)}, "b": {0: measured([0] * 6)}}, ["recall@5"])
    assert found["a"]["recall@5"].p_wilcoxon == 2 / 2**6


def test_against_scipy_over_seeds(measured):
    generator = np.random.default_rng(0)
    ranks = {
        name: {seed: generator.integers(0, high, 200) for seed in (3, 4, 5)}
        for name, high in (("a", 12), ("b", 15), ("c", 40))
    }
    metrics = {name: {seed: measured(each) for seed, each in seeds.items()} for name, seeds in ranks.items()}
    found = results.scores(metrics, ["ndcg@10", "recall@5"])

    def gain(rank):
        return 1 / math.log2(1 + rank) if 1 <= rank <= 10 else 0

    def gains(name):
        """Every user's NDCG@10, mean over the seeds, one by one."""
        every = ranks[name].values()
        return [statistics.mean(gain(each[user]) for each in every) for user in range(200)]

    for name, other in (("a", "b"), ("b", "a"), ("c", "a")):
        score = found[name]["ndcg@10"]
        means = [statistics.mean(map(gain, each)) for each in ranks[name].values()]
        assert score.values == pytest.approx(means, rel=1e-6)
        assert score.mean == pytest.approx(statistics.mean(means), rel=1e-6)
        assert score.sd == pytest.approx(statistics.stdev(means), rel=1e-5)
        assert score.against == other
        assert score.p_t == pytest.approx(stats.ttest_rel(gains(name), gains(other)).pvalue, rel=1e-4)
        signed = stats.wilcoxon(gains(name), gains(other), method="asymptotic")
        assert score.p_wilcoxon == pytest.approx(signed.pvalue, rel=0.05)
        assert score.low < score.mean < score.high
        spread = 1.96 * statistics.stdev(gains(name)) / math.sqrt(200)
        assert score.high - score.low == pytest.approx(2 * spread, rel=0.1), "about what the normal distribution says"


def test_the_best_differs_from_metric_to_metric(measured):
    """a: half of the targets first; b: two thirds of them, but at rank 5."""
    metrics = {
        "a": {0: measured([1, 0, 1, 0, 1, 0])},
        "b": {0: measured([5, 5, 0, 5, 5, 0])},
        "c": {0: measured([0] * 6)},
    }
    found = results.scores(metrics, ["recall@5", "ndcg@5"])
    assert found["c"]["recall@5"].against == "b"
    assert found["c"]["ndcg@5"].against == "a"


def test_users_in_another_order(measured):
    ranks, users = [1, 2, 0, 0, 7], list("abcde")
    same = results.scores({"x": {0: measured(ranks, users)}, "y": {0: measured([0, 2, 3, 4, 7], users)}}, ["ndcg@10"])
    turned = measured([0, 2, 3, 4, 7][::-1], users[::-1])
    other = results.scores({"x": {0: measured(ranks, users)}, "y": {0: turned}}, ["ndcg@10"])
    assert other["x"]["ndcg@10"].p_t == pytest.approx(same["x"]["ndcg@10"].p_t)


def test_other_users_are_refused(measured):
    metrics = {"x": {0: measured([1, 2], ["a", "b"])}, "y": {0: measured([1, 2], ["a", "c"])}}
    with pytest.raises(DataError, match="different users"):
        results.scores(metrics, ["recall@5"])


def test_tests_use_the_seeds_that_both_have(measured):
    a = {0: measured([1, 0, 1, 0]), 1: measured([1, 1, 1, 1])}
    found = results.scores({"a": a, "b": {0: measured([0, 0, 1, 0])}, "c": {7: measured([9, 9, 9, 9])}}, ["recall@5"])
    assert found["b"]["recall@5"].p_t == pytest.approx(stats.ttest_rel([0, 0, 1, 0], [1, 0, 1, 0]).pvalue)
    assert found["a"]["recall@5"].sd == pytest.approx(statistics.stdev([0.5, 1]))
    assert (found["c"]["recall@5"].against, found["c"]["recall@5"].p_t) == ("a", None), "no seed in common"


def test_a_lead_of_the_means_that_the_test_contradicts(measured):
    """Of several targets of a user the test takes the mean; a seed that only one system has is not tested."""
    users = [f"u{user}" for user in range(200) for _ in range(1 if user < 190 else 50)]
    first = np.array([int(user[1:]) < 190 for user in users])
    few, many = measured(np.where(first, 0, 1), users), measured(np.where(first, 1, 0), users)
    found = results.scores({"a": {0: few}, "b": {0: many}}, ["recall@5"])
    a, b = found["a"]["recall@5"], found["b"]["recall@5"]
    assert a.gain > 0 > a.difference
    assert a.holm_t < 0.05
    assert [a.significant, a.clear, b.significant, b.clear] == [False] * 4
    behind = {0: measured([0] * 60 + [1] * 40), 1: measured([1] * 100)}
    found = results.scores({"a": behind, "b": {0: measured([0] * 50 + [1] * 50)}}, ["recall@5"])["a"]["recall@5"]
    assert found.gain > 0
    assert found.holm_t < 0.05
    assert not found.significant


def test_both_protocols(measured):
    """'-unseen' is the second evaluation; each is tested among its own kind."""
    metrics = {
        "a": {0: measured([1, 0, 1, 0]) + measured([1, 1, 1, 2])}, "b": {0: measured([0] * 4) + measured([2] * 4)}
    }  # fmt: skip
    found = results.scores(metrics, ["recall@5", "mrr@10", "mrr@10-unseen"])["a"]
    assert (found["recall@5"].mean, found["mrr@10"].mean) == (0.5, 0.5)
    assert found["mrr@10-unseen"].mean == pytest.approx(3.5 / 4)
    assert found["mrr@10-unseen"].p_t == pytest.approx(stats.ttest_rel([1, 1, 1, 0.5], [0.5] * 4).pvalue)


def test_one_system_alone(measured):
    score = results.scores({"a": {0: measured([1, 2, 0])}}, ["recall@5"])["a"]["recall@5"]
    assert (score.against, score.p_t, score.p_wilcoxon) == ("", None, None)


def test_the_content_is_that_of_the_data(catalogue):
    digest = results.content_of(catalogue)
    assert results.content_of(dataclasses.replace(catalogue, titles=["?"] * 12)) == digest
    walks = [list(walk) for walk in catalogue.sequences]
    assert results.content_of(dataclasses.replace(catalogue, sequences=Sequences.from_lists(walks))) == digest
    walks[3][1] = (walks[3][1] + 1) % 12
    assert results.content_of(dataclasses.replace(catalogue, sequences=Sequences.from_lists(walks))) != digest
    assert results.content_of(dataclasses.replace(catalogue, user_ids=catalogue.user_ids[::-1])) != digest
    backwards = dataclasses.replace(
        catalogue, user_ids=catalogue.user_ids[::-1], item_ids=catalogue.item_ids[::-1],
        sequences=Sequences.from_lists([[11 - item for item in walk] for walk in [*catalogue.sequences][::-1]]),
    )  # fmt: skip
    assert results.content_of(backwards) == digest, "in another order, the same data"


def step(key: str, output: Path) -> Step:
    return Step(stage="train", label="x", key=key, config=None, output=output)


def test_what_was_spent(tmp_path):
    records = {
        "a": {"status": "done", "seconds": 5.0, "figures": {"seconds": 3.0}, "at_least": False},
        "b": {"status": "done", "seconds": 5.0, "figures": {"seconds": 9.0}, "at_least": True},
        "c": {"status": "failed", "seconds": 2.0, "figures": {}, "at_least": False},
        "d": {"status": "running", "seconds": 0.0, "figures": {}, "at_least": False},
    }  # fmt: skip
    found = [results.spent(step(key, tmp_path), records) for key in "abcde"]
    assert [(each["seconds"], each["at_least"]) for each in found] == [
        (5, False), (9, True), (2, False), (None, False), (None, False),
    ]  # fmt: skip


def test_every_origin_is_told(graph, folder):
    whole = graph()
    (folder / "work").mkdir()
    steps = list(whole.steps.values())
    for one in steps[:5]:
        one.output.write_text("")
    here, there = {"commit": "a", "processor": "x"}, {"commit": "b", "processor": "x"}
    records = {
        one.key: {"status": "done", "origin": origin, "seconds": 2.0, "finished": f"2030-01-0{day}"}
        for day, (one, origin) in enumerate(zip(steps, (here, there, here, there), strict=False), 1)
    }
    found = results.provenance(whole, records)
    assert found["runs"] == [here | {"steps": 2}, there | {"steps": 2}]
    assert (found["unrecorded_steps"], found["seconds"]) == (1, 8)
    assert (found["first"], found["last"]) == ("2030-01-01", "2030-01-04")

    steps[0].output.unlink()  # it had served
    steps[4].output.unlink()
    found = results.provenance(whole, records)
    assert (found["unrecorded_steps"], found["seconds"]) == (0, 8)


def test_united_models_cost_what_both_cost(graph):
    """Seconds add up, memory is the larger one; evaluating counts once."""
    united = 'tokenizer = "ids"\n[[system]]\nname = "both"\nmodel = "sasrec"\nwidth = 8\nunite = "ours"\n'
    cells = {cell.name: cell for cell in graph(('tokenizer = "ids"\n', united)).cells}
    both, ours = cells["both, seed 0"], cells["ours, seed 0"]
    seconds = {"train": 3.0, "tokenize": 5.0, "evaluate": 1.0}
    records = {
        step.key: {"status": "done", "seconds": seconds[step.stage], "figures": {"peak_memory_mb": memory}}
        for cell, memory in ((both, 100.0), (ours, 200.0)) for step in cell.steps
    }  # fmt: skip
    found = about_cell(Outcome(cell=both, status="done"), records)
    assert found["seconds"] == {"train": 6, "tokenize": 5, "evaluate": 1}
    assert found["memory"] == {"train": 200, "tokenize": 200, "evaluate": 100}
    assert (found["model"], found["tokenizer"], found["unite"]) == ("sasrec", "", ["ours"])
    assert made_of(found) == "sasrec; united with ours"
    assert not found["control"]
    assert about_cell(Outcome(cell=ours, status="done"), records)["seconds"] == seconds


def test_users_of_several_targets_are_drawn_whole(measured):
    """Two users with twenty hits each, forty with one miss."""
    users = ["a"] * 20 + ["b"] * 20 + [f"u{user}" for user in range(40)]
    found = results.scores({"a": {0: measured([1] * 40 + [0] * 40, users)}}, ["recall@5"])["a"]["recall@5"]
    values = np.repeat([1.0, 0.0], 40)
    assert (found.low, found.high) == bootstrap_interval(values, seed=0, users=users)
    assert found.high - found.low > 2 * np.ptp(bootstrap_interval(values, seed=0))


def test_how_a_tokenizer_was_fitted(tokens, tmp_path):
    rows = [
        {"recall@10": 0.1, "information": 5.0, "reconstruction": 9.0},
        {"recall@10": 0.3, "information": -2.0, "reconstruction": 7.0},
        {"recall@10": 0.2, "information": 1.0, "reconstruction": 6.0, "quantised": True, "perplexity/id/1": 4.0,
         "perplexity/id/2": 3.0},
    ]  # fmt: skip
    path, config = tmp_path / "t.h5", {"colliding_items": {"before": 8, "after": 2}}
    hdf5.write_tokens(path, dataclasses.replace(tokens, history=rows), config=config)
    assert results.fitted(path) == {
        "colliding_before": 8, "epochs": 3, "reconstruction": 6.0, "information": 1.0, "lowest_information": -2.0,
        "recall_unquantised": 0.3, "recall_quantised": 0.2, "lowest_perplexity": 3.0,
    }  # fmt: skip


def test_raw_files_of_one_name_are_two(folder, monkeypatch):
    parents = [
        {"path": "log.csv", "sha256": "a"},
        {"path": "log.csv", "sha256": "b"},
        {"path": "log.csv", "sha256": "c"},
    ]
    monkeypatch.setattr("bbqrec_cli.benchmark.results.describe", lambda path: {"parents": parents})
    monkeypatch.setattr("bbqrec_cli.benchmark.results.damage", lambda path: "")
    prepare = PrepareConfig(source="table")
    step = SimpleNamespace(stage="prepare", output=folder / "features.h5")
    cell, data = SimpleNamespace(data="", steps=[step]), SimpleNamespace(name="", file=None, prepare=prepare)
    told = results.about_data([cell], data, "test")["checksums"]
    assert told == {"log.csv": "a", "log.csv (2)": "b", "log.csv (3)": "c"}
