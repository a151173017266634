"""Every interaction gets an item of its own, so that wherever an item turns up, it says whose and which it is."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bbqrec_cli.data.batches import Batch, ClozeBatches, PrefixBatches, WindowBatches, held_out_batches
from bbqrec_cli.data.splits import PAD, split_of
from bbqrec_cli.records import Sequences

LENGTHS = st.lists(st.integers(0, 30), max_size=8)
BOTH = pytest.mark.parametrize("kind", [WindowBatches, PrefixBatches])


def numbered(lengths: list[int]) -> Sequences:
    """Users of these lengths; the items are 0, 1, 2, … through all of them."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(int)
    return Sequences.from_lists([list(range(a, b)) for a, b in pairwise(starts)])


def asked(batch: Batch) -> list[tuple[list[int], int]]:
    """(what the model may see, target) of every target in the batch, after checking the padding."""
    assert batch.items.dtype == batch.targets.dtype == torch.int64
    assert batch.items.shape == batch.targets.shape
    found = []
    for items, targets, length in zip(
        batch.items.tolist(), batch.targets.tolist(), batch.lengths.tolist(), strict=True
    ):
        assert length > 0
        assert PAD not in items[:length]
        assert set(items[length:]) | set(targets[length:]) <= {PAD}
        found += [(items[: at + 1], target) for at, target in enumerate(targets) if target != PAD]
    return found


@BOTH
@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, batch_size=st.integers(1, 9), history=st.integers(1, 7), epoch=st.integers(0, 3))
def test_every_target_once_and_after_its_own_history(kind, lengths, batch_size, history, epoch):
    """In training, all items but a user's first are targets; before a target stand the items just before it."""
    train = numbered(lengths)
    batches = kind(train, batch_size=batch_size, seed=3, history=history)
    pairs = [pair for batch in batches.epoch(epoch) for pair in asked(batch)]
    firsts = set(train.indptr[:-1].tolist())
    assert sorted(target for _, target in pairs) == [item for item in train.items.tolist() if item not in firsts]
    assert batches.targets == len(pairs)
    owner = np.repeat(np.arange(len(train)), train.lengths)
    for seen, target in pairs:
        assert 1 <= len(seen) <= history
        assert seen == list(range(target - len(seen), target))
        assert owner[seen[0]] == owner[target]


@BOTH
@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, history=st.integers(1, 7))
def test_held_out_interactions_are_in_no_training_batch(kind, lengths, history):
    split = split_of(numbered(lengths), history=history)
    held = {*split.validation.targets.tolist(), *split.test.targets.tolist()}
    assert len(held) == 2 * sum(length >= 3 for length in lengths)
    for epoch in range(3):
        for batch in kind(split.train, batch_size=3, seed=0, history=history).epoch(epoch):
            assert not held & {*batch.items.ravel().tolist(), *batch.targets.ravel().tolist()}


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, history=st.integers(1, 7))
def test_a_prefix_sample_asks_for_one_target_with_all_the_history_there_is(lengths, history):
    train = numbered(lengths)
    batches = PrefixBatches(train, batch_size=4, seed=0, history=history).epoch(0)
    first = np.repeat(train.indptr[:-1], train.lengths)
    for batch in batches:
        pairs = asked(batch)
        assert len(pairs) == len(batch.items)
        for seen, target in pairs:
            assert len(seen) == min(history, target - first[target])


def test_windows_meet_elsewhere_each_epoch():
    """One user of 100 items: over the epochs an item is predicted from short and from long histories."""
    batches = WindowBatches(numbered([100]), batch_size=2, seed=0, history=10)
    lengths = [
        len(seen) for epoch in range(40) for b in batches.epoch(epoch) for seen, target in asked(b) if target == 50
    ]
    assert set(lengths) == set(range(1, 11))
    assert max(Counter(lengths).values()) < 15


@BOTH
def test_an_epoch_is_the_same_whenever_asked(kind):
    train = numbered([9, 30, 4, 17, 2] * 8)

    def epoch(number: int, seed: int = 1) -> list[list[list[int]]]:
        batches = kind(train, batch_size=6, seed=seed, history=5)
        if number:
            batches.epoch(0)  # asking for another one first must not matter
        return [batch.items.tolist() for batch in batches.epoch(number)]

    assert epoch(2) == epoch(2)
    assert epoch(2) != epoch(3)
    assert epoch(2) != epoch(2, seed=2)


def test_windows_hold_about_as_many_targets_each():
    """So the mean loss of a batch weighs targets nearly alike; and rows of like length are together."""
    train = numbered(np.random.default_rng(0).integers(2, 40, 400).tolist())
    batches = WindowBatches(train, batch_size=32, seed=0, history=20).epoch(0)
    sizes = [int(batch.mask.sum()) for batch in batches]
    assert max(sizes) < 1.3 * np.mean(sizes)
    lengths = np.concatenate([batch.lengths.numpy() for batch in batches])
    mixed = np.random.default_rng(0).permutation(lengths)
    at_random = sum(len(part) * part.max() for part in np.array_split(mixed, len(batches)))
    padding, at_random = (cells - sum(sizes) for cells in (sum(b.items.numel() for b in batches), at_random))
    assert padding < 0.5 * at_random


