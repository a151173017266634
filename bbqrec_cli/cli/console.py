"""All output to the terminal: progress and notes on stderr, results on stdout, with --json nothing but JSON there."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from bbqrec_cli.cli.streams import writes_all
from bbqrec_cli.errors import BBQRecError

if TYPE_CHECKING:
    from bbqrec_cli.pages.tables import Table as PageTable

NAME_WIDTH = 12
"""Characters of a word that stay together while there is room; numbers always do."""
LINE_EVERY = 60.0
"""Seconds between the lines that say where no bars are shown how far a task has come."""


class _Task:
    def __init__(self, bar: Progress, task_id: Any) -> None:
        self._bar, self._id = bar, task_id

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        fields: dict[str, Any] = {"figures": _in_words(figures)} if figures else {}
        self._bar.update(self._id, advance=steps, **fields)


class _Lines:
    """A task where no terminal shows bars, such as in the log of a cluster's job: a line a minute."""

    def __init__(self, say: Callable[[str], None], description: str, total: int | None) -> None:
        self._say, self._description, self._total = say, description, total
        self._done, self._base, self._said = 0, (0.0, -1), time.monotonic()

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        self._done += steps
        now, (began, before) = time.monotonic(), self._base
        if before < 0:  # what a run before this one did may be the first step
            self._base = now, self._done
        if now - self._said < LINE_EVERY:
            return
        self._said = now
        of = f" of {self._total:,}" if self._total else ""
        shown = [f"{self._description}: {self._done:,}{of}", _in_words(figures)]
        if self._total and 0 <= before < self._done and not any(isinstance(each, str) for each in figures.values()):
            minutes = (self._total - self._done) * (now - began) / (self._done - before) / 60
            shown.append(f"about {minutes:,.0f} min left" if minutes >= 1 else "")
        self._say("  ".join(filter(None, shown)))


def _in_words(figures: Mapping[str, float | str]) -> str:
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())


class _NoTask:
    def advance(self, steps: int = 1, **figures: float | str) -> None:
        pass


