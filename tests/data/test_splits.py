from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbqrec_cli.data.leakage import check_held_out, trained_on, training_digests
from bbqrec_cli.data.splits import PAD, last_parts, pad, split_by_time, split_of
from bbqrec_cli.errors import DataError
from bbqrec_cli.records import Catalogue, Sequences, TrainedModel

TIMED = st.lists(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 30)), max_size=9), min_size=1, max_size=7)
"""Of each user (time, item); few times, so that many are equal."""
ROWS = st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=6)


def lists(rows: np.ndarray) -> list[list[int]]:
    """Padded rows without their padding, after checking that it stands on the right only."""
    found = []
    for row in rows.tolist():
        length = row.index(PAD) if PAD in row else len(row)
        assert set(row[length:]) <= {PAD}
        found.append(row[:length])
    return found


def test_by_hand():
    """Five users: 5, 3, 2, 0 and 1 items. Only the first two are evaluated; the others train with all they have."""
    rows = [[10, 11, 12, 13, 14], [20, 21, 22], [30, 31], [], [40]]
    times = [[user * 100 + n for n in range(len(row))] for user, row in enumerate(rows)]
    split = split_of(Sequences.from_lists(rows, times))
    assert [row.tolist() for row in split.train] == [[10, 11, 12], [20], [30, 31], [], [40]]
    assert split.train.timestamps.tolist() == [0, 1, 2, 100, 200, 201, 400]
    assert split.validation.users.tolist() == split.test.users.tolist() == [0, 1]
    assert lists(split.validation.read()) == [[10, 11, 12], [20]]
    assert split.validation.targets.tolist() == [13, 21]
    assert lists(split.test.read()) == [[10, 11, 12, 13], [20, 21]]  # the validation item belongs to it
    assert split.test.targets.tolist() == [14, 22]


def test_histories_are_the_last_ones():
    split = split_of(Sequences.from_lists([list(range(50)), [50, 51, 52]]))
    assert lists(split.validation.read()) == [list(range(28, 48)), [50]]  # 20 of them (paper, section 5.1)
    assert lists(split.test.read()) == [list(range(29, 49)), [50, 51]]
    assert split.test.read().shape == (2, 20)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(1, 8))
def test_agrees_with_slices(rows, history):
    split = split_of(Sequences.from_lists(rows), history=history)
    long = [row for row in rows if len(row) >= 3]
    assert [row.tolist() for row in split.train] == [row[:-2] if len(row) >= 3 else row for row in rows]
    assert lists(split.validation.read()) == [row[:-2][-history:] for row in long]
    assert lists(split.test.read()) == [row[:-1][-history:] for row in long]
    assert split.validation.targets.tolist() == [row[-2] for row in long]
    assert split.test.targets.tolist() == [row[-1] for row in long]
    assert split.test.users.tolist() == [user for user, row in enumerate(rows) if len(row) >= 3]


def test_every_other_user():
    split = split_of(Sequences.from_lists([[1, 2, 3], [4, 5, 6], [7, 8, 9]]))
    half = split.test.every(2)
    assert (half.users.tolist(), half.targets.tolist()) == ([0, 2], [3, 9])
    assert lists(half.read()) == [[1, 2], [7, 8]]


def test_pad():
    assert pad([[1, 2, 3], [4], []], history=2).tolist() == [[2, 3], [4, PAD], [PAD, PAD]]
    assert pad([]).shape == (0, 1)


def timed(rows) -> tuple[Sequences, list[list[int]], list[list[int]]]:
    rows = [sorted(row, key=lambda each: each[0]) for row in rows]
    times, items = ([[each[n] for each in row] for row in rows] for n in (0, 1))
    return Sequences.from_lists(items, times), times, items


def test_seven_tenths_of_ninety_are_sixty_three():
    """90 * .7 is 62.99… in floating point."""
    sequences = Sequences.from_lists([[item, item + 1] for item in range(90)], [[time, time] for time in range(90)])
    parts, splitting = split_by_time(sequences, (0.7, 0.9))
    assert splitting.cuts == (63, 81)
    assert np.bincount(parts).tolist() == [126, 36, 18]


@settings(max_examples=150, deadline=None)
@given(TIMED, st.integers(1, 6), st.sampled_from([(0.8, 0.9), (0.5, 0.75), (0.1, 0.2)]))
def test_time_agrees_with_loops(rows, history, quantiles):
    """The cuts by MiniOneRec's list of (history, target) samples, sorted by time; then each interaction, one by one."""
    sequences, times, items = timed(rows)
    samples = sorted(time for row in times for time in row[1:])
    cuts = [samples[int(len(samples) * share)] for share in quantiles] if samples else []
    train, validation, test = [], [], []
    for user, row in enumerate(items):
        train.append([])
        for place, item in enumerate(row):
            part = sum(times[user][place] >= cut for cut in cuts)
            if part == 0:
                train[-1].append(item)
            elif place:
                (validation if part == 1 else test).append((user, row[:place][-history:], item, place))
    trained = any(times[u][p] < cuts[0] for u, row in enumerate(items) for p in range(1, len(row))) if cuts else False
    if not (trained and validation and test):
        with pytest.raises(DataError, match="split time"):
            split_by_time(sequences, quantiles)
        return
    parts, splitting = split_by_time(sequences, quantiles)
    assert (splitting.kind, splitting.quantiles, splitting.cuts) == ("time", quantiles, tuple(cuts))
    split = split_of(dataclasses.replace(sequences, parts=parts), history=history)
    assert [row.tolist() for row in split.train] == train
    assert split.train.timestamps.max(initial=-1) < cuts[0]
    for held, expected in ((split.validation, validation), (split.test, test)):
        found = zip(held.users.tolist(), lists(held.read()), held.targets.tolist(), held.lengths.tolist(), strict=True)
        assert list(found) == expected
        for row, (user, _, target, place) in enumerate(expected):
            seen = [item for item in items[user][:place] if item != target]
            assert [item for item in held.seen(np.array([row]))[0].tolist() if item != PAD] == seen


