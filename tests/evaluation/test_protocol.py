"""The protocol against a brute-force evaluator: one user at a time, every item scored, sorted in Python."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import new_model

from bbqrec_cli import hdf5
from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import HISTORY, PAD
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.base import Recommender, Wanted, check_answer
from bbqrec_cli.records import Catalogue, Codes, Sequences, TrainedModel
from bbqrec_cli.stages.evaluate import EvaluateConfig, run

ITEMS, USERS, LONGEST = 15, 40, 30
MODELS = ("sasrec", "bbqrec", "tiger")
KS = (1, 5, ITEMS)
SMALL = {"width": 8, "layers": 1, "heads": 2}
HISTORIES = (5, 25)
"""A shorter one than the protocol's, and a longer one."""


@pytest.fixture(scope="module")
def shared_ids() -> Codes:
    """Semantic IDs of two levels and two signals; the items 2, 7 and 11 share one, 4 and 5 another."""
    rng = np.random.default_rng(0)
    codes = np.stack([np.arange(ITEMS) % 4, np.arange(ITEMS) // 4], axis=1)[:, :, None].repeat(2, axis=2)
    codes[:, :, 1] = rng.permutation(4)[codes[:, :, 1]]
    codes[[7, 11]], codes[5] = codes[2], codes[4]
    return Codes(
        codes=codes.astype(np.uint16), modalities=("id", "text"), method="test", codebook_size=4,
        codebooks=rng.standard_normal((1, 2, 4, 3)).astype(np.float32),
        item_vectors=rng.standard_normal((ITEMS, 6)).astype(np.float32),
    )  # fmt: skip


@pytest.fixture(scope="module")
def walks() -> Catalogue:
    """Sequences of 1 to 30 items at random, so that some are not evaluated and some are longer than a history."""
    rng = np.random.default_rng(1)
    made = [rng.integers(0, ITEMS, rng.integers(1, LONGEST + 1)).tolist() for _ in range(USERS)]
    assert min(map(len, made)) < 3
    assert sum(len(walk) > 22 for walk in made) > 5
    return Catalogue(
        user_ids=[f"u{user}" for user in range(USERS)], item_ids=[f"i{item}" for item in range(ITEMS)],
        titles=[""] * ITEMS, sequences=Sequences.from_lists(made),
    )  # fmt: skip


@pytest.fixture(scope="module", params=[*MODELS, *(f"sasrec {length}" for length in HISTORIES)])
def model(request, shared_ids) -> tuple[str, Recommender]:
    """With large random weights, so that every history has an order of its own."""
    torch.manual_seed(0)
    name, _, history = request.param.partition(" ")
    made = new_model(name, ITEMS, shared_ids, **SMALL, history=int(history or HISTORY)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(5).add_(0.3 * torch.randn_like(parameter))
    return name, made


@pytest.fixture
def path(model, walks, shared_ids, tmp_path) -> Path:
    name, made = model
    weights = {key: value.numpy() for key, value in made.state_dict().items()}
    trained = TrainedModel(
        catalogue=walks,
        name=name,
        settings=SMALL | {"history": made.history},
        weights=weights,
        codes=shared_ids if "codes" in made.needs else None,
    )
    hdf5.write_model(tmp_path / "model.h5", trained, config={})
    return tmp_path / "model.h5"


@torch.no_grad()
def ranking(model: Recommender, history: list[int]) -> list[int]:
    """All items, best first; those of one score, which share an ID, in the order of their rows."""
    items = torch.tensor([history])
    batch = Batch(items, torch.full_like(items, PAD))
    by_codes = "codes" in model.needs
    scores = model.score_all(batch)[0] if by_codes else model.table.weight @ model.states(batch)[0, -1]
    return sorted(range(ITEMS), key=lambda item: (-round(float(scores[item]), 5), item))


@pytest.mark.parametrize(("split", "back"), [("test", 1), ("validation", 2)])
def test_every_users_rank(model, path, walks, split, back, tmp_path):
    """A beam as wide as the catalogue is the exact scorer; the test history ends with the validation item."""
    config = EvaluateConfig(
        model=path, output=tmp_path / "m.h5", split=split, k=KS, beam=ITEMS, batch_size=7, device="cpu",
        precision="fp32",
    )  # fmt: skip
    result, expected, users = run(config), [], []
    for user, sequence in zip(walks.user_ids, walks.sequences, strict=True):
        if len(sequence) < 3:
            continue
        before = sequence.tolist()[:-back]
        expected.append(1 + ranking(model[1], before[-model[1].history :]).index(int(sequence[-back])))
        users.append(user)
    made = hdf5.read_metrics(config.output)
    assert made.user_ids == users
    assert made.ranks.tolist() == expected
    for k in KS:
        gains = [1 / math.log2(1 + rank) if rank <= k else 0.0 for rank in expected]
        assert result.aggregates[f"recall@{k}"] == pytest.approx(sum(rank <= k for rank in expected) / len(users))
        assert result.aggregates[f"ndcg@{k}"] == pytest.approx(sum(gains) / len(users), abs=1e-6)


@pytest.mark.parametrize(("split", "back"), [("test", 1), ("validation", 2)])
def test_seen_items_are_left_out_and_the_target_never(model, path, walks, split, back, tmp_path):
    """Of the whole history, longer ones than the model sees included; walks at random repeat items all the time."""
    config = EvaluateConfig(
        model=path, output=tmp_path / "m.h5", split=split, k=(5, ITEMS), beam=ITEMS, batch_size=7, device="cpu",
        precision="fp32", exclude_seen=True,
    )  # fmt: skip
    result, expected, lists, repeated = run(config), [], [], 0
    for sequence in walks.sequences:
        if len(sequence) < 3:
            continue
        before, target = sequence.tolist()[:-back], int(sequence[-back])
        repeated += target in before
        left = [item for item in ranking(model[1], before[-model[1].history :]) if item == target or item not in before]
        expected.append(1 + left.index(target))
        lists.append(left)
    assert repeated > 5
    made = hdf5.read_metrics(config.output)
    assert made.ranks.tolist() == expected
    assert made.exclude_seen
    assert made.history_length.tolist() == [len(each) - back for each in walks.sequences if len(each) >= 3]
    train = [item for each in walks.sequences for item in each[: -2 if len(each) >= 3 else None]]
    counts = np.bincount(train, minlength=ITEMS)
    shown = [item for left in lists for item in left[:5]]
    assert result.lists["coverage@5"] == pytest.approx(len(set(shown)) / ITEMS)
    assert result.lists["popularity@5"] == pytest.approx(np.mean([counts[item] for item in shown]))
    assert result.aggregates[f"mrr@{ITEMS}"] == pytest.approx(np.mean([1 / rank for rank in expected]), abs=1e-6)


@pytest.mark.parametrize("model", ["bbqrec", "tiger"], indirect=True)
def test_colliding_items_take_consecutive_ranks_whichever_is_the_target(model, walks, shared_ids, tmp_path):
    """One user a target with the same history: the ranks are a permutation, and groups stand together, by row."""
    name, made = model
    history = [3, 9, 14]
    targets = [[*history, item] for item in range(ITEMS)]
    catalogue = dataclasses.replace(
        walks, user_ids=walks.user_ids[:ITEMS], sequences=Sequences.from_lists(targets)
    )  # fmt: skip
    weights = {key: value.numpy() for key, value in made.state_dict().items()}
    trained = TrainedModel(catalogue=catalogue, name=name, settings=SMALL, weights=weights, codes=shared_ids)
    hdf5.write_model(tmp_path / "m.h5", trained, config={})
    config = EvaluateConfig(model=tmp_path / "m.h5", output=tmp_path / "o.h5", k=(ITEMS,), beam=ITEMS, device="cpu")
    run(config)
    ranks = hdf5.read_metrics(config.output).ranks.tolist()
    assert sorted(ranks) == list(range(1, ITEMS + 1))
    assert ranks[7] == ranks[2] + 1
    assert ranks[11] == ranks[2] + 2
    assert ranks[5] == ranks[4] + 1


def test_what_is_below_the_depth_has_no_rank(model, path, tmp_path):
    whole = EvaluateConfig(model=path, output=tmp_path / "a.h5", k=(ITEMS,), beam=ITEMS, device="cpu", precision="fp32")
    run(whole)
    run(dataclasses.replace(whole, output=tmp_path / "b.h5", k=(3,)))
    ranks, cut = (hdf5.read_metrics(tmp_path / name).ranks for name in ("a.h5", "b.h5"))
    np.testing.assert_array_equal(cut, np.where(ranks <= 3, ranks, 0))


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([[1, 2], [3, 4]], r"an array \(2, 2\) of items; \(2, 3\) is needed"),
        ([[1, 2, 1], [3, 4, 5]], "an item twice to one user"),
        ([[1, 2, -2], [3, 4, 5]], "rows that no item has, from -2 to 5"),
        ([[1, 2, 3], [3, 4, 12]], "rows that no item has, from 1 to 12"),
        ([[1.0, 2, 3], [3, 4, 5]], r"items of the type torch.float32; integers are needed"),
        ([[1, 2, 3], [3, 4, 0]], "items that are not among those that are allowed"),
        ([[1, 2, 3], [3, 4, 7]], "items that are left out of a user's ranking"),
        ([[1, 2, PAD], [PAD, 4, 5]], "items behind places without one"),
    ],
)
def test_wrong_answers_of_ones_own_model_are_no_metrics(items, says):
    allowed = torch.ones(12, dtype=torch.bool)
    allowed[0] = False
    wanted = Wanted(k=3, allowed=allowed, exclude=torch.tensor([[8, 9], [7, PAD]]))

    def check(answer) -> None:
        check_answer(answer, object(), wanted, users=2, items=12)

    rows = torch.tensor(items)
    with pytest.raises(DataError, match=says):
        check((rows, torch.zeros(rows.shape)))
    right = torch.tensor([[1, PAD, PAD], [2, 1, 11]])
    check((right, torch.tensor([[0.5, math.nan, -math.inf], [3.0, 2.0, 1.0]])))
    for wrong, what in (
        ((right, torch.full((2, 3), math.nan)), "scores that are not numbers"),
        ((right, torch.tensor([[0.5, 0, 0], [1.0, 2.0, 1.0]])), "items that are not sorted by their scores, the best"),
        ((right, torch.zeros(2)), r"an array \(2,\) of scores"),
        (right, "something else than a tuple of two tensors"),
        ((right.numpy(), right.numpy()), "something else than a tuple of two tensors"),
        (None, "something else than a tuple of two tensors"),
    ):
        with pytest.raises(DataError, match=f"the model object recommends {what}"):
            check(wrong)
