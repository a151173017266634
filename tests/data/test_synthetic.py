from __future__ import annotations

import numpy as np
import pytest

from bbqrec_cli.data.sources.options.synthetic import SyntheticOptions
from bbqrec_cli.data.sources.synthetic import Synthetic, word
from bbqrec_cli.errors import UsageError
from bbqrec_cli.hdf5 import describe
from bbqrec_cli.progress import SILENT


def made(seed=0, **options):
    source = Synthetic([], SyntheticOptions(**options), seed=seed, progress=SILENT)
    return source, source.interactions()


def test_sizes_and_seeds():
    _, first = made(users=3000, items=200)
    _, again = made(users=3000, items=200)
    _, other = made(users=3000, items=200, seed=1)
    assert len(first.user_ids) == 3000
    assert np.array_equal(first.users, again.users)
    assert np.array_equal(first.items, again.items)
    assert not np.array_equal(first.items[:1000], other.items[:1000])
    assert len(first.items) / 3000 == pytest.approx(10, abs=0.2)
    assert np.bincount(first.users).min() >= 1
    assert np.bincount(first.items).min() >= 1  # items without interactions are left out
    assert (np.diff(first.users) >= 0).all()


def test_the_planted_transition():
    """How often an item follows another is p(j | c) of the module's documentation, computed here item by item."""
    source, interactions = made(users=20_000, items=60, follow=0.6, cluster_size=15)
    names = np.array([int(name[1:]) - 1 for name in interactions.item_ids])
    clusters, weights = source._cluster, np.diff(source._upto)
    assert np.bincount(clusters).tolist() == [15, 15, 15, 15]
    assert sorted(weights, reverse=True) == pytest.approx([1 / rank for rank in range(1, 61)])
    within = interactions.users[1:] == interactions.users[:-1]
    before, after = names[interactions.items[:-1]][within], names[interactions.items[1:]][within]
    for cluster in range(4):
        chances = np.array([0.4 * weights[j] / weights.sum() for j in range(60)])
        members = clusters == (cluster + 1) % 4
        chances[members] += 0.6 * weights[members] / weights[members].sum()
        seen = np.bincount(after[clusters[before] == cluster], minlength=60)
        error = np.sqrt(chances * (1 - chances) / seen.sum())
        assert (abs(seen / seen.sum() - chances) < 5 * error).all()


def test_what_a_perfect_model_reaches():
    """By the definition: ranks by p(j | c), of the items that do follow. Its mean is within 4 standard errors."""
    source, interactions = made(users=20_000, items=300, follow=0.7)
    weights, clusters = np.diff(source._upto), source._cluster
    names = np.array([int(name[1:]) - 1 for name in interactions.item_ids])
    last = np.cumsum(np.bincount(interactions.users)) - 1
    last = last[np.bincount(interactions.users) >= 3]
    ranks = []
    for place in last:
        following = (clusters[names[interactions.items[place - 1]]] + 1) % source._clusters
        members = clusters == following
        chances = 0.3 * weights / weights.sum() + np.where(members, 0.7 * weights / weights[members].sum(), 0)
        ranks.append(int((chances > chances[names[interactions.items[place]]]).sum()) + 1)
    found = np.array(ranks)
    for k in (5, 10):
        recall, ndcg = found <= k, np.where(found <= k, 1 / np.log2(found + 1), 0)
        for name, values in (("recall", recall), ("ndcg", ndcg)):
            assert source.about["planted"][f"{name}@{k}"] == pytest.approx(
                values.mean(), abs=4 * values.std() / len(found) ** 0.5
            )


def test_markov_beats_popularity_and_stays_below_what_is_planted(bbqrec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    import json

    bbqrec("prepare", "synthetic", "--users", 3000, "--items", 200, "--text", "-o", "s.h5")
    planted = describe(tmp_path / "s.h5")["config"]["planted"]
    found = {}
    for model in ("markov", "popularity"):
        bbqrec("train", "s.h5", "--model", model, "-o", f"{model}.h5")
        found[model] = json.loads(bbqrec("evaluate", f"{model}.h5", "-o", f"{model}-m.h5", "--json").out)
    for name in ("recall@10", "ndcg@10"):
        assert found["popularity"][name] < 0.7 * found["markov"][name]
        assert 0.8 * planted[name] < found["markov"][name] < planted[name] + 0.03


def test_text_tells_the_cluster():
    source, interactions = made(users=500, items=100, text=True)
    fields = source.items(interactions.item_ids).fields
    clusters = [source._cluster[int(name[1:]) - 1] for name in interactions.item_ids]
    assert fields["category"] == [word(int(cluster)) for cluster in clusters]
    assert len(set(fields["title"])) == len(fields["title"])
    assert len({word(number) for number in range(20_000)}) == 20_000
    assert not made(users=500, items=100)[0].items(["i1"]).fields


def test_what_makes_no_sense(tmp_path):
    with pytest.raises(UsageError, match="takes no path"):
        Synthetic([tmp_path], SyntheticOptions(), seed=0, progress=SILENT)
    with pytest.raises(UsageError, match="30 items make fewer than two clusters of 20"):
        made(items=30)