def test_equal_times_fall_on_one_side():
    """Ten samples, all but one at time 5: the cut of 0.8 is there, and all nine are held out."""
    sequences = Sequences.from_lists([[0, 1], *[[0, 1]] * 9, [0, 1, 2]], [[0, 1], *[[0, 5]] * 9, [0, 7, 9]])
    parts, splitting = split_by_time(sequences, (0.8, 0.95))
    assert splitting.cuts == (5, 9)
    assert parts.tolist() == [0, 0, *[0, 1] * 9, 0, 1, 2]
    with pytest.raises(DataError, match="no interaction for validation"):
        split_by_time(sequences, (0.3, 0.8))  # both cuts are at 5


def test_time_needs_times():
    with pytest.raises(DataError, match="needs timestamps"):
        split_by_time(Sequences.from_lists([[1, 2, 3]]), (0.8, 0.9))


def test_the_parts_of_leave_last_out():
    sequences = Sequences.from_lists([[1, 2, 3, 4], [1, 2], [], [1, 2, 3]])
    assert last_parts(sequences).tolist() == [0, 0, 1, 2, 0, 0, 0, 1, 2]


def test_what_has_no_history_is_no_target():
    """User 0 comes after the cut: the first item is history, the second a target. User 1's one item is neither."""
    sequences = Sequences.from_lists([[1, 2, 3], [4], [5, 6, 7]])
    split = split_of(dataclasses.replace(sequences, parts=np.array([2, 2, 2, 1, 0, 0, 1], dtype=np.uint8)))
    assert [row.tolist() for row in split.train] == [[], [], [5, 6]]
    assert (split.test.users.tolist(), split.test.targets.tolist(), lists(split.test.read())) == (
        [0, 0],
        [2, 3],
        [[1], [1, 2]],
    )
    assert (split.validation.users.tolist(), split.validation.targets.tolist()) == ([2], [7])


def test_interactions_that_an_older_model_was_trained_on():
    """Two of three a's were trained on and one still is: one of the two that are held out now is a leak. The ids are in
    another order, and what only one of the files knows counts for nothing."""

    def made(users: list[str], items: list[str], walks: list[str]) -> Catalogue:
        rows = [[items.index(each) for each in walk] for walk in walks]
        return Catalogue(
            user_ids=users, item_ids=items, titles=[""] * len(items), sequences=Sequences.from_lists(rows)
        )  # fmt: skip

    old = made(["u", "v", "gone"], ["a", "b", "c", "d"], ["aabc", "abcd", "dddd"])  # trained on: aa, ab, dd
    new = made(["v", "u", "new"], ["e", "d", "c", "b", "a"], ["abcda", "aaa", "eed"])  # a v: abc|d|a, u: a|a|a
    assert trained_on(training_digests(old), new) == 1
    assert trained_on(training_digests(old), old) == trained_on(training_digests(new), new) == 0


def test_test_targets_that_an_older_model_was_chosen_by():
    """u's b: the old validation and the new test target. v took b before, so its test target b is no such one."""

    def made(walks: list[str], parts: list[list[int]]) -> Catalogue:
        sequences = Sequences.from_lists([["abc".index(each) for each in walk] for walk in walks])
        divided = dataclasses.replace(sequences, parts=np.concatenate(parts).astype(np.uint8))
        return Catalogue(user_ids=["u", "v"], item_ids=list("abc"), titles=[""] * 3, sequences=divided)

    old = made(["acb", "bab"], [[0, 0, 1], [0, 0, 1]])
    new = made(["acb", "babb"], [[0, 0, 2], [0, 0, 1, 2]])
    model = TrainedModel(catalogue=old, name="sasrec", settings={}, weights={}, history=[])
    with pytest.raises(DataError, match="new: 1 of its test targets are of the validation by which old was chosen"):
        check_held_out(model, new, name="old", where="new")
    # u took the b of its old validation before, too, and it is in both training parts.
    model = dataclasses.replace(model, catalogue=made(["abb", "bab"], [[0, 0, 1], [0, 0, 1]]))
    again = made(["abcb", "babb"], [[0, 0, 1, 2], [0, 0, 1, 2]])
    with pytest.raises(DataError, match="new: 1 of its test targets are of the validation by which old was chosen"):
        check_held_out(model, again, name="old", where="new")
    check_held_out(model, made(["abbc", "babc"], [[0, 0, 1, 2], [0, 0, 1, 2]]), name="old", where="new")
    model = dataclasses.replace(model, catalogue=old)
    later = made(["acbc", "babc"], [[0, 0, 1, 2], [0, 0, 1, 2]])
    check_held_out(model, later, name="old", where="new")


def test_times_must_be_in_order():
    with pytest.raises(DataError, match="in another order than their times"):
        split_by_time(Sequences.from_lists([[0, 1, 2], [0, 1]], [[5, 9, 7], [1, 2]]), (0.3, 0.8))
