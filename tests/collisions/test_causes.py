from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from bbqrec_cli.collisions.causes import causes


def test_by_hand():
    """Level 1: a parts {0, 1} from {2, 3}, b says nothing. Level 2: b parts 0 from 1, and nothing 2 from 3."""
    codes = np.array([[[0, 5], [1, 0]], [[0, 5], [1, 1]], [[1, 5], [1, 0]], [[1, 5], [1, 0]]])
    found = causes(codes, ("a", "b"))
    assert found.without_signal == {"a": 3, "b": 4}
    assert found.only_signal == {"a": 4, "b": 3}
    assert found.without_level == {"1": 3, "2": 4}
    told = {(p.level, p.signal): (p.sharing, p.pairs, p.parted, p.resolved, p.needed) for p in found.partings}
    assert told == {(1, "a"): (4, 6, 4, 0, 0), (1, "b"): (4, 6, 0, 0, 0),
                    (2, "a"): (4, 2, 0, 0, 0), (2, "b"): (4, 2, 1, 2, 2)}  # fmt: skip


def sharing(rows: list) -> set[int]:
    count = Counter(rows)
    return {place for place, row in enumerate(rows) if count[row] > 1}


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("lacking", [False, True])
def test_against_brute_force(levels, lacking):
    generator = np.random.default_rng(levels)
    codes = generator.integers(0, 3, (60, levels, 3)).astype(np.uint16)
    present = generator.random((60, 3)) < 0.8 if lacking else np.ones((60, 3), dtype=bool)
    signals = ("id", "text", "image")
    found = causes(codes, signals, present if lacking else None)
    rows = codes.tolist()
    for m, name in enumerate(signals):
        left = [str([[c for s, c in enumerate(level) if s != m] for level in row]) for row in rows]
        assert found.without_signal[name] == len(sharing(left))
        having = [row for row, has in zip(rows, present[:, m], strict=True) if has]
        assert found.only_items[name] == len(having)
        assert found.only_signal[name] == len(sharing([str([level[m] for level in row]) for row in having]))
        for parting in (p for p in found.partings if p.signal == name):
            check(parting, having, parting.level - 1, m)
    for level in range(levels):
        left = [str([codes for at, codes in enumerate(row) if at != level]) for row in rows]
        expected = {str(level + 1): len(sharing(left))} if levels > 1 else {}
        assert expected.items() <= found.without_level.items()


def check(parting, rows: list, level: int, signal: int) -> None:
    """One signal at one level, from the definitions."""
    before = [str(row[:level]) for row in rows]
    pairs = [(i, j) for i, j in combinations(range(len(rows)), 2) if before[i] == before[j]]
    assert parting.sharing == len(sharing(before))
    assert parting.pairs == len(pairs)
    assert parting.parted == sum(rows[i][level][signal] != rows[j][level][signal] for i, j in pairs)
    own = [str((b, row[level][signal])) for b, row in zip(before, rows, strict=True)]
    assert parting.resolved == len(sharing(before) - sharing(own))
    others = [
        str((b, [c for s, c in enumerate(row[level]) if s != signal])) for b, row in zip(before, rows, strict=True)
    ]
    assert parting.needed == len(sharing(others) - sharing([str(row[: level + 1]) for row in rows]))


def test_one_signal_and_one_level_have_no_others():
    found = causes(np.array([[[0]], [[0]], [[1]]]), ("id",))
    assert (found.without_signal, found.only_signal, found.without_level) == ({}, {}, {})
    (only,) = found.partings
    assert (only.sharing, only.pairs, only.parted, only.resolved, only.needed) == (3, 3, 2, 1, 1)


def test_a_signal_that_no_item_has():
    present = np.array([[True, False], [True, False]])
    found = causes(np.array([[[0, 0], [1, 0]], [[0, 0], [1, 0]]]), ("id", "text"), present)
    assert (found.without_signal, found.only_items) == ({"id": 2, "text": 2}, {"id": 2, "text": 0})
