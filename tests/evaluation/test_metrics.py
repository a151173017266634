from __future__ import annotations

import math

import numpy as np
import pytest

from bbqrec_cli.evaluation.metrics import (
    aggregate,
    bootstrap_interval,
    list_figures,
    mrr_at_k,
    ndcg_at_k,
    rank_of_target,
    recall_at_k,
    slices,
)


def slow_rank(items: list[int], target: int) -> int:
    return items.index(target) + 1 if target in items else 0


def slow_ndcg(items: list[int], target: int, k: int) -> float:
    """From the definition: discounted gains of the list over those of the best possible list."""
    gain = sum((item == target) / math.log2(place + 2) for place, item in enumerate(items[:k]))
    return gain / (1 / math.log2(2))


def test_by_hand():
    items = np.array([[7, 3, 9], [7, 3, 9], [7, 3, 9], [7, 3, 9]])
    ranks = rank_of_target(items, np.array([7, 3, 9, 4]))
    assert ranks.tolist() == [1, 2, 3, 0]
    assert ranks.dtype == np.int64
    assert recall_at_k(ranks, 2).tolist() == [1, 1, 0, 0]
    assert ndcg_at_k(ranks, 3) == pytest.approx([1, 0.6309298, 0.5, 0])
    assert recall_at_k(ranks, 2).dtype == ndcg_at_k(ranks, 2).dtype == np.float32
    assert aggregate(ranks, (1, 3)) == pytest.approx(
        {"recall@1": 0.25, "ndcg@1": 0.25, "recall@3": 0.75, "ndcg@3": (1 + 0.6309298 + 0.5) / 4}
    )


def test_against_the_definition():
    generator = np.random.default_rng(0)
    items = np.stack([generator.permutation(40)[:12] for _ in range(300)])
    targets = generator.integers(0, 40, 300)
    ranks = rank_of_target(items, targets)
    assert ranks.tolist() == [slow_rank(row.tolist(), target) for row, target in zip(items, targets, strict=True)]
    for k in (1, 5, 10, 12, 50):
        found = [slow_ndcg(row.tolist(), target, k) for row, target in zip(items, targets, strict=True)]
        np.testing.assert_allclose(ndcg_at_k(ranks, k), found, rtol=1e-6)
        hits = [target in row[:k] for row, target in zip(items, targets, strict=True)]
        assert recall_at_k(ranks, k).tolist() == hits


@pytest.mark.parametrize("k", [1, 5, 10])
def test_against_scikit_learn(k):
    from sklearn.metrics import ndcg_score, top_k_accuracy_score

    generator = np.random.default_rng(2)
    scores, targets = generator.standard_normal((200, 30)), generator.integers(0, 30, 200)
    ranks = rank_of_target(np.argsort(-scores, axis=1), targets)
    found = aggregate(ranks, (k,))
    assert found[f"ndcg@{k}"] == pytest.approx(ndcg_score(np.eye(30)[targets], scores, k=k))
    assert found[f"recall@{k}"] == pytest.approx(top_k_accuracy_score(targets, scores, k=k, labels=range(30)))


def test_reciprocal_ranks():
    assert mrr_at_k(np.array([1, 4, 0, 5]), 4) == pytest.approx([1, 0.25, 0, 0])
    assert aggregate(np.array([1, 4]), (10,), ("mrr",)) == {"mrr@10": 0.625}


def test_what_is_recommended_at_all():
    """Four items, of which two are shown: one three times, with 7 interactions, one once, with none."""
    found = list_figures({2: np.array([3, 0, 0, 1])}, np.array([7, 1, 2, 0]))
    assert found == {"coverage@2": 0.5, "popularity@2": 21 / 4}


