"""The page's plots, as SVG that needs nothing from outside."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bbqrec_cli.benchmark.results import Score

COLOURS = ("#0b6e99", "#c2571a", "#3f7d3a", "#8a4f9e", "#a58a00", "#b0315b", "#2f4b7c", "#6b6b6b")
"""Dark enough to be read on white, apart for colour-blind readers together with the styles of the lines."""
STYLES = ("-", "--", ":", "-.")
INK, PALE = "#333333", "#dddddd"
PANELS = 4
"""Metrics side by side."""
_STYLE: Any = {
    "svg.hashsalt": "bbqrec", "svg.fonttype": "path", "font.size": 9, "text.parse_math": False, "axes.edgecolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "text.color": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip


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

    return _svg(draw, width=10.0, height=rows * (0.9 + 0.36 * len(names)), title="Scores with 95% intervals")


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

    return _svg(draw, width=8.0, height=3.4, title="Validation NDCG@10 by epoch")


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"


def _svg(draw: Callable[[Figure], None], *, width: float, height: float, title: str) -> str:
    """An <svg> element of a figure, without the file's header, links and date."""
    import matplotlib
    from matplotlib.figure import Figure

    stream = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Names in scripts that the font lacks become boxes here; the tables have them right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    # Two plots on one page must not share ids.
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{title.split()[0].lower()}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