@BOTH
def test_nobody_to_train_on(kind):
    for lengths in ([], [0], [1, 1]):
        batches = kind(numbered(lengths), batch_size=2, seed=0)
        assert (batches.targets, len(batches.epoch(0))) == (0, 0)


def test_held_out_users_come_once_with_their_own_history():
    split = split_of(numbered([3, 30, 5, 2, 9]))
    rows = []
    for these, batch in held_out_batches(split.test, batch_size=2):
        rows += these.tolist()
        for row, (seen, target) in zip(these, asked(batch), strict=True):
            assert target == split.test.targets[row]
            assert seen == [item for item in split.test.read()[row].tolist() if item != PAD]
    assert sorted(rows) == [0, 1, 2, 3]


def test_to_a_device():
    batch = Batch(torch.tensor([[4, PAD]]), torch.tensor([[5, PAD]])).to(torch.device("meta"))
    assert batch.items.device.type == batch.targets.device.type == "meta"


def test_cloze_batches_hide_items_and_ask_for_them():
    train, mask = numbered([2, 5, 9, 30, 1, 3]), 999
    batches = ClozeBatches(train, batch_size=3, seed=0, mask=mask, history=6, share=0.3)
    assert batches.targets == 5, "one user has a single item"
    hidden, asked_last, items = 0, 0, 0
    for epoch in range(40):
        found = set()
        for batch in batches.epoch(epoch):
            real = batch.items != PAD
            asked = batch.targets != PAD
            assert torch.equal(batch.items == mask, asked)
            assert asked.any(1).all()
            whole = torch.where(asked, batch.targets, batch.items)
            for row, length in zip(whole.tolist(), real.sum(1).tolist(), strict=True):
                user = next(each.tolist() for each in train if row[0] in each.tolist())
                assert row[:length] == user[user.index(row[0]) :][:length]
                assert 2 <= length <= 7, "what is seen when recommending, and the mask"
                found |= set(row[:length])
            items += int(real.sum())
            hidden += int(asked.sum())
            asked_last += int(asked.gather(1, real.sum(1, keepdim=True) - 1).sum())
        assert found == set(train.items.tolist()) - {46}, "all but the single item"
    assert 0.3 < hidden / items < 0.4, "the share, and one where none was drawn"
    assert asked_last < hidden
    again, other = (ClozeBatches(train, batch_size=3, seed=seed, mask=mask, history=6) for seed in (0, 1))
    first = [batch.items for batch in again.epoch(3)]
    assert all(torch.equal(a, b.items) for a, b in zip(first, again.epoch(3), strict=True))
    assert any(a.shape != b.items.shape or not torch.equal(a, b.items) for a, b in zip(first, other.epoch(3)))  # noqa: B905


def test_cloze_batches_can_ask_for_the_last_item_alone():
    batches = ClozeBatches(numbered([4, 7, 5]), batch_size=3, seed=0, mask=99, last=1.0)
    for batch in batches.epoch(0):
        asked = batch.targets != PAD
        assert (asked.sum(1) == 1).all()
        assert asked.gather(1, (batch.items != PAD).sum(1, keepdim=True) - 1).all()


@BOTH
def test_batches_are_made_when_they_are_looked_up(kind, monkeypatch):
    """An epoch of millions of users is not a list of all its batches."""
    batches = kind(numbered([5] * 20), batch_size=4, seed=0)
    made = []
    build = kind._batch
    monkeypatch.setattr(kind, "_batch", lambda self, *rest: made.append(1) or build(self, *rest))
    epoch = batches.epoch(0)
    assert (len(epoch) > 3, made) == (True, [])
    assert torch.equal(epoch[1].items, epoch[1].items)
    assert len(made) == 2


def test_a_batch_across_two_pools_has_little_padding_too():
    """Batches are cut by their numbers of targets, wherever that is in the pools of similar lengths."""
    lengths = np.random.default_rng(0).integers(2, 21, 4000).tolist()
    batches = WindowBatches(numbered(lengths), batch_size=16, seed=0).epoch(0)
    assert len(batches) == 250  # in pools of 32
    assert max(batch.items.numel() / int(batch.mask.sum()) for batch in batches) < 3


def test_prefix_batches_hold_as_many_samples_each_and_little_padding():
    train = numbered(list(range(2, 32)) * 10)
    batches = PrefixBatches(train, batch_size=16, seed=0, history=20)
    epoch = batches.epoch(1)
    sizes = sorted(len(batch.items) for batch in epoch)
    assert sizes[1:] == [16] * (len(sizes) - 1)
    assert sum(sizes) == batches.targets
    pairs = [pair for batch in epoch for pair in asked(batch)]
    other = [pair for b in batches.epoch(2) for pair in asked(b)]
    assert sorted(pairs) == sorted(other)
    assert sum(batch.items.numel() for batch in epoch) < 1.1 * sum(len(seen) for seen, _ in pairs)
