"""Plots as self-contained SVG."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bbqrec_cli.pages.page import anchor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0b6e99", "#c2571a", "#3f7d3a", "#8a4f9e", "#a58a00", "#b0315b", "#2f4b7c", "#6b6b6b")
"""Readable on white; together with the line styles, distinct for colour-blind readers."""
STYLES = ("-", "--", ":", "-.")
INK, PALE = "#333333", "#dddddd"
_STYLE: Any = {
    "svg.hashsalt": "bbqrec", "svg.fonttype": "path", "font.size": 9, "text.parse_math": False, "axes.edgecolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "text.color": INK, "axes.labelcolor": INK,
    "xtick.color": INK, "ytick.color": INK,
}  # fmt: skip


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
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)
