"""What the plots of a page show, read from their figures."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import figures
from matplotlib.colors import to_hex

from bbqrec_cli.benchmark import plots
from bbqrec_cli.benchmark.result import Score
from bbqrec_cli.pages.svg import COLOURS, MUTED

pytestmark = pytest.mark.drawn


def score(mean: float, low: float, high: float) -> Score:
    return Score(values=[mean], mean=mean, sd=None, low=low, high=high)


def labels(panel) -> list[str]:
    return [text.get_text() for text in panel.get_yticklabels()]


def widths(panel) -> list[float]:
    """Of a panel's bars, by row."""
    return [bar.get_width() for bar in sorted(panel.patches, key=lambda bar: bar.get_y())]


def intervals(panel) -> list[list[list[float]]]:
    """Of each series with error bars: the ends of each, (x, y) and (x, y)."""
    return [
        np.round(each.lines[2][0].get_segments(), 6).tolist() for each in panel.containers if hasattr(each, "lines")
    ]


def test_bars_are_the_means_and_their_intervals(monkeypatch):
    systems = {
        "ours": {"recall@5": score(0.5, 0.4, 0.7), "ndcg@5": score(0.2, 0.1, 0.3)},
        "theirs": {"recall@5": score(0.25, 0.2, 0.3), "ndcg@5": score(0.4, 0.41, 0.5)},
    }
    for figure in figures(monkeypatch, plots, lambda: plots.score_bars(systems, ["recall@5", "ndcg@5"])):
        recall, ndcg = figure.axes
        assert (recall.get_title(), ndcg.get_title()) == ("Recall@5", "NDCG@5")
        assert labels(recall) == ["ours", "theirs"]
        assert recall.yaxis_inverted(), "the first system is on top"
        assert (widths(recall), widths(ndcg)) == ([0.5, 0.25], [0.2, 0.4])
        assert intervals(recall) == [[[[0.4, 0], [0.7, 0]], [[0.2, 1], [0.3, 1]]]]
        assert intervals(ndcg) == [[[[0.1, 0], [0.3, 0]], [[0.4, 1], [0.5, 1]]]], "an interval need not hold the mean"
        for panel, dark in ((recall, 0), (ndcg, 1)):
            expected = [COLOURS[0] if row == dark else MUTED for row in range(2)]
            assert [to_hex(bar.get_facecolor()) for bar in panel.patches] == expected
        assert recall.get_xlim()[0] == ndcg.get_xlim()[0] == 0


def test_panels_without_a_metric_are_hidden(monkeypatch):
    systems = {"ours": {f"recall@{k}": score(k / 10, 0, 1) for k in range(1, 6)}}
    wide, narrow = figures(monkeypatch, plots, lambda: plots.score_bars(systems, list(systems["ours"])))
    assert [panel.get_visible() for panel in wide.axes] == [True] * 5 + [False] * 3
    assert [panel.get_visible() for panel in narrow.axes] == [True] * 5
    assert [width for panel in wide.axes for width in widths(panel)] == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_lines_of_a_sweep(monkeypatch):
    """A data set that lacks a value has no point there."""
    values = [
        ("1", {"Beauty": {"ndcg@5": score(0.1, 0.05, 0.2)}, "Toys": {"ndcg@5": score(0.3, 0.2, 0.35)}}),
        ("2", {"Beauty": {"ndcg@5": score(0.4, 0.3, 0.6)}}),
        ("4", {"Beauty": {"ndcg@5": score(0.2, 0.1, 0.3)}, "Toys": {"ndcg@5": score(0.5, 0.4, 0.6)}}),
    ]
    made = figures(monkeypatch, plots, lambda: plots.sweep_lines("levels", values, ["ndcg@5"], title="t", claim="2"))
    for figure in made:
        (panel,) = figure.axes
        beauty, toys = (each.lines[0] for each in panel.containers)
        assert (beauty.get_xdata().tolist(), beauty.get_ydata().tolist()) == ([0, 1, 2], [0.1, 0.4, 0.2])
        assert (toys.get_xdata().tolist(), toys.get_ydata().tolist()) == ([0, 2], [0.3, 0.5])
        of_beauty, of_toys = intervals(panel)
        assert of_beauty == [[[0, 0.05], [0, 0.2]], [[1, 0.3], [1, 0.6]], [[2, 0.1], [2, 0.3]]]
        assert of_toys == [[[0, 0.2], [0, 0.35]], [[2, 0.4], [2, 0.6]]]
        assert [text.get_text() for text in panel.get_xticklabels()] == ["1", "2", "4"]
        assert panel.get_xlabel() == "levels"
        marked = [line.get_xdata() for line in panel.lines if line.get_color() == MUTED]
        assert [list(x) for x in marked] == [[1, 1]], "the value that is said to be the best one"
        assert [text.get_text() for text in panel.get_legend().get_texts()] == ["Beauty", "Toys"]
        assert [each.get_color() for each in panel.get_legend().get_lines()] == [beauty.get_color(), toys.get_color()]


@pytest.mark.parametrize(("most", "scale"), [(29, "linear"), (31, "log")])
def test_bars_of_costs(most, scale, monkeypatch):
    costs = {"training, s": {"cheap": 1.0, "dear": float(most), "none": 0.0}, "ms per user": {"cheap": 0.5, "new": 2.0}}
    for figure in figures(monkeypatch, plots, lambda: plots.cost_bars(costs)):
        training, serving = figure.axes
        assert labels(training) == ["dear", "cheap", "none", "new"], "by the first kind of cost"
        assert (widths(training), widths(serving)) == ([most, 1], [0.5, 2])
        assert [bar.get_y() + bar.get_height() / 2 for bar in training.patches] == pytest.approx([0, 1])
        assert [bar.get_y() + bar.get_height() / 2 for bar in serving.patches] == pytest.approx([1, 3])
        assert [(text.get_text(), text.xy) for text in training.texts] == [(str(most), (most, 0)), ("1", (1, 1))]
        assert (training.get_xscale(), "logarithmic" in training.get_title()) == (scale, scale == "log")
        assert serving.get_xscale() == "linear"
        assert all(panel.get_xlim()[1] > max(widths(panel)) for panel in figure.axes)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_epoch_panels_of_any_number(count, shared):
    runs = {f"s{n}": [[(1, 0.5), (2, 0.25)]] for n in range(count)}
    text = plots.epoch_panels(runs, "codes in use", title="T", shared=shared, zero=True)
    assert all(text.count(f"s{n}") >= 2 for n in range(count)), "wide and narrow"
