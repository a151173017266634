"""Plots as self-contained SVG, in a shape for wide screens and one for narrow ones, in the page's colours."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bbqrec_cli.pages.page import anchor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

COLOURS = ("#0b6e99", "#c2571a", "#3f7d3a", "#8a4f9e", "#a58a00", "#b0315b", "#2f4b7c", "#6b6b6b")
"""Readable on white; together with the line styles, distinct for colour-blind readers."""
STYLES = ("-", "--", ":", "-.")
INK, PALE, MUTED = "#333333", "#dddddd", "#9fc3d3"
WIDE, NARROW = 10.0, 3.9
"""Inches: the width of the page's text, and of a phone."""
_VARIABLES = {INK: "ink", PALE: "line", MUTED: "muted"} | {colour: f"c{n}" for n, colour in enumerate(COLOURS)}
"""Colours for which the page has one of its own, in dark mode another one (page.html.j2)."""
_STYLE: Any = {
    "svg.hashsalt": "bbqrec", "svg.fonttype": "path", "font.size": 9, "text.parse_math": False, "axes.edgecolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "text.color": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip


def plot(draw: Callable[[Figure, bool], None], *, height: float, narrow_height: float, title: str) -> str:
    """The plot twice, for wide and for narrow screens; the page shows one of them.

    Args:
        draw: puts everything on the empty figure; told whether the figure is the narrow one.
        height, narrow_height: inches.
        title: the text for screen readers; unique on the page.
    """
    wide = svg(lambda figure: draw(figure, False), width=WIDE, height=height, title=title)
    small = svg(lambda figure: draw(figure, True), width=NARROW, height=narrow_height, title=f"{title}, narrow")
    return f'<div class="wide-plot">{wide}</div><div class="narrow-plot">{small}</div>'


def svg(draw: Callable[[Figure], None], *, width: float, height: float, title: str) -> str:
    """An <svg> element of a figure, without the file's header, links and date.

    Args:
        draw: puts everything on the empty figure.
        width, height: inches.
        title: the text for screen readers; unique on the page.
    """
    import matplotlib
    from matplotlib.figure import Figure

    stream = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Characters that the font lacks become boxes here; the tables show them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    # Two plots on one page must not share ids.
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{anchor(title)}-", text)
    for colour, name in _VARIABLES.items():
        text = re.sub(rf"(: ?){colour}\b", rf"\g<1>var(--{name}, {colour})", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)


def legend(panel: Axes, names: list[str], *, narrow: bool) -> Legend:
    """A legend of line styles, the n-th name with the n-th colour and style: beside the panel, or below it."""
    handles = [
        panel.plot([], [], color=COLOURS[place % len(COLOURS)], linestyle=STYLES[place % len(STYLES)])[0]
        for place in range(len(names))
    ]
    where: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    if narrow:
        where = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 2}
    made = panel.legend(handles, [" "] * len(names), frameon=False, **where)
    for text, name in zip(made.get_texts(), names, strict=True):
        text.set_text(name)  # not as a label: one that begins with '_' would be left out
    return made
