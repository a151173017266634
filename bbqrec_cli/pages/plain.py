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
    "✓": r"$\checkmark$", "[": "{[}", "*": "{*}",
} | {each: f"\\{each}" for each in "&%$#_{}"}  # fmt: skip
"""Characters that LaTeX reads otherwise -> what shows them."""
NUMBER = re.compile(r"-?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?(?![\w.,]*\w)")
"""A number at the beginning of a text, without a unit at it."""


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

    row: the first cells that hold words, or as many of them as tell rows apart; about: the other lines of the first,
    such as the source of a published number; value: the cell's first line; number: the number that it begins with, ''
    where it is none; more: its other lines.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("table", "row", "about", "column", "value", "number", "best", "more", "sources"))
    for table in tables:
        heads = _heads(table)
        for row in table.rows:
            name = ", ".join(cell.lines[0] for cell in row[:heads])
            about = "; ".join(row[0].lines[1:]) if heads else ""
            for column, shown in zip(table.columns[heads:], row[heads:], strict=True):
                first, *more = shown.lines
                number = NUMBER.match(first)
                sources = "; ".join(shown.title.splitlines())
                value = number[0].replace(",", "") if number else ""
                head = (table.title, name, about, column)
                writer.writerow((*head, first, value, int(shown.best), "; ".join(more), sources))
    return stream.getvalue()


def _heads(table: Table) -> int:
    """How many of a table's first cells are a row's name."""
    most = min(table.left, len(table.columns) - 1)
    for count in range(1, most + 1):
        if len({tuple(cell.lines[0] for cell in row[:count]) for row in table.rows}) == len(table.rows):
            return count
    return min(1, most)
