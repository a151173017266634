"""The plots of an analysis. I items, L levels, N codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bbqrec_cli.collisions.analysis import Analysis
from bbqrec_cli.pages.svg import COLOURS, PALE, STYLES, legend, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def usage_plot(found: Analysis) -> str:
    """One panel per level, one line per signal: items per code, most used first, on a logarithmic scale. SVG."""

    levels, signals = len(found.depths), list(found.signals)

    def draw(figure: Figure, narrow: bool) -> None:
        shape = (levels, 1) if narrow else (1, levels)
        panels = figure.subplots(*shape, sharey=True, squeeze=False).flat
        for level, panel in enumerate(panels, 1):
            for place, signal in enumerate(found.signals):
                counts = np.sort(found.counts[signal, level])[::-1]
                # The line ends where codes are unused.
                used = counts[counts > 0]
                _line(panel, np.arange(1, len(used) + 1), used, place)
            every = [found.counts[signal, level] for signal in found.signals]
            size = len(every[0])
            for even in {counts.sum() / max(1, size) for counts in every}:  # of signals that not all items have
                panel.axhline(even, color=PALE, linewidth=1, zorder=0)
            _logarithmic(panel)
            panel.set_xlim(0, size)
            panel.locator_params(axis="x", nbins=4)
            panel.set_title(f"level {level}", fontsize=10)
            if not narrow or level == levels:
                panel.set_xlabel("codes, most used first")
        figure.axes[0].set_ylabel("items")
        _legend(figure.axes[-1], signals, narrow)

    title = f"Use of the codes: {found.input}"
    return plot(draw, height=2.9, narrow_height=0.5 + 1.9 * levels, title=title)


def depth_plot(every: Sequence[Analysis], title: str) -> str:
    """Share of colliding items, and mean number of children, by depth; one line per file. SVG."""
    from matplotlib.ticker import MaxNLocator

    def draw(figure: Figure, narrow: bool) -> None:
        left, right = figure.subplots(*((2, 1) if narrow else (1, 2)))
        for place, found in enumerate(every):
            depths = [d.depth for d in found.depths]
            shares = [100 * d.colliding_items / max(1, found.items) for d in found.depths]
            _line(left, depths, shares, place)
            _line(right, depths, [d.mean_children for d in found.depths], place)
        left.set_ylabel("colliding items, %")
        right.set_ylabel("children per prefix, mean")
        left.set_ylim(0, 102)
        _logarithmic(right)
        for panel in (left, right):
            panel.set_xlabel("depth")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.grid(color=PALE, linewidth=0.7)
        _legend(right, [found.input for found in every], narrow)

    return plot(draw, height=2.9, narrow_height=4.6 + 0.2 * len(every), title=title)


def _logarithmic(panel: Axes) -> None:
    """A logarithmic y axis with plain numbers (powers would need math text, which is off)."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _line(panel: Axes, x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, place: int) -> None:
    style = {"color": COLOURS[place % len(COLOURS)], "linestyle": STYLES[place % len(STYLES)], "linewidth": 1.4}
    panel.plot(x, y, marker="o" if len(x) <= 8 else "", markersize=3.5, **style)  # type: ignore[arg-type]


def _legend(panel: Axes, names: Sequence[str], narrow: bool) -> None:
    """A legend beside the panel, or below; none for a single name."""
    if len(names) > 1:
        legend(panel, [name if len(name) <= 24 else "…" + name[-23:] for name in names], narrow=narrow)
