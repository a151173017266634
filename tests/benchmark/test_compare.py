"""`bbqrec compare` on metrics files with known ranks."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark.compare import CompareConfig, run
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.evaluation.metrics import ndcg_at_k, recall_at_k

USERS = np.arange(30)
RANKS = {"a": np.full(30, 2), "b": np.where(USERS % 3 == 0, 0, 2), "c": np.where(USERS < 10, 1, 7)}
LENGTHS, TARGETS = 2 + USERS, USERS // 2


@pytest.fixture
def save(tmp_path, metrics):
    """`save("a", split="validation")` writes a.h5 with the ranks of RANKS["a"] and says its path."""

    def make(name, *, ranks=None, ks=(5, 10), folder="", **more):
        ranks = RANKS[name] if ranks is None else ranks
        recall, ndcg = ({k: f(ranks, k) for k in ks} for f in (recall_at_k, ndcg_at_k))
        own = {
            "ranks": ranks,
            "recall": recall,
            "ndcg": ndcg,
            "history_length": LENGTHS,
            "target_interactions": TARGETS,
            "items": 30,
        }
        path = tmp_path / folder / f"{name}.h5"
        path.parent.mkdir(exist_ok=True)
        hdf5.write_metrics(path, dataclasses.replace(metrics, **own | more), config={"seed": 0})
        return path

    return make


@pytest.fixture
def three(save):
    return tuple(save(name) for name in RANKS)


def test_scores_and_tests(three):
    result = run(CompareConfig(input=three))
    assert (result.split, result.evaluated, result.metric, result.depth) == ("test", 30, "ndcg@10", 10)
    ndcg = {name: np.where(ranks > 0, 1 / np.log2(1 + np.maximum(ranks, 1)), 0) for name, ranks in RANKS.items()}
    own = {name: of["ndcg@10"] for name, of in result.systems.items()}
    assert {name: each.mean for name, each in own.items()} == pytest.approx({n: v.mean() for n, v in ndcg.items()})
    assert [own[name].against for name in "abc"] == ["c", "a", "a"], "a is the best, c the second"
    p = {name: float(stats.ttest_rel(ndcg[name], ndcg["a"]).pvalue) for name in "bc"}
    assert {name: own[name].p_t for name in "abc"} == pytest.approx({"a": p["c"], **p}, rel=1e-4)
    smaller, larger = sorted(p.values())
    corrected = {smaller: 2 * smaller, larger: max(2 * smaller, larger)}
    assert {name: own[name].holm_t for name in "abc"} == pytest.approx(
        {"a": corrected[p["c"]], "b": corrected[p["b"]], "c": corrected[p["c"]]}, rel=1e-4
    )
    assert own["a"].gain == pytest.approx(ndcg["a"].mean() / ndcg["c"].mean() - 1)
    assert own["a"].significant == (own["a"].holm_t < 0.05)
    assert not own["b"].significant


def test_slices_users_and_wins(three):
    result = run(CompareConfig(input=three, metric="Recall@5", users=4))
    lengths = result.slices["history_length"]
    assert [(row["from"], row["to"], row["users"]) for row in lengths] == [
        (0, 5, 4), (6, 10, 5), (11, 20, 10), (21, None, 11),
    ]  # fmt: skip
    assert lengths[0]["systems"] == pytest.approx({"a": 1.0, "b": 2 / 4, "c": 1.0}), "users 0 to 3"
    assert result.slices["target_interactions"][0]["systems"] == pytest.approx({"a": 1.0, "b": 0.5, "c": 1.0})
    assert result.against["c"] == {"against": "a", "better": 0, "equal": 10, "worse": 20}
    assert result.against["a"] == {"against": "b", "better": 10, "equal": 20, "worse": 0}
    assert result.users[0] == {
        "user": "u0", "history_length": 2, "target_interactions": 0, "ranks": {"a": 2, "b": 0, "c": 1},
    }  # fmt: skip
    assert [each["user"] for each in result.users] == ["u0", "u3", "u6", "u9"]


def test_both_tables_have_the_same_best_other_file(save):
    """The same ranks in another order: the mean of float32 would hang on it."""
    generator = np.random.default_rng(3)
    for number in range(10):
        ranks = generator.integers(0, 11, 30)
        paths = [save(name, ranks=each, folder=str(number)) for name, each in
                 (("a", ranks), ("b", generator.permutation(ranks)), ("c", np.zeros(30, dtype=np.int64)))]  # fmt: skip
        result = run(CompareConfig(input=tuple(paths)))
        assert result.systems["c"]["ndcg@10"].against == result.against["c"]["against"]


def test_users_in_another_order(save, metrics):
    turned = dataclasses.replace(metrics, user_ids=metrics.user_ids[::-1])
    a = save("a")
    other = save(
        "c", ranks=RANKS["c"][::-1].copy(), user_ids=turned.user_ids, history_length=LENGTHS[::-1].copy(),
        target_interactions=TARGETS[::-1].copy(),
    )  # fmt: skip
    ranks = [each["ranks"] for each in run(CompareConfig(input=(a, other), users=30)).users]
    assert ranks == [{"a": 2, "c": 1}] * 10 + [{"a": 2, "c": 7}] * 20
    assert {each["user"] for each in run(CompareConfig(input=(a, other), users=10)).users} == {
        f"u{user}" for user in range(10)
    }


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"split": "validation"}, "other: of the validation split; a is of the test split"),
        (
            {"exclude_seen": True},
            "other: made with seen items left out of the ranking; a has seen items in",
        ),
        ({"user_ids": [f"u{u}" for u in range(29)] + ["x"]}, "different users"),
        ({"history_length": np.where(USERS == 3, 99, LENGTHS)}, "items in the history of user 'u3': 99, not 5"),
        ({"target_interactions": TARGETS + 1}, "training interactions of the target of user 'u0': 1, not 0"),
        ({"items": 40}, "of other data than a: 40 items were ranked, not 30"),
        ({"ks": (1, 20)}, r"no k in common (a: 5,10; other: 1,20)"),
    ],
)
def test_what_can_not_be_compared(save, more, says):
    a, other = save("a"), save("other", ranks=RANKS["b"], **more)
    with pytest.raises(DataError) as caught:
        run(CompareConfig(input=(a, other)))
    assert says in caught.value.message


def test_models_that_were_trained_on_other_interactions(save, bbqrec):
    """The targets are the same; what a model was trained on is its own."""
    of = {"targets": [f"i{user % 7}" for user in range(30)]}
    a, other = save("a", **of), save("b", **of, target_interactions=TARGETS + 1)
    said = "b: trained on other interactions than a, whose numbers of the target's interactions the slices go by"
    done = bbqrec("compare", a, other)
    assert (done.status, said in " ".join(done.err.split())) == (0, True), done.err
    wrong = save("d", ranks=RANKS["b"], targets=["i9", *of["targets"][1:]])
    with pytest.raises(DataError, match="d: of other data than a: the target of user 'u0': i9, not i0"):
        run(CompareConfig(input=(a, wrong)))


def test_only_depths_that_all_have(save):
    deep, flat = save("a", ranks=np.where(USERS % 2, 8, 1)), save("b", ks=(5,))
    result = run(CompareConfig(input=(deep, flat)))
    assert (result.metric, result.depth, list(result.systems["a"])) == ("ndcg@5", 5, ["recall@5", "ndcg@5"])
    assert {each["ranks"]["a"] for each in result.users} <= {0, 1}


def test_old_files_without_slices(save):
    old = {"history_length": None, "target_interactions": None}
    result = run(CompareConfig(input=(save("a"), save("b", **old))))
    assert set(result.slices) == {"history_length", "target_interactions"}
    assert run(CompareConfig(input=(save("c", **old), save("d", ranks=RANKS["b"], **old)))).slices == {}


@pytest.mark.parametrize(
    ("paths", "more", "says"),
    [
        (["a"], {}, "two metrics files"),
        (["a", "a"], {}, "given twice"),
        (["a", "b"], {"metric": "ndcg@20"}, "the files share recall@5, ndcg@5, mrr@5"),
    ],
)
def test_wrong_options(save, paths, more, says):
    made = {name: save(name) for name in set(paths)}
    with pytest.raises(UsageError, match=says):
        run(CompareConfig(input=tuple(made[name] for name in paths), **more))


def test_files_whose_names_differ_in_the_ending(save):
    a, b = save("a"), save("b")
    paths = a.rename(a.with_name("run.1")), b.rename(b.with_name("run.2"))
    assert list(run(CompareConfig(input=paths)).files) == [str(path) for path in paths]


def test_the_page_says_how_to_make_it_again(three, tmp_path, bbqrec):
    page = tmp_path / "page.md"
    assert bbqrec("compare", *three, "--users", "3", "--report", page).status == 0
    assert f"bbqrec compare {' '.join(map(str, three))} --users 3 --report {page}" in page.read_text()


def test_files_of_the_same_name(save):
    result = run(CompareConfig(input=(save("a", folder="x"), save("a", folder="y", ranks=RANKS["b"]))))
    assert [name.split("/")[-2:] for name in result.files] == [["x", "a"], ["y", "a"]]


def test_the_command(three, bbqrec, tmp_path):
    done = bbqrec("compare", *three, "--report", tmp_path / "page.html")
    assert done.status == 0, done.err
    for said in ("30 users, split test", "Users where they differ", "Highest test NDCG@10: a,", "page: "):
        assert said in done.out
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "NDCG@10 by training interactions of the target" in page.replace("&#39;", "'").replace("</a>", "")
    found = json.loads(bbqrec("compare", *three, "--json").out)
    assert found["systems"]["a"]["recall@5"]["mean"] == 1.0
    assert bbqrec("compare", three[0]).status == 2
    assert bbqrec("compare", three[0], tmp_path / "none.h5").status == 3
