"""What the plots of `bbqrec collisions` show, read from their figures."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import figures

from bbqrec_cli.collisions import plots

pytestmark = pytest.mark.drawn


def lines(panel) -> list[tuple[list[float], list[float]]]:
    """Those that have points, which a legend's have not."""
    made = [(np.asarray(each.get_xdata()).tolist(), np.asarray(each.get_ydata()).tolist()) for each in panel.lines]
    return [each for each in made if each[0] and each[0] != [0, 1]]


def names(panel) -> list[str]:
    return [text.get_text() for text in panel.get_legend().get_texts()]


def depth(number: int, colliding: int, children: float) -> SimpleNamespace:
    return SimpleNamespace(depth=number, colliding_items=colliding, mean_children=children)


def test_use_of_the_codes(monkeypatch):
    """Most used first, without those that are unused; a pale line where all are used alike."""
    counts = {
        ("id", 1): [1, 7, 0, 4], ("text", 1): [3, 3, 3, 3], ("id", 2): [0, 0, 12, 0], ("text", 2): [5, 0, 0, 7],
    }  # fmt: skip
    found = SimpleNamespace(
        input="a.h5", signals=("id", "text"), items=12, depths=[depth(1, 9, 4.0), depth(2, 3, 2.0)],
        counts={key: np.array(each) for key, each in counts.items()},
    )  # fmt: skip
    for figure in figures(monkeypatch, plots, lambda: plots.usage_plot(found)):
        first, second = figure.axes
        assert lines(first) == [([1, 2, 3], [7, 4, 1]), ([1, 2, 3, 4], [3, 3, 3, 3])]
        assert lines(second) == [([1], [12]), ([1, 2], [7, 5])]
        assert [list(each.get_ydata()) for each in first.lines if list(each.get_xdata()) == [0, 1]] == [[3, 3]]
        assert (first.get_title(), second.get_title()) == ("level 1", "level 2")
        assert first.get_yscale() == "log"
        assert first.get_xlim() == (0, 4)
        assert names(second) == ["id", "text"]


def test_even_use_of_a_signal_that_few_items_have(monkeypatch):
    counts = {("id", 1): np.array([3, 3, 3, 3]), ("image", 1): np.array([1, 1, 1, 1])}
    found = SimpleNamespace(input="a.h5", signals=("id", "image"), items=12, depths=[depth(1, 9, 4.0)], counts=counts)
    for figure in figures(monkeypatch, plots, lambda: plots.usage_plot(found)):
        even = [list(each.get_ydata()) for each in figure.axes[0].lines if list(each.get_xdata()) == [0, 1]]
        assert sorted(even) == [[1, 1], [3, 3]]


def test_shares_and_children_by_depth(monkeypatch):
    files = [
        SimpleNamespace(input="a.h5", items=12, depths=[depth(1, 12, 3.0), depth(2, 3, 1.5), depth(3, 0, 1.25)]),
        SimpleNamespace(input="b.h5", items=50, depths=[depth(1, 40, 8.0), depth(2, 10, 2.0)]),
        SimpleNamespace(input="empty.h5", items=0, depths=[depth(1, 0, 1.0)]),
    ]
    for figure in figures(monkeypatch, plots, lambda: plots.depth_plot(files, "title")):
        left, right = figure.axes
        assert lines(left) == [([1, 2, 3], [100, 25, 0]), ([1, 2], [80, 20]), ([1], [0])]
        assert lines(right) == [([1, 2, 3], [3, 1.5, 1.25]), ([1, 2], [8, 2]), ([1], [1])]
        assert left.get_ylim() == (0, 102)
        assert (left.get_yscale(), right.get_yscale()) == ("linear", "log")
        assert names(right) == ["a.h5", "b.h5", "empty.h5"]
