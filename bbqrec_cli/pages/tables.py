"""Tables of texts, shown alike on the terminal and on HTML and Markdown pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

NOT_KNOWN = "–"
Row = tuple["Shown", ...]


@dataclass(frozen=True)
class Shown:
    """A cell of a table: its lines, the main one first; best: the best of its column; title: what HTML shows of it
    when it is pointed at; second: the second best; pictures: data URIs, one a line, '' for none, on HTML pages only."""

    lines: tuple[str, ...]
    best: bool = False
    title: str = ""
    second: bool = False
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """left: number of first columns that hold words rather than numbers; note: an explanation of the columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    left: int = 1
    note: str = ""


def make(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, left: int = 1, note: str = "") -> Table:
    """A table from texts, numbers, `Shown`s and None (not known)."""
    shown = tuple(tuple(each if isinstance(each, Shown) else Shown((plain(each),)) for each in row) for row in rows)
    return Table(title=title, columns=tuple(columns), rows=shown, left=left, note=note)


def plain(value: Any) -> str:
    """A value as text."""
    if value is None:
        return NOT_KNOWN
    return f"{value:,}" if isinstance(value, int) else str(value)


def short(value: float | None) -> str:
    """A number with three digits."""
    return NOT_KNOWN if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def seconds(value: float | None, at_least: bool = False) -> str:
    """Seconds, to a tenth where they are few."""
    if value is None:
        return NOT_KNOWN
    return ("≥ " if at_least else "") + (f"{value:.1f}" if value < 100 else f"{value:,.0f}")


def of_all(count: int, items: int) -> Shown:
    """A count and its share of all items."""
    return Shown((f"{count:,}", f"{100 * count / max(1, items):.2f}%"))


def moment(iso: str) -> str:
    """A moment in ISO format as every page shows it: '2030-01-31 12:00 UTC'. What is none stays as it is."""
    try:
        found = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return found.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def counted(number: int, what: str) -> str:
    """'1 step', '2 steps'."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
