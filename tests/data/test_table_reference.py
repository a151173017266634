"""The table source against a slow reader of a few lines, on made-up tables: equal in every bit."""

from __future__ import annotations

import csv
import io
import math
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bbqrec_cli.data.sources import base, blocks, text_blocks
from bbqrec_cli.data.sources.options.table import TableOptions
from bbqrec_cli.data.sources.table import InteractionTable
from bbqrec_cli.errors import DataError
from bbqrec_cli.progress import SILENT


def slow(text: str, between: str = ",", *, dates: bool = False) -> tuple:
    """(user ids, item ids, users, items, seconds, moments) of a text with the columns user, item, timestamp.

    Raises: ValueError: a row that cannot be read.
    """
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True) if row]
    log = []
    for row in rows[1:]:
        if len(row) != 3:
            raise ValueError(row)
        user, item = (" ".join(cell.split()) for cell in row[:2])
        if not user or not item:
            raise ValueError(row)
        log.append((user, item, slow_time(row[2], dates=dates)))
    user_ids = list(dict.fromkeys(user for user, _, _ in log))
    log.sort(key=lambda row: (user_ids.index(row[0]), row[2]))  # stable
    item_ids = list(dict.fromkeys(item for _, item, _ in log))
    begins = [i == 0 or log[i][0::2] != log[i - 1][0::2] for i in range(len(log))]
    return (
        user_ids, item_ids, [user_ids.index(u) for u, _, _ in log], [item_ids.index(i) for _, i, _ in log],
        [math.floor(t) for _, _, t in log], list(np.cumsum(begins)),
    )  # fmt: skip


def slow_time(text: str, *, dates: bool) -> float:
    """Seconds since 1970. The test's numbers are all seconds."""
    if not dates:
        time = int(text) if text.isdecimal() else float(text)
        if not 0 <= time < 2**63:
            raise ValueError(text)
        return time
    found = datetime.fromisoformat(text.strip())
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()


def fast(path: Path, **options) -> tuple:
    made = InteractionTable([path], TableOptions(**options), seed=0, progress=SILENT).interactions()
    assert made.timestamps is not None
    assert made.timestamps.dtype == np.int64
    numbers = (made.users, made.items, made.timestamps, made.moments)
    return made.user_ids, made.item_ids, *(each.tolist() for each in numbers if each is not None)


@pytest.fixture
def small(monkeypatch):
    """Blocks of some bytes and rows, so that small tables have many."""
    monkeypatch.setattr(text_blocks, "BYTES", 40)
    monkeypatch.setattr(text_blocks, "_LONGEST", 1)
    monkeypatch.setattr(blocks, "_SLOW_ROWS", 3)
    monkeypatch.setattr(base, "_PART", 4)


IDS = st.sampled_from(
    ["u", "1", "01", "é", "a b", " a  b ", 'say "x"', "x,y", "12.0", "\u00a0u", "two\nlines", "x\x1f"]
)
SECONDS = st.integers(10**9, 10**9 + 5).map(str)
FLOATS = st.sampled_from(["1000000000.5", "1000000001.25", " 1000000003", "1e9", "1_000_000_002", "1000000000.125"])
DATES = st.sampled_from(
    ["2014-07-01", "2014-07-01 12:00:00", "2014-07-01T12:00:00", "2014-07-01 12:00:00.5", "2014-07-01T14:00:00+02:00"]
)
BROKEN = st.sampled_from(
    ["u,a\n", "u,a,1,2\n", ",a,1000000000\n", "u, ,1000000000\n", "u,a,\n", "u,a,-1\n", '"u"x,a,1\n']
)
AROUND = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(rows: list[tuple[str, str, str]], between: str, quoting: int, end: str) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=between, quoting=quoting, lineterminator=end)
    writer.writerows([("user", "item", "timestamp"), *rows])
    return out.getvalue()


@AROUND
@given(
    times=st.sampled_from([SECONDS, st.one_of(SECONDS, FLOATS), DATES]),
    data=st.data(),
    between=st.sampled_from([",", "\t", ";", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    blank=st.booleans(),
)
def test_any_table(tmp_path, small, times, data, between, quoting, end, blank):
    rows = data.draw(st.lists(st.tuples(IDS, IDS, times), min_size=1, max_size=30))
    text = written(rows, between, quoting, end)
    if blank:
        text = text.replace(end, end * 2)
    path = tmp_path / "log.csv"
    path.write_bytes(("\ufeff" + text).encode())
    dates = times is DATES
    assert fast(path, separator=between) == slow(text, between, dates=dates)


@AROUND
@given(
    rows=st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("ab"), SECONDS), max_size=12),
    broken=BROKEN,
    place=st.integers(0, 12),
)
def test_the_first_broken_line_is_found(tmp_path, small, rows, broken, place):
    good = [f"{','.join(row)}\n" for row in rows]
    lines = ["user,item,timestamp\n", *good[:place], broken, *good[place:]]
    path = tmp_path / "log.csv"
    path.write_text("".join(lines))
    with pytest.raises((ValueError, csv.Error)):
        slow("".join(lines))
    with pytest.raises(DataError, match=rf"log.csv, line {lines.index(broken) + 1}: "):
        fast(path)


@pytest.mark.slow
@AROUND
@given(rows=st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3), st.integers(10**9, 10**9 + 5)), min_size=1))
def test_typed_columns_say_the_same_as_text(tmp_path, rows):
    frame = pl.DataFrame(rows, schema={"user": pl.Int32, "item": pl.UInt64, "timestamp": pl.Int64}, orient="row")
    expected = slow(frame.write_csv())
    frame.write_parquet(tmp_path / "log.parquet")
    texts = frame.cast({"user": pl.String, "item": pl.String})
    texts.cast({"item": pl.Categorical}).write_ipc(tmp_path / "log.feather", compression="zstd")
    zoned = pl.from_epoch("timestamp").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
    texts.with_columns(zoned).write_ipc_stream(tmp_path / "log.arrow")
    texts.write_ndjson(tmp_path / "log.jsonl")
    for name in ("log.parquet", "log.feather", "log.arrow", "log.jsonl"):
        assert fast(tmp_path / name) == expected, name