def test_slices():
    """Ranges end with an edge; those without users are left out."""
    found = slices(np.array([1, 0, 2, 0, 1]), np.array([0, 5, 6, 7, 400]), (0, 5, 20, 100), (1,))
    assert [(row["from"], row["to"], row["users"], row["recall@1"]) for row in found] == [
        (0, 0, 1, 1.0), (1, 5, 1, 0.0), (6, 20, 2, 0.0), (101, None, 1, 1.0)
    ]  # fmt: skip


def test_padding_is_never_a_hit():
    assert rank_of_target(np.array([[4, -1, -1]]), np.array([0])).tolist() == [0]


def test_no_users():
    assert aggregate(np.array([], dtype=np.int64), (5,)) == {"recall@5": 0.0, "ndcg@5": 0.0}
    assert bootstrap_interval(np.array([], dtype=np.float32), seed=0) == (0.0, 0.0)


def test_interval_of_a_share_is_the_binomial_one():
    """For 0/1 values the bootstrap of the mean is the binomial distribution: 1.96 standard errors at 95%."""
    values = np.zeros(10_000, dtype=np.float32)
    values[:800] = 1
    low, high = bootstrap_interval(values, seed=0, samples=4000)
    error = math.sqrt(0.08 * 0.92 / 10_000)
    assert (low, high) == pytest.approx((0.08 - 1.96 * error, 0.08 + 1.96 * error), abs=0.15 * error)


def test_interval_against_resampled_users():
    values = ndcg_at_k(np.random.default_rng(0).integers(0, 15, 200), 10)
    generator = np.random.default_rng(1)
    means = [generator.choice(values, len(values)).mean() for _ in range(4000)]
    spread = float(values.std()) / math.sqrt(len(values))
    found = bootstrap_interval(values, seed=3, level=0.9, samples=4000)
    assert found == pytest.approx(np.quantile(means, [0.05, 0.95]), abs=0.15 * spread)
    assert found == bootstrap_interval(values, seed=3, level=0.9, samples=4000)
    assert found != bootstrap_interval(values, seed=4, level=0.9, samples=4000)


def test_interval_of_a_million_users_is_small_work():
    low, high = bootstrap_interval(np.resize(np.float32([0, 0, 0, 1]), 1_000_000), seed=0)
    assert low < 0.25 < high
    assert high - low < 0.002


def test_users_are_drawn_with_all_of_their_targets():
    """Against resampling whole users in a loop; and the same value twice per user adds nothing."""
    generator = np.random.default_rng(2)
    users = np.repeat([f"u{user}" for user in range(60)], generator.integers(1, 9, 60))
    level = generator.random(60)[[int(name[1:]) for name in users]]  # users are alike in themselves
    values = (generator.random(len(users)) < level).astype(np.float32)
    own = [values[users == name] for name in dict.fromkeys(users)]
    means = [np.concatenate([own[n] for n in generator.integers(0, 60, 60)]).mean() for _ in range(4000)]
    found = bootstrap_interval(values, seed=0, samples=4000, users=users.tolist())
    assert found == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)
    narrow = bootstrap_interval(values, seed=0, samples=4000)
    assert found[1] - found[0] > 1.2 * (narrow[1] - narrow[0])
    once = np.float32([0, 1, 0.5, 0.25, 1])
    twice = bootstrap_interval(np.repeat(once, 2), seed=1, users=np.repeat(list("abcde"), 2).tolist())
    assert twice == pytest.approx(bootstrap_interval(once, seed=1))


def test_means_are_of_doubles():
    assert aggregate(np.array([1, 1, 1, 1, 1, 0]), (10,), ("recall",)) == {"recall@10": 5 / 6}


def test_a_users_targets_count_as_targets():
    """Two users with ten hits each and twenty with one miss: half of the targets are hits, an eleventh of the users."""
    users = [f"often {target // 10}" for target in range(20)] + [f"once {user}" for user in range(20)]
    low, high = bootstrap_interval(np.repeat([1.0, 0.0], 20), seed=0, users=users)
    assert low < 0.5 < high
    assert high > 0.6
