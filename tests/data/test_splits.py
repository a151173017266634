from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bbqrec_cli.data.splits import PAD, pad, split_of
from bbqrec_cli.records import Sequences

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
    assert lists(split.validation.histories) == [[10, 11, 12], [20]]
    assert split.validation.targets.tolist() == [13, 21]
    assert lists(split.test.histories) == [[10, 11, 12, 13], [20, 21]]  # the validation item belongs to it
    assert split.test.targets.tolist() == [14, 22]


def test_histories_are_the_last_ones():
    split = split_of(Sequences.from_lists([list(range(50)), [50, 51, 52]]))
    assert lists(split.validation.histories) == [list(range(28, 48)), [50]]  # 20 of them (paper, section 5.1)
    assert lists(split.test.histories) == [list(range(29, 49)), [50, 51]]
    assert split.test.histories.shape == (2, 20)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(1, 8))
def test_agrees_with_slices(rows, history):
    split = split_of(Sequences.from_lists(rows), history=history)
    long = [row for row in rows if len(row) >= 3]
    assert [row.tolist() for row in split.train] == [row[:-2] if len(row) >= 3 else row for row in rows]
    assert lists(split.validation.histories) == [row[:-2][-history:] for row in long]
    assert lists(split.test.histories) == [row[:-1][-history:] for row in long]
    assert split.validation.targets.tolist() == [row[-2] for row in long]
    assert split.test.targets.tolist() == [row[-1] for row in long]
    assert split.test.users.tolist() == [user for user, row in enumerate(rows) if len(row) >= 3]


def test_every_other_user():
    split = split_of(Sequences.from_lists([[1, 2, 3], [4, 5, 6], [7, 8, 9]]))
    half = split.test.every(2)
    assert (half.users.tolist(), half.targets.tolist()) == ([0, 2], [3, 9])
    assert lists(half.histories) == [[1, 2], [7, 8]]


def test_pad():
    assert pad([[1, 2, 3], [4], []], history=2).tolist() == [[2, 3], [4, PAD], [PAD, PAD]]
    assert pad([]).shape == (0, 1)
