"""The page's plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bbqrec_cli.benchmark.scores import metric_name
from bbqrec_cli.pages.svg import COLOURS, INK, MUTED, PALE, STYLES, legend, plot
from bbqrec_cli.pages.tables import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bbqrec_cli.benchmark.curves import Points
    from bbqrec_cli.benchmark.result import Score

PANELS = 4
"""Metrics side by side."""
WIDE_RANGE = 30
"""How many times the least of a cost the most is, from where on its scale is logarithmic."""


def score_bars(systems: Mapping[str, Mapping[str, Score]], metrics: Sequence[str], data: str = "", of: str = "") -> str:
    """A panel a metric, a bar a system (the best one dark) with the 95% interval; on a data set. SVG.

    of: what the plot's title begins with.
    """
    names = list(systems)

    def shape(narrow: bool) -> tuple[int, int]:
        columns = 1 if narrow else min(PANELS, len(metrics))
        return -(-len(metrics) // columns), columns

    def height(narrow: bool) -> float:
        return shape(narrow)[0] * (0.9 + (0.24 if narrow else 0.36) * len(names))

    def draw(figure: Figure, narrow: bool) -> None:
        rows, columns = shape(narrow)
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
        for panel in panels[len(metrics) :]:
            panel.set_visible(False)
        for panel, metric in zip(panels, metrics, strict=False):
            scores = [systems[name][metric] for name in names]
            best = max(score.mean for score in scores)
            means = [score.mean for score in scores]
            # The interval is of a bootstrap: it need not hold the mean.
            errors = [[max(0, s.mean - s.low) for s in scores], [max(0, s.high - s.mean) for s in scores]]
            colours = [COLOURS[0] if mean == best else MUTED for mean in means]
            panel.barh(range(len(names)), means, color=colours, height=0.62)
            panel.errorbar(means, range(len(names)), xerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
            panel.set_title(metric_name(metric), fontsize=10)
            panel.set_yticks(range(len(names)), [_short(name, 16 if narrow else 28) for name in names])
            panel.tick_params(axis="y", length=0)
            panel.locator_params(axis="x", nbins=4)
            panel.xaxis.grid(color=PALE, linewidth=0.7)
            panel.set_axisbelow(True)
            panel.set_xlim(left=0)
        next(iter(figure.axes)).invert_yaxis()

    title = f"{of}Scores with 95% intervals{f', {data}' if data else ''}"
    return plot(draw, height=height(False), narrow_height=height(True), title=title)


def sweep_lines(
    option: str,
    values: Sequence[tuple[str, Mapping[str, Mapping[str, Score]]]],
    metrics: Sequence[str],
    *,
    title: str,
    claim: str = "",
) -> str:
    """A panel a metric over the values of an option, a line a data set, with 95% intervals. SVG.

    values: (value, data set -> metric -> Score), in order; claim: the value that is said to be the best one, marked.
    """
    sets = list(dict.fromkeys(data for _, scores in values for data in scores))
    labels = [value for value, _ in values]

    def draw(figure: Figure, narrow: bool) -> None:
        shape = (len(metrics), 1) if narrow else (1, len(metrics))
        panels = figure.subplots(*shape, squeeze=False).flat
        for panel, metric in zip(panels, metrics, strict=True):
            for place, data in enumerate(sets):
                points = [(x, scores[data][metric]) for x, (_, scores) in enumerate(values) if data in scores]
                means = [score.mean for _, score in points]
                errors = [[max(0, s.mean - s.low) for _, s in points], [max(0, s.high - s.mean) for _, s in points]]
                panel.errorbar(
                    [x for x, _ in points], means, yerr=errors, color=COLOURS[place % len(COLOURS)],
                    linestyle=STYLES[place % len(STYLES)], linewidth=1.4, marker="o", markersize=4,
                    elinewidth=1, capsize=3,
                )  # fmt: skip
            if claim in labels:
                panel.axvline(labels.index(claim), color=MUTED, linewidth=6, alpha=0.5, zorder=0)
            panel.set_title(metric_name(metric), fontsize=10)
            panel.set_xticks(range(len(labels)), labels)
            panel.set_xlabel(option)
            panel.grid(color=PALE, linewidth=0.7)
            panel.set_axisbelow(True)
        if len(sets) > 1:
            legend(panel, [_short(data, 18) for data in sets], narrow=narrow)

    return plot(draw, height=3.2, narrow_height=0.4 + 2.4 * len(metrics), title=title)


def epoch_panels(
    runs: Mapping[str, Sequence[Points]], what: str, *, title: str, shared: bool = False, zero: bool = False,
    best: bool = False,
) -> str:  # fmt: skip
    """A figure by epoch: a panel a system or tokenizer, in which each seed has a line. SVG.

    Args:
        runs: name -> the points of each seed.
        what: the figure's name.
        shared: whether all panels have one scale; else each has its own.
        zero: whether scales begin at 0.
        best: mark each line's highest point.
    """
    from matplotlib.ticker import MaxNLocator

    def shape(narrow: bool) -> tuple[int, int]:
        columns = min(2 if narrow else 4, len(runs))
        return -(-len(runs) // columns), columns

    def draw(figure: Figure, narrow: bool) -> None:
        panels = figure.subplots(*shape(narrow), sharey=shared, squeeze=False).flat
        for panel in panels[len(runs) :]:
            panel.set_visible(False)
        for panel, (name, lines) in zip(panels, runs.items(), strict=False):
            for place, points in enumerate(lines):
                epochs, values = zip(*points, strict=True)
                style = STYLES[place % len(STYLES)]
                panel.plot(epochs, values, color=COLOURS[0], linestyle=style, linewidth=1.2)
                top = max(range(len(values)), key=values.__getitem__)
                if best or len(points) == 1:
                    panel.plot(epochs[top], values[top], color=COLOURS[1 if best else 0], marker="o", markersize=3.5)
            panel.set_title(_short(name, 20 if narrow else 30), fontsize=8.5)
            panel.tick_params(labelsize=7.5)
            panel.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
            panel.yaxis.set_major_locator(MaxNLocator(nbins=3))
            panel.grid(color=PALE, linewidth=0.6)
        drawn = figure.axes[: len(runs)]
        for panel in drawn if zero else ():  # after all lines: a shared scale must hold those of every panel
            panel.set_ylim(0, max(1.08 * each.dataLim.y1 for each in (drawn if shared else [panel])) or 1)
        figure.supylabel(what, fontsize=9)
        figure.supxlabel("epoch", fontsize=9)

    return plot(draw, height=0.5 + 1.5 * shape(False)[0], narrow_height=0.5 + 1.3 * shape(True)[0], title=title)


def cost_bars(costs: Mapping[str, Mapping[str, float]], data: str = "") -> str:
    """What systems take: a panel a kind of cost, a bar a system, the highest of the first kind on top. SVG.

    costs: kind of cost -> system -> its value; a panel has a logarithmic scale where its values differ much.
    """
    first = next(iter(costs.values()))
    every = dict.fromkeys(name for each in costs.values() for name in each)
    names = sorted(every, key=lambda name: -first.get(name, 0))

    def height(narrow: bool) -> float:
        return (len(costs) if narrow else 1) * (0.9 + (0.2 if narrow else 0.26) * len(names))

    def draw(figure: Figure, narrow: bool) -> None:
        shape = (len(costs), 1) if narrow else (1, len(costs))
        panels = figure.subplots(*shape, sharey=True, squeeze=False).flat
        for panel, (kind, values) in zip(panels, costs.items(), strict=True):
            known = {row: values[name] for row, name in enumerate(names) if values.get(name)}
            panel.barh(list(known), list(known.values()), color=COLOURS[0], height=0.62)
            least, most = min(known.values(), default=1), max(known.values(), default=1)
            wide = most > WIDE_RANGE * least
            if wide:
                panel.set_xscale("log")
                panel.set_xlim(least / 2, most * (least / most) ** -0.35)
            else:
                panel.set_xlim(0, 1.3 * most)
            for row, value in known.items():
                panel.annotate(
                    short(value), (value, row), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7.5
                )
            panel.set_title(kind + ("\n(logarithmic)" if wide else ""), fontsize=9.5)
            panel.set_yticks(range(len(names)), [_short(name, 16 if narrow else 28) for name in names])
            panel.set_xticks([])
            panel.minorticks_off()
            panel.spines["bottom"].set_visible(False)
            panel.tick_params(axis="y", length=0)
        next(iter(figure.axes)).invert_yaxis()

    title = f"Time and memory{f', {data}' if data else ''}, plot"
    return plot(draw, height=height(False), narrow_height=height(True), title=title)


def _short(name: str, most: int) -> str:
    """The name without its middle, where it is longer: systems differ at the end as well."""
    end = most // 3
    return name if len(name) <= most else f"{name[: most - end - 1].rstrip()}…{name[-end:].lstrip()}"
