"""Long tables of text in blocks. w cells of a row.

Blocks that are surely what they seem, with w cells in each line and quotes only around whole cells, are read by polars.
All others go through `files.rows_of`, which also finds the line of an error.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from bbqrec_cli.data.sources.blocks import Block, Row, gathered
from bbqrec_cli.data.sources.files import rows_of, table_rows
from bbqrec_cli.data.sources.opening import reading

BYTES = 1 << 25
_LONGEST = 8
"""Blocks that a cell in quotes may go through."""
_QUOTE, _LINE_END = ord('"'), ord("\n")


def text_blocks(path: Path, width: int, between: str, places: Mapping[str, int], *, skip: int) -> Iterator[Block]:
    """The rows of a text table; see `Table.blocks`.

    Args:
        width: cells of a row.
        between: the separator, one ASCII character.
        skip: rows to leave out at the start.
    """
    given = line = 0
    with reading(path) as stream:
        for block in _whole_lines(stream):
            plain = None if block is None else _plain(block, width, between)
            if block is None or (plain is None and b'"' in block):
                # Where rows end is not certain: the rest is read row by row.
                slow = table_rows(path, names=False, between=between)
                yield from gathered(islice(slow, given + skip, None), places)
                return

            def rows(block: bytes = block, line: int = line, skip: int = skip) -> Iterator[tuple[int, list[str]]]:
                text = io.StringIO(block.decode(), newline="")
                return islice(rows_of(path, text, between, line=line, width=width), skip, None)

            found: Iterator[Block] = iter(())
            if plain:
                frame = _parsed(plain, width, between, places)[skip:]
                columns = {role: frame[_name(place)] for role, place in places.items()}
                found = iter([Block(columns, lambda row, rows=rows: _row(rows(), row, places))])  # type: ignore[misc]
            elif plain is None:
                found = gathered(rows(), places)
            for each in found:
                given += len(each)
                yield each
            given, skip = (given + skip, 0) if plain != b"" else (given, skip)
            line += block.count(b"\n")


def _row(rows: Iterator[tuple[int, list[str]]], row: int, places: Mapping[str, int]) -> Row:
    number, cells = next(islice(rows, row, None))
    return Row(f"line {number}", cells, {role: cells[place] for role, place in places.items()})


def _whole_lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Blocks that end where a line ends, outside of quotes; None in the end if a quote does not seem to close."""
    rest, mark = b"", b"\xef\xbb\xbf"
    while data := stream.read(BYTES):
        block = rest + data.removeprefix(mark)
        mark = b""
        end = _line_end(block)
        rest = block[end:]
        if end:
            yield block[:end]
        elif len(block) > _LONGEST * BYTES and b'"' in block:
            yield None
            return
    if rest:
        yield rest


def _line_end(block: bytes) -> int:
    """Where the last line that ends outside of quotes ends; 0 without any."""
    if b'"' not in block:
        return block.rfind(b"\n") + 1
    found = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero((found == _LINE_END) & (_inside(found) == 0))
    return int(ends[-1]) + 1 if len(ends) else 0


def _inside(block: np.ndarray) -> np.ndarray:
    """(bytes,) uint8: 1 from an opening quote to before the closing one; between the two of a doubled one, 0."""
    return np.cumsum(block == _QUOTE, dtype=np.uint8) & 1


def _plain(block: bytes, width: int, between: str) -> bytes | None:
    """The block with line ends of one kind and without blank lines, if each line surely has w cells; else None.

    Raises:
        UnicodeDecodeError: it is not UTF-8, be it in a column that is not read.
    """
    if not block.isascii():
        block.decode()
    if b"\r" in block:
        if block.count(b"\r") != block.count(b"\r\n"):
            return None
        block = block.replace(b"\r\n", b"\n")
    if not block.endswith(b"\n"):
        block += b"\n"
    if b'"' not in block and (b"\n\n" in block or block.startswith(b"\n")):
        block = re.sub(rb"\n+", b"\n", block).lstrip(b"\n")
        if not block:
            return block
    found = np.frombuffer(block, np.uint8)
    marks = (found == _LINE_END) | (found == ord(between))
    if b'"' in block:
        inside = _inside(found)
        if not _well_quoted(found, marks, inside):
            return None
        marks &= inside == 0
    kinds = found[marks]
    if len(kinds) % width:
        return None
    ends = kinds.reshape(-1, width) == _LINE_END
    return block if ends[:, -1].all() and not ends[:, :-1].any() else None


def _well_quoted(block: np.ndarray, marks: np.ndarray, inside: np.ndarray) -> bool:
    """Whether quotes stand only at the ends of cells, or doubled inside of quotes, and the last one closes.

    marks: separators and line ends, (bytes,) bool, wherever they are; the block ends with a line end.
    """
    ends = marks | (block == _QUOTE)
    places = np.flatnonzero(block == _QUOTE)
    opening = inside[places] == 1
    before, after = places[opening] - 1, places[~opening] + 1
    return bool(not inside[-1] and ends[before[before >= 0]].all() and ends[after].all())


def _parsed(block: bytes, width: int, between: str, places: Mapping[str, int]) -> pl.DataFrame:
    """The columns at `places`, called column_1 (that at 0) and so on; texts without null."""
    names = [_name(place) for place in range(width)]
    return pl.read_csv(
        io.BytesIO(block), has_header=False, separator=between, quote_char='"' if b'"' in block else None,
        schema=dict.fromkeys(names, pl.String), columns=[names[place] for place in sorted(set(places.values()))],
    ).fill_null("")  # fmt: skip


def _name(place: int) -> str:
    return f"column_{place + 1}"
