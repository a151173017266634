"""The page's plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bbqrec_cli.benchmark.scores import metric_name
from bbqrec_cli.pages.svg import COLOURS, INK, MUTED, PALE, STYLES, legend, plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bbqrec_cli.benchmark.result import Score

PANELS = 4
"""Metrics side by side."""


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


def epoch_lines(histories: Mapping[tuple[str, int], Sequence[tuple[int, float]]]) -> str:
    """Validation NDCG@10 by epoch: a colour a system, a line a seed. SVG."""
    from matplotlib.ticker import MaxNLocator

    systems = list(dict.fromkeys(system for system, _ in histories))

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        for (system, _), rows in histories.items():
            place = systems.index(system)
            axes.plot(
                *zip(*rows, strict=True), color=COLOURS[place % len(COLOURS)], linestyle=STYLES[place % len(STYLES)],
                linewidth=1.4, marker="o" if len(rows) == 1 else "", markersize=4,
            )  # fmt: skip
        legend(axes, [_short(system, 18 if narrow else 28) for system in systems], narrow=narrow)
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation NDCG@10")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        axes.grid(color=PALE, linewidth=0.7)

    height, narrow_height = max(3.4, 0.6 + 0.2 * len(systems)), 2.9 + 0.2 * -(-len(systems) // 2)
    return plot(draw, height=height, narrow_height=narrow_height, title="Validation NDCG@10 by epoch")


def _short(name: str, most: int) -> str:
    """The name without its middle, where it is longer: systems differ at the end as well."""
    end = most // 3
    return name if len(name) <= most else f"{name[: most - end - 1].rstrip()}…{name[-end:].lstrip()}"
