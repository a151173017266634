"""The page's plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bbqrec_cli.pages.svg import COLOURS, INK, PALE, STYLES, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bbqrec_cli.benchmark.result import Score

PANELS = 4
"""Metrics side by side."""


def score_bars(systems: Mapping[str, Mapping[str, Score]], metrics: Sequence[str]) -> str:
    """A panel a metric, a bar a system (the best one dark) with the 95% interval. SVG."""
    names, columns = list(systems), min(PANELS, len(metrics))
    rows = -(-len(metrics) // columns)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
        for panel in panels[len(metrics) :]:
            panel.set_visible(False)
        for panel, metric in zip(panels, metrics, strict=False):
            scores = [systems[name][metric] for name in names]
            best = max(score.mean for score in scores)
            means = [score.mean for score in scores]
            # The interval is of a bootstrap: it need not hold the mean.
            errors = [[max(0, s.mean - s.low) for s in scores], [max(0, s.high - s.mean) for s in scores]]
            colours = [COLOURS[0] if mean == best else "#9fc3d3" for mean in means]
            panel.barh(range(len(names)), means, color=colours, height=0.62)
            panel.errorbar(means, range(len(names)), xerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
            panel.set_title(metric.replace("recall", "Recall").replace("ndcg", "NDCG"), fontsize=10)
            panel.set_yticks(range(len(names)), [_short(name) for name in names])
            panel.tick_params(axis="y", length=0)
            panel.locator_params(axis="x", nbins=4)
            panel.xaxis.grid(color=PALE, linewidth=0.7)
            panel.set_axisbelow(True)
            panel.set_xlim(left=0)
        next(iter(figure.axes)).invert_yaxis()

    return svg(draw, width=10.0, height=rows * (0.9 + 0.36 * len(names)), title="Scores with 95% intervals")


def epoch_lines(histories: Mapping[tuple[str, int], Sequence[tuple[int, float]]]) -> str:
    """Validation NDCG@10 by epoch: a colour a system, a line a seed. SVG."""
    from matplotlib.ticker import MaxNLocator

    systems = list(dict.fromkeys(system for system, _ in histories))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for (system, _), rows in histories.items():
            place = systems.index(system)
            axes.plot(
                *zip(*rows, strict=True), color=COLOURS[place % len(COLOURS)], linestyle=STYLES[place % len(STYLES)],
                linewidth=1.4, marker="o" if len(rows) == 1 else "", markersize=4,
            )  # fmt: skip
        handles = [
            axes.plot([], [], color=COLOURS[i % len(COLOURS)], linestyle=STYLES[i % len(STYLES)])[0]
            for i in range(len(systems))
        ]
        legend = axes.legend(handles, [" "] * len(systems), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        for text, system in zip(legend.get_texts(), systems, strict=True):
            text.set_text(_short(system))  # not as a label: one that begins with '_' would be left out
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation NDCG@10")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        axes.grid(color=PALE, linewidth=0.7)

    return svg(draw, width=8.0, height=3.4, title="Validation NDCG@10 by epoch")


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"
