from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models import united
from bbqrec_cli.models.base import Untrained, Wanted, top_items
from bbqrec_cli.models.united import United, fused, last_items, longer


class Scores(Untrained):
    """Scores of 90 items that depend on the whole history that it is shown, which it keeps."""

    def __init__(self, seed: int, history: int) -> None:
        super().__init__()
        self.history = history
        weights = torch.rand(90, 90, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("weights", weights)

    def recommend(self, batch, wanted):
        self.shown, self.wanted = batch, wanted
        one_hot = torch.nn.functional.one_hot(batch.items.clamp(min=0), 90) * batch.mask.unsqueeze(2)
        return top_items(one_hot.sum(1).float() @ self.weights, wanted)


def batch_of(*histories: list[int]) -> Batch:
    items = torch.full((len(histories), max(map(len, histories))), PAD)
    for row, history in enumerate(histories):
        items[row, : len(history)] = torch.tensor(history)
    return Batch(items, torch.full_like(items, PAD))


@pytest.mark.parametrize("models", [2, 3])
def test_fused_against_exact_sums(models):
    """Sums of fractions, item by item; equal ones in the order of the rows."""
    generator = torch.Generator().manual_seed(models)
    lists = [torch.stack([torch.randperm(12, generator=generator)[:8] for _ in range(20)]) for _ in range(models)]
    lists[0][3, 5:] = PAD  # fewer were left
    items, scores = fused(lists, [50] * len(lists), 10)
    for user in range(20):
        sums: dict[int, Fraction] = {}
        for each in lists:
            for place, item in enumerate(each[user].tolist()):
                if item != PAD:
                    sums[item] = sums.get(item, Fraction(0)) + Fraction(1, 61 + place)
        order = sorted(sums, key=lambda item: (-sums[item], item))[:10]
        assert items[user].tolist() == order + [PAD] * (10 - len(order))
        expected = torch.tensor([float(sums[item]) for item in order])
        torch.testing.assert_close(scores[user, : len(order)], expected)
        assert scores[user, len(order) :].isneginf().all()


def test_equal_sums_in_another_order_are_equal():
    """Items 3 and 7 have the ranks 34, 4, 10, 8 and 10, 8, 34, 4."""
    lists = torch.arange(100, 140).repeat(4, 1)
    for item, ranks in ((3, (10, 8, 34, 4)), (7, (34, 4, 10, 8))):
        for each, rank in zip(lists, ranks, strict=True):
            each[rank - 1] = item
    items, scores = fused([each.unsqueeze(0) for each in lists], [50] * len(lists), 40)
    places = [items[0].tolist().index(item) for item in (3, 7)]
    assert places[1] == places[0] + 1
    assert scores[0, places[0]] == scores[0, places[1]]


class Searching(Scores):
    """Finds others the wider its beam is, as a generator may."""

    def recommend(self, batch, wanted):
        items, scores = super().recommend(batch, wanted)
        return items.roll(max(wanted.beam or 0, wanted.k), 1), scores


@pytest.mark.parametrize(("k", "beam", "asked"), [
    (10, 20, 20), (10, 50, 50), (10, 0, 50), (10, None, 50), (10, 5, 10), (10, 80, 50), (50, 20, 50),
])  # fmt: skip
def test_how_many_items_each_model_is_asked_for(k, beam, asked, monkeypatch):
    """Only a generator has a beam."""
    monkeypatch.setattr(united, "SemanticIDGenerator", Searching)
    every = [Scores(0, history=2), Searching(1, history=2)]
    United(every).recommend(batch_of([1]), Wanted(k=k, beam=beam))
    assert [model.wanted.k for model in every] == [50, asked]
    assert all(model.wanted.beam == beam for model in every)


@pytest.mark.parametrize("beam", [5, 20])
def test_the_first_places_do_not_depend_on_k_with_a_narrow_beam(beam, monkeypatch):
    monkeypatch.setattr(united, "SemanticIDGenerator", Searching)
    both, batch = United([Searching(0, history=3), Scores(1, history=3)]), batch_of([4, 3, 2], [5])
    first = both.recommend(batch, Wanted(k=3, beam=beam))[0]
    for k in (5, 8, 30, 60):
        assert torch.equal(both.recommend(batch, Wanted(k=k, beam=beam))[0][:, :3], first)


@pytest.mark.parametrize("beam", [None, 20])
def test_a_wider_search_changes_nothing_before(beam, monkeypatch):
    """Asked for more than 50, each list goes on behind its first 50."""
    monkeypatch.setattr(united, "SemanticIDGenerator", Searching)
    both, batch = United([Searching(0, history=3), Scores(1, history=3)]), batch_of([4, 3, 2], [5])
    short = both.recommend(batch, Wanted(k=50, beam=beam))[0]
    for k in (51, 70, 90):
        long = both.recommend(batch, Wanted(k=k, beam=beam))[0]
        assert torch.equal(long[:, :50], short)
        assert all(len(set(user)) == k for user in long.tolist())


def test_longer():
    best, more = torch.tensor([[3, 1], [4, PAD]]), torch.tensor([[1, 2, 3, 5], [4, PAD, PAD, PAD]])
    assert longer(best, more).tolist() == [[3, 1, 2, 5, PAD, PAD], [4, PAD, PAD, PAD, PAD, PAD]]


def test_what_is_best_does_not_depend_on_how_much_is_asked_for():
    """Beyond the first 50 of every list come the others, in the order of their own ranks."""
    both, batch = United([Scores(0, history=3), Scores(1, history=3)]), batch_of([4, 3, 2], [5])
    lists = [model.recommend(batch, Wanted(k=90))[0] for model in both.models]
    short, points = both.recommend(batch, Wanted(k=10))
    for k in (51, 70, 90):
        long, more = both.recommend(batch, Wanted(k=k))
        assert torch.equal(long[:, :10], short)
        torch.testing.assert_close(more[:, :10], points)
        for user in range(2):
            first = {item for each in lists for item in each[user, :50].tolist()}
            rest = long[user, len(first) :].tolist()
            assert first == set(long[user, : len(first)].tolist()) or k < len(first)
            sums = {item: sum(1 / (61 + each[user].tolist().index(item)) for each in lists) for item in rest}
            if k == 90:
                assert rest == sorted(sums, key=lambda item: -sums[item])


def test_one_list_keeps_its_order():
    lists = torch.tensor([[7, 2, 5], [1, PAD, PAD]])
    items, _ = fused([lists], [50], 4)
    assert items.tolist() == [[7, 2, 5, PAD], [1, PAD, PAD, PAD]]


def test_each_model_sees_its_own_history_and_the_wishes():
    short, long = Scores(0, history=2), Scores(1, history=4)
    both = United([short, long])
    assert both.history == 4
    exclude = torch.tensor([[1, 2, PAD], [5, PAD, PAD]])
    allowed = torch.ones(90, dtype=torch.bool)
    allowed[30:] = False
    wanted = Wanted(k=10, beam=7, exclude=exclude, allowed=allowed)
    items, scores = both.recommend(batch_of([4, 3, 2, 1], [5]), wanted)
    assert short.shown.items.tolist() == [[2, 1], [5, PAD]]
    assert long.shown.items.tolist() == [[4, 3, 2, 1], [5, PAD, PAD, PAD]]
    assert (short.wanted.k, short.wanted.beam) == (50, 7)
    assert items.shape == scores.shape == (2, 10)
    assert not {1, 2} & set(items[0].tolist())
    assert 5 not in items[1].tolist()
    assert items.max() < 30
    lists = [model.recommend(last_items(batch_of([4, 3, 2, 1], [5]), model.history), short.wanted)[0]
             for model in (short, long)]  # fmt: skip
    assert torch.equal(items, fused(lists, [50] * len(lists), 10)[0])
    assert both.recommend(batch_of([1]), Wanted(k=80))[0].shape == (1, 80)
