"""All output to the terminal: progress and notes on stderr, results on stdout, with --json nothing but JSON there."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table

from bbqrec_cli.errors import BBQRecError

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult

    from bbqrec_cli.pages.tables import Table as PageTable

NAME_WIDTH = 12
"""Characters that the first columns of a table keep on a narrow terminal."""


class _Task:
    def __init__(self, bar: Progress, task_id: Any) -> None:
        self._bar, self._id = bar, task_id

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        shown = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
        fields: dict[str, Any] = {"figures": shown} if shown else {}
        self._bar.update(self._id, advance=steps, **fields)


class _NoTask:
    def advance(self, steps: int = 1, **figures: float | str) -> None:
        pass


_CONTROLS = (*range(0, 9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that steer a terminal or turn the direction of writing; not the tab and the newline."""
_SHOWN = dict.fromkeys(_CONTROLS, "\N{REPLACEMENT CHARACTER}")
_ESCAPED = {code: f"\\u{code:04x}" for code in _CONTROLS if code > 31}
"""As JSON writes them; it escapes those below 32 by itself."""


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
        self._err = _Printing(file=cast(IO[str], _Stderr()), highlight=False)
        self._err.soft_wrap = not self._err.is_terminal
        self._out = _Results(highlight=False)
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
            yield _NoTask()
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
            self._out.print(each, markup=False) if isinstance(each, str) else self._out.print(each)

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
            self._err.print(f"  try: {error.hint}", markup=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are left-aligned and the rest (numbers) right-aligned."""
    from rich.text import Text

    made = Table(title=title or None, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(f"{v:.4f}" if isinstance(v, float) else "" if v is None else str(v)) for v in row))
    return made


def rich_table(table: PageTable) -> Fitted:
    """A table for the terminal; the best value of each column is bold."""
    return Fitted(table)


class Fitted:
    """A table that fits the terminal: words wrap at spaces, numbers do not, and columns that find no room follow below,
    beside the first column again."""

    def __init__(self, table: PageTable) -> None:
        self.table = table

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield Text(f"\n{self.table.title}", style="bold")
        for number, columns in enumerate(self._parts(options.max_width)):
            yield from [""] if number else []
            yield self._made(columns, options.max_width)
        if self.table.note:
            yield Text(self.table.note, style="table.caption")

    def _parts(self, room: int) -> list[list[int]]:
        """Which columns stand side by side: as many as there is room for, the first one always."""
        parts = [[0]]
        for column in range(1, len(self.table.columns)):
            least = [self._widths(each)[0] for each in (*parts[-1], column)]
            if sum(least) + between(least) > room and len(parts[-1]) > 1:
                parts.append([0, column])
            else:
                parts[-1].append(column)
        return parts

    def _widths(self, column: int) -> tuple[int, int]:
        """The least width in which a column breaks no word and no number, and the one in which it breaks no line. A
        word beyond NAME_WIDTH may be broken."""
        head, lines = self.table.columns[column], [line for row in self.table.rows for line in row[column].lines]
        words = [word for line in lines for word in line.split()] if column < self.table.left else []
        longest, widest = (max(map(cell_len, each), default=1) for each in (words, lines))
        least = min(longest, NAME_WIDTH) if column < self.table.left else widest
        least = max(least, *map(cell_len, head.split()), 1)
        return least, max(least, widest, cell_len(head))

    def _made(self, columns: Sequence[int], room: int) -> Table:
        """Some of the columns, with what room there is given to those that would break most."""
        from rich.box import SIMPLE_HEAD
        from rich.text import Text

        widths, wanted = map(list, zip(*map(self._widths, columns), strict=True))
        spare = room - between(widths) - sum(widths)
        while spare > 0 and widths != wanted:
            most = max(range(len(columns)), key=lambda place: wanted[place] / widths[place])
            widths[most], spare = widths[most] + 1, spare - 1
        if spare < 0:  # one column beside the first, and still too wide
            widths[-1] = max(1, widths[-1] + spare)
        made = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        for column, width in zip(columns, widths, strict=True):
            side: Literal["left", "right"] = "left" if column < self.table.left else "right"
            made.add_column(Text(self.table.columns[column]), overflow="fold", width=width, justify=side)
        for row in self.table.rows:
            cells = [row[column] for column in columns]
            made.add_row(*(Text("\n".join(cell.lines), style="bold" if cell.best else "") for cell in cells))
        return made


def between(widths: Sequence[int]) -> int:
    """Characters between and after columns."""
    return 2 * len(widths) - 1


def grid(rows: Sequence[Sequence[str]]) -> Table:
    """Indented columns without lines."""
    from rich.text import Text

    made = Table.grid(padding=(0, 0, 0, 2), pad_edge=True)
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).translate(_ESCAPED)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
