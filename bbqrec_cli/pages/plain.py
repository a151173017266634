"""Pages as LaTeX and CSV: tables alone."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

from bbqrec_cli.pages.tables import Shown, Table

TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "▲": r"$\blacktriangle$", "°": r"$^\circ$", "¬": r"$\lnot$", "≥": r"$\geq$", "–": "--", "·": r"$\cdot$",
    "<": r"$<$", ">": r"$>$", "|": r"$|$", "…": r"\ldots{}", "×": r"$\times$", "β": r"$\beta$", "γ": r"$\gamma$",
    "✓": r"$\checkmark$", "[": "{[}",
} | {each: f"\\{each}" for each in "&%$#_{}"}  # fmt: skip
"""Characters that LaTeX reads otherwise -> what shows them."""


def tex(text: str) -> str:
    """Text for LaTeX, on one line."""
    return re.sub("|".join(map(re.escape, TEX)), lambda found: TEX[found[0]], " ".join(text.split()))


def tex_cell(shown: Shown) -> str:
    """A cell of a table: the best bold, the second best underlined, further lines small below."""
    first, *more = map(tex, shown.lines)
    first = rf"\textbf{{{first}}}" if shown.best else rf"\underline{{{first}}}" if shown.second else first
    if not more:
        return first
    return rf"\shortstack{{{first} \\ " + r" \\ ".join(rf"{{\scriptsize {line}}}" for line in more) + "}"


def csv_text(tables: Iterable[Table]) -> str:
    """All tables as one: a row for each cell, by the table's title, the row's first cell and the column.

    about: the other lines of the row's first cell, such as the source of a published number; value: the cell's
    first line; number: the number that it begins with, '' where it is none; more: its other lines.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("table", "row", "about", "column", "value", "number", "best", "more", "sources"))
    for table in tables:
        for row in table.rows:
            for column, shown in zip(table.columns[1:], row[1:], strict=True):
                first, *more = shown.lines
                number = re.match(r"-?[\d,]*\.?\d+(?:e[+-]?\d+)?(?!\w)", first)
                sources = "; ".join(shown.title.splitlines())
                value = number[0].replace(",", "") if number else ""
                head = (table.title, row[0].lines[0], "; ".join(row[0].lines[1:]), column)
                writer.writerow((*head, first, value, int(shown.best), "; ".join(more), sources))
    return stream.getvalue()