_CONTROLS = (*range(0, 9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that steer a terminal or turn the direction of writing; not the tab and the newline."""
_SHOWN = dict.fromkeys(_CONTROLS, "\N{REPLACEMENT CHARACTER}")
_ESCAPED = {code: f"\\u{code:04x}" for code in (*_CONTROLS, *range(0xD800, 0xE000)) if code > 31}
"""As JSON writes them, and halves of surrogate pairs, which no file can hold; it escapes those below 32 by itself."""


class _Printing(RichConsole):
    """A title from somebody's file is only text, never a sequence that steers the terminal."""

    def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
        """As rich does, with control characters shown as such."""
        for segment in super().render(renderable, options):
            clean = segment.control or segment.text.isprintable()
            yield segment if clean else Segment(segment.text.translate(_SHOWN), segment.style)


class _Results(_Printing):
    def on_broken_pipe(self) -> None:
        """Leave it to `cli/options.py`; rich would exit with status 1."""
        raise BrokenPipeError


class _Stderr:
    """sys.stderr, which may be closed (a closed terminal, `2>&1 | head`): a long run must survive that."""

    def write(self, text: str) -> int:
        with self._unfailing():
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with self._unfailing():
            sys.stderr.flush()

    @contextmanager
    def _unfailing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


class Console:
    """Implements `bbqrec_cli.progress.Progress` for a terminal.

    Args:
        json_output: results as one JSON object on stdout.
        quiet: no progress and no notes; warnings and errors still show.
        verbose: details, and tracebacks of bugs.
        silent: only errors: another process prints the rest.
    """

    def __init__(
        self, *, json_output: bool = False, quiet: bool = False, verbose: bool = False, silent: bool = False
    ) -> None:
        self.json_output, self.quiet, self.verbose, self.silent = json_output, quiet, verbose, silent
        # On a terminal lines break between words; in a file each epoch stays on one line.
        self._err = _Printing(file=cast(IO[str], _Stderr()), highlight=False, emoji=False)
        self._err.soft_wrap = not self._err.is_terminal
        self._out = _Results(highlight=False, emoji=False)
        self._bars: Progress | None = None

    def log(self, message: str) -> None:
        if not self.quiet:
            self._err.print(message, markup=False)

    def detail(self, message: str) -> None:
        if self.verbose:
            self.log(message)

    def warn(self, message: str) -> None:
        if self.silent:
            return
        self._err.print(f"warning: {message}", style="bold yellow", markup=False)

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Any]:
        if self.quiet or not self._err.is_terminal:
            yield _NoTask() if self.quiet else _Lines(self.log, description, total)
            return
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        # A terminal has one live display: a task within a task is one more line of it.
        outermost = self._bars is None
        bars = self._bars = self._bars or Progress(*columns, console=self._err, transient=True)
        task = bars.add_task(description, total=total, figures="")
        bars.start()
        try:
            yield _Task(bars, task)
        finally:
            if outermost:
                bars.stop()
                self._bars = None
            else:
                bars.remove_task(task)

    def result(self, values: dict[str, Any], *renderables: Any) -> None:
        """The command's result: `values` as JSON with --json, else `renderables` (rich tables or plain text)."""
        if self.silent:
            return
        if self.json_output:
            self.line(values)
            return
        for each in renderables:
            if isinstance(each, str):
                self._out.print(each, markup=False, soft_wrap=is_command(each))
            else:
                self._out.print(each)

    def line(self, values: dict[str, Any]) -> None:
        """One JSON object on one line of stdout. NaN and infinities become null."""
        sys.stdout.write(_json(_finite(values)) + "\n")
        sys.stdout.flush()

    def error(self, error: BBQRecError) -> None:
        """An error on stderr: text, or with --json one JSON object."""
        if self.json_output:
            text = _json({"error": error.code, "message": error.message, "hint": error.hint})
            self._err.file.write(text + "\n")
            return
        self._err.print(f"error: {error.message}", style="bold red", markup=False)
        if error.hint:
            self._err.print(
                f"  try: {error.hint}", markup=False, soft_wrap=self._err.soft_wrap or is_command(error.hint)
            )


class _Fitting(Table):
    """A table that on a narrow terminal breaks headers and words between words, then numbers between words, and only
    then inside of words; its frame goes before that."""

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        """As rich does, with widths that fit."""
        if not self.columns:
            return
        whole, *floors = self._widths()
        wanted = Measurement.get(console, options.update(width=100_000), self).maximum
        room = options.max_width - (wanted - sum(whole))
        if self.show_edge and self.box and sum(floors[1]) > room:
            self.box, self.show_edge, self.padding = SIMPLE_HEAD, False, (0, 1, 0, 0)
            yield from self.__rich_console__(console, options)
            return
        if sum(whole) > room:
            for column, width in zip(self.columns, fitting(whole, [*floors, [1] * len(whole)], room), strict=True):
                column.width = width
        yield from super().__rich_console__(console, options)

    def _widths(self) -> list[list[int]]:
        """Of each column: its width; the least one where headers and words break between words; where all does."""
        found = []
        for column in self.columns:
            (head, head_word), (cell, word) = _lengths([column.header]), _lengths(column.cells)
            unbroken = cell if column.justify == "right" else min(word, NAME_WIDTH)
            found.append((max(head, cell), max(head_word, unbroken), max(head_word, min(word, unbroken))))
        return [list(each) for each in zip(*found, strict=True)]

    def least(self) -> list[int]:
        """Of each column: the width in which no number, and no word of up to NAME_WIDTH characters, is broken."""
        return self._widths()[1]


def _lengths(cells: Iterable[Any]) -> tuple[int, int]:
    """Of the longest line, and of the longest word."""
    lines = [line for cell in cells for line in str(cell).splitlines()]
    words = [word for line in lines for word in line.split()]
    return max(map(cell_len, lines), default=1), max(map(cell_len, words), default=1)


def fitting(widths: Sequence[int], floors: Sequence[Sequence[int]], room: int) -> list[int]:
    """Widths whose sum is `room` at most: the widest goes down to its first floor, then all to the next one."""
    found = [min(width, room) for width in widths]
    for least in floors:
        while sum(found) > room and (wide := [n for n, width in enumerate(found) if width > least[n]]):
            found[max(wide, key=found.__getitem__)] -= 1
    return found


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are left-aligned and the rest (numbers) right-aligned."""
    made = _Fitting(title=Text(title) if title else None, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(f"{v:.4f}" if isinstance(v, float) else "" if v is None else str(v)) for v in row))
    return made


def rich_table(table: PageTable) -> Stacked:
    """A table for the terminal; the best value of each column is bold."""
    return Stacked(table)


class Stacked:
    """A table of a page: columns that find no room without breaking a number or a word follow below, beside the first
    column again."""

    def __init__(self, table: PageTable) -> None:
        self.table = table

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        yield Text(f"\n{self.table.title}", style="bold")
        for number, columns in enumerate(self._parts(options.max_width)):
            yield from [""] if number else []
            yield self._made(columns)
        if self.table.note:
            yield Text(self.table.note, style="table.caption")

    def _parts(self, room: int) -> list[list[int]]:
        """Which columns stand side by side: as many as there is room for, the first one always."""
        parts, least = [[0]], [self._made([column]).least()[0] for column in range(len(self.table.columns))]
        for column in range(1, len(self.table.columns)):
            widths = [least[each] for each in (*parts[-1], column)]
            if sum(widths) + between(widths) > room and len(parts[-1]) > 1:
                parts.append([0, column])
            else:
                parts[-1].append(column)
        return parts

    def _made(self, columns: Sequence[int]) -> _Fitting:
        made = _Fitting(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for column in columns:
            side: Literal["left", "right"] = "left" if column < self.table.left else "right"
            made.add_column(Text(self.table.columns[column]), justify=side, overflow="fold")
        for row in self.table.rows:
            cells = [row[column] for column in columns]
            made.add_row(*(Text("\n".join(cell.lines), style="bold" if cell.best else "") for cell in cells))
        return made


def between(widths: Sequence[int]) -> int:
    """Characters between and after columns."""
    return 2 * len(widths) - 1


def grid(rows: Sequence[Sequence[str]]) -> Table:
    """Indented columns without lines."""
    made = _Fitting.grid(padding=(0, 0, 0, 2), pad_edge=True, collapse_padding=False)
    for _ in rows[0] if rows else ():
        made.add_column(overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def is_command(text: str) -> bool:
    """Whether it has a command line, which must not be broken: then it could not be copied."""
    return re.search(r"\bbbqrec [a-z]|\bmkdir |\bpip install ", text) is not None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=not writes_all(sys.stdout)).translate(_ESCAPED)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
