from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bbqrec_cli.data.batches import Batch, WindowBatches
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.records import Sequences
from bbqrec_cli.tokenizers.methods.bbqrec.alignment import SequenceAlignment, distinct_rows


def alignment(width: int = 8, *, temperature: float = 0.1, history: int = 10) -> SequenceAlignment:
    torch.manual_seed(0)
    made = SequenceAlignment(width, layers=2, heads=2, dropout=0.3, history=history, temperature=temperature)
    return made.eval()


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(rows: list[list[int]]) -> Batch:
    """Users' windows: every item but the last is history, every one but the first a target."""
    width = max(map(len, rows)) - 1
    items, targets = (torch.full((len(rows), width), PAD) for _ in range(2))
    for user, row in enumerate(rows):
        items[user, : len(row) - 1], targets[user, : len(row) - 1] = torch.tensor(row[:-1]), torch.tensor(row[1:])
    return Batch(items, targets)


windows = st.lists(st.lists(st.integers(0, 12), min_size=2, max_size=6), min_size=1, max_size=6)


@given(windows)
@settings(deadline=None)
def test_distinct_rows(rows):
    asked = batch(rows)
    found, position, target, count = distinct_rows(asked)
    items = found.tolist()
    targets = [item for row in rows for item in row[1:]]
    assert len(items) == len(set(items))
    assert set(items) == {item for row in rows for item in row}
    assert set(items[:count]) == set(targets)
    assert [items[at] for at in target.tolist()] == targets, "in the order in which `states` picks positions"
    assert position.shape == asked.items.shape
    for at, item in zip(position[asked.mask].tolist(), asked.items[asked.mask].tolist(), strict=True):
        assert items[at] == item
    assert (position[~asked.mask] == 0).all()


def test_distinct_rows_of_real_batches():
    generator = np.random.default_rng(0)
    walks = [generator.integers(0, 300, generator.integers(2, 40)).tolist() for _ in range(50)]
    for each in WindowBatches(Sequences.from_lists(walks), batch_size=16, seed=0).epoch(0):
        found, position, target, count = distinct_rows(each)
        assert torch.equal(found[target], each.targets[each.targets != PAD])
        assert torch.equal(found[position][each.mask], each.items[each.mask])
        assert target.max() == count - 1


def by_loop(states: torch.Tensor, vectors: torch.Tensor, targets: list[int], temperature: float) -> float:
    """Eq. 12 with a loop over positions and negatives. vectors (I, V); targets are items."""
    losses = []
    for state, positive in zip(states, targets, strict=True):
        negatives = {item for item in targets if item != positive}
        assert positive not in negatives

        def similarity(item: int, state: torch.Tensor = state) -> float:
            cosine = torch.dot(state, vectors[item]) / (state.norm() * vectors[item].norm())
            return math.exp(float(cosine) / temperature)

        others = sum(similarity(item) for item in negatives)
        losses.append(-math.log(similarity(positive) / (similarity(positive) + others)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_by_an_explicit_loop(temperature):
    rows = [[3, 1, 4, 1, 5], [9, 2, 6], [5, 3, 5, 8, 9, 7], [1, 1]]
    asked, vectors = batch(rows), random(10, 8)
    made = alignment(temperature=temperature)
    found, position, target, count = distinct_rows(asked)
    v = vectors[found]
    states = made.states(torch.where(asked.mask.unsqueeze(2), v[position], 0.0), asked)
    targets = [item for row in rows for item in row[1:]]
    assert len(states) == len(targets)
    expected = by_loop(states.detach(), vectors, targets, temperature)
    assert made.loss(states, v[:count], target).item() == pytest.approx(expected, rel=1e-4)


def test_states_stand_where_the_questions_are():
    """Each state is what the encoder says after the history up to it, alone in a batch."""
    rows, vectors, made = [[3, 1, 4, 1, 5], [9, 2], [5, 3, 5]], random(10, 8), alignment()
    asked = batch(rows)
    states = made.states(torch.where(asked.mask.unsqueeze(2), vectors[asked.items], 0.0), asked)
    prefixes = [row[:stop] for row in rows for stop in range(1, len(row))]
    for state, prefix in zip(states, prefixes, strict=True):
        torch.testing.assert_close(state, made.encoder(vectors[prefix].unsqueeze(0))[0, -1], rtol=1e-4, atol=1e-5)


def test_a_later_item_changes_no_earlier_state():
    made, vectors = alignment(), random(1, 6, 8)
    before = made.encoder(vectors)[0]
    for changed in range(6):
        other = vectors.clone()
        other[0, changed] = random(8, seed=2)
        after = made.encoder(other)[0]
        assert torch.equal(before[:changed], after[:changed])
        assert not torch.allclose(before[changed], after[changed], atol=1e-4)


def test_scores_are_cosines():
    states, candidates = random(4, 8), 7 * random(5, 8, seed=1)
    expected = torch.nn.functional.cosine_similarity(states.unsqueeze(1), candidates.unsqueeze(0), dim=2)
    torch.testing.assert_close(SequenceAlignment.scores(states, candidates), expected)


def test_rarity_makes_the_denominator_that_of_all_items():
    """Weighed by 1 / chance, the mean over all draws is the sum over all items: here all subsets, one by one."""
    states, vectors, made = random(3, 8), random(5, 8, seed=1), alignment()
    targets, chance = torch.tensor([0, 1, 0]), torch.tensor([1.0, 1.0, 0.5, 0.25, 0.8])
    mean = torch.zeros(3)
    for drawn in itertools.product([False, True], repeat=3):
        candidates = torch.tensor([0, 1, *(2 + number for number, here in enumerate(drawn) if here)])
        odds = math.prod(float(p if here else 1 - p) for p, here in zip(chance[2:], drawn, strict=True))
        for position in range(3):
            asked = states[position : position + 1], vectors[candidates], targets[position : position + 1]
            loss = made.loss(*asked, -chance[candidates].log())
            own = made.scores(*asked[:2])[0, targets[position]] / 0.1
            mean[position] += odds * (loss + own).exp()
    everything = (made.scores(states, vectors) / 0.1).exp().sum(1)
    torch.testing.assert_close(mean, everything, rtol=1e-4, atol=0)


def test_the_answer_is_weighed_as_it_is():
    """It is always there, however rarely it would be drawn."""
    states, vectors, made = random(1, 8), random(2, 8, seed=1), alignment()
    rarity = torch.tensor([50.0, 0.0])
    expected = torch.nn.functional.cross_entropy(made.scores(states, vectors) / 0.1, torch.tensor([0]))
    torch.testing.assert_close(made.loss(states, vectors, torch.tensor([0]), rarity), expected)


def test_either_encoder_reads_the_items_up_to_each_question():
    rows, vectors = [[3, 1, 3, 4, 1], [9, 2], [5, 3, 5]], random(10, 8)
    torch.manual_seed(0)
    made = SequenceAlignment(
        8, layers=1, heads=1, dropout=0.0, history=10, temperature=0.1, graph=True
    ).eval()  # fmt: skip
    asked = batch(rows)
    states = made.states(torch.where(asked.mask.unsqueeze(2), vectors[asked.items], 0.0), asked)
    prefixes = [row[:stop] for row in rows for stop in range(1, len(row))]
    for state, prefix in zip(states, prefixes, strict=True):
        alone = made.encoder(vectors[prefix].unsqueeze(0), torch.tensor([prefix]))[0, -1]
        torch.testing.assert_close(state, alone, rtol=1e-4, atol=1e-5)
