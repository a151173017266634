"""Files of every kind, several files, and what is odd about typed columns."""

from __future__ import annotations

import gzip
import os
from datetime import date, datetime, timezone
from decimal import Decimal

import polars as pl
import pytest
import zstandard
from sources import histories

from bbqrec_cli.data.sources.files import read_items
from bbqrec_cli.data.sources.options.table import TableOptions
from bbqrec_cli.data.sources.table import InteractionTable
from bbqrec_cli.errors import DataError, MissingFileError, UsageError

SECOND = 1404172800  # 2014-07-01
CSV = f"user,item,timestamp\nu,b,{SECOND + 1}\nu,a,{SECOND}\nv,a,{SECOND + 2}\n"
FRAME = pl.DataFrame({"user": ["u", "u", "v"], "item": ["b", "a", "a"], "timestamp": [SECOND + n for n in (1, 0, 2)]})
EXPECTED = {"u": ["a", "b"], "v": ["a"]}, [SECOND, SECOND + 1, SECOND + 2]


def read(paths, listener, **options):
    source = InteractionTable([*paths], TableOptions(**options), seed=0, progress=listener)
    made = source.interactions()
    return histories(made), made.timestamps.tolist() if made.timestamps is not None else None


def save(frame: pl.DataFrame, path):
    kinds = {".parquet": frame.write_parquet, ".feather": frame.write_ipc, ".arrow": frame.write_ipc_stream}
    kinds.get(path.suffix, frame.write_ndjson)(path)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".arrow", ".jsonl"])
def test_kinds(tmp_path, listener, suffix):
    path = save(FRAME, tmp_path / f"log{suffix}")
    assert read([path], listener) == EXPECTED
    assert not listener.warned
    if suffix != ".jsonl":  # the first bytes tell, not the name
        other = path.rename(tmp_path / f"log{'.dat' if suffix != '.arrow' else '.ipc'}")
        assert read([other], listener) == EXPECTED
        odd = other.rename(tmp_path / f"a[1]*{other.suffix}")  # no pattern if there is such a file
        assert read([odd], listener) == EXPECTED


def test_compressed_texts(tmp_path, put, listener):
    """Two frames, as zstd appends them; the end of a file is missed."""
    half = CSV.encode()[:40]
    made = b"".join(zstandard.ZstdCompressor().compress(part) for part in (half, CSV.encode()[40:]))
    assert read([put("log.csv.zst", made)], listener) == EXPECTED
    lines = "".join(f"{row}\n" for row in FRAME.write_ndjson().splitlines())
    assert read([put("log.jsonl.gz", lines)], listener) == EXPECTED
    with pytest.raises(DataError, match=r"cut.csv.zst: not a whole Zstandard file \(it ends too early\)"):
        read([put("cut.csv.zst", made[:-4])], listener)
    with pytest.raises(DataError, match=r"bad.csv: not a whole Zstandard file"):
        read([put("bad.csv", made[:8] + b"garbage" + made[15:])], listener)
    with pytest.raises(DataError, match=r"x.csv.zst: not a Zstandard file in spite of its name") as caught:
        read([put("x.csv.zst", gzip.compress(CSV.encode()))], listener)
    assert caught.value.hint == "rename it to x.csv.gz"
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read([put("x.parquet", CSV)], listener)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_typed_files_are_not_read_compressed(tmp_path, put, listener, suffix):
    typed = save(FRAME, tmp_path / f"log{suffix}").read_bytes()
    for name, packed, unpack in (
        (f"a{suffix}.gz", gzip.compress(typed), "gunzip"),
        (f"b{suffix}.zst", zstandard.ZstdCompressor().compress(typed), "zstd -d"),
    ):
        (tmp_path / name).write_bytes(packed)
        with pytest.raises(DataError, match=rf"{name}: is compressed with (gzip|Zstandard)") as caught:
            read([tmp_path / name], listener)
        assert caught.value.hint == f"unpack it: {unpack} {tmp_path / name}"


def test_several_files_are_one_log(tmp_path, put, listener):
    """In the order in which they are given, those of a pattern by name; whatever their kinds."""
    first, second = put("logs/1.csv", CSV), save(FRAME.with_columns(item=pl.lit("z")), tmp_path / "logs" / "2.parquet")
    together = {"u": [*"azbz"], "v": ["a", "z"]}
    assert read([first, second], listener)[0] == together
    assert read([tmp_path / "logs" / "*"], listener)[0] == together
    assert read([second, first], listener)[0] == {"u": [*"zazb"], "v": ["z", "a"]}
    assert read([first, second], listener, order="file")[0] == {"u": [*"bazz"], "v": ["a", "z"]}
    source = InteractionTable([tmp_path / "logs" / "?.*"], TableOptions(), seed=0, progress=listener)
    assert source.files == [first, second]
    with pytest.raises(MissingFileError, match=r"none\*: no file fits"):
        read([tmp_path / "none*"], listener)
    with pytest.raises(UsageError, match=r"logs/\*\*.csv: "):
        read([tmp_path / "logs" / "**.csv"], listener)
    for again in (tmp_path / "logs" / "*", tmp_path / "logs" / ".." / "logs" / "1.csv"):
        with pytest.raises(UsageError, match=r"1.csv is named twice"):
            read([first, again], listener)


def test_a_file_with_other_columns_is_named(put, listener):
    first = put("1.csv", CSV)
    odd = put("2.csv", "user,thing,item,timestamp\nu,a,b,1404172800\n")
    with pytest.raises(DataError, match=r"2.csv: has 'thing', unlike the columns of 1.csv"):
        read([first, odd], listener)
    moved = put("3.csv", f"timestamp,item,user\n{SECOND + 9},c,w\n")
    assert read([first, moved], listener)[0] == EXPECTED[0] | {"w": ["c"]}
    bare, wide = put("4.csv", f"u,a,{SECOND}\n"), put("5.csv", f"u,a,5,{SECOND}\n")
    with pytest.raises(DataError, match=r"5.csv: has 4 columns, not the 3 of 4.csv"):
        read([bare, wide], listener)
    with pytest.raises(DataError, match=r"6.csv, line 2: timestamp is '2014-07-01'; a number or a date is needed"):
        read([first, put("6.csv", "user,item,timestamp\nu,a,2014-07-01\n")], listener)


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([date(2014, 7, 2), date(2014, 7, 1), date(2014, 7, 3)], "dates"),
        ([datetime(2014, 7, 1, 0, 0, n) for n in (1, 0, 2)], "dates"),
        ([datetime(2014, 7, 1, 0, 0, n, tzinfo=timezone.utc) for n in (1, 0, 2)], "dates"),
        ([SECOND + n + 0.25 for n in (1, 0, 2)], "seconds since 1970"),
        ([(SECOND + n) * 1000 for n in (1, 0, 2)], "milliseconds since 1970"),
        ([Decimal(SECOND + n) for n in (1, 0, 2)], "seconds since 1970"),
        ([f"2014-07-01T00:00:0{n}Z" for n in (1, 0, 2)], "dates"),
    ],
)
def test_types_of_times(tmp_path, listener, times, said):
    path = save(FRAME.with_columns(timestamp=pl.Series(times)), tmp_path / "log.parquet")
    found, seconds = read([path], listener)
    assert found == EXPECTED[0]
    assert seconds[0] == SECOND
    assert listener.logged == [f"log.parquet: times are read as {said}, of the year 2014"]


def test_nanoseconds_beside_milliseconds(tmp_path, listener):
    """The order is exact to the nanosecond, and files agree."""
    times = pl.Series([SECOND * 10**9 + 2, SECOND * 10**9 + 1, SECOND * 10**9 + 3])
    first = save(FRAME.with_columns(timestamp=times.cast(pl.Datetime("ns"))), tmp_path / "1.feather")
    second = FRAME.with_columns(timestamp=pl.Series([SECOND * 1000] * 3).cast(pl.Datetime("ms")), item=pl.lit("0"))
    assert read([first, save(second, tmp_path / "2.parquet")], listener)[0] == {"u": [*"00ab"], "v": ["0", "a"]}


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (pl.Series([3, -1, 3], dtype=pl.Int8), ["3", "-1"]),
        (pl.Series(["b", "a", "b"], dtype=pl.Categorical), ["b", "a"]),
        (pl.Series(["b", "a", "b"], dtype=pl.Enum(["a", "b"])), ["b", "a"]),
        (pl.Series([b"b", b"a", b"b"]), ["b", "a"]),
        (pl.Series([12.0, 7.0, 12.0]), ["12", "7"]),
        (pl.Series([Decimal("12.00"), Decimal("7.00"), Decimal("12.00")]), ["12", "7"]),
        (pl.Series([2**63, 1, 2**63], dtype=pl.UInt64), [str(2**63), "1"]),
    ],
)
def test_types_of_ids(tmp_path, listener, ids, names):
    path = save(FRAME.with_columns(item=ids), tmp_path / "log.feather")
    made = InteractionTable([path], TableOptions(order="file"), seed=0, progress=listener).interactions()
    assert made.item_ids == names
    floats = ["log.feather: item holds floats; an id such as 12.0 is read as 12"] if ids.dtype == pl.Float64 else []
    assert listener.logged == floats


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("user", ["u", None, "v"], "row 2: no user in {"),
        ("item", ["a", "b", " "], "row 3: no item in {"),
        ("item", [1.0, 1.5, None], "row 2: item is 1.5; an id is a text or a whole number"),
        ("item", [True, False, True], "row 1: item is True; an id is a text or a whole number"),
        ("item", [b"\xff", b"a", b"b"], r"row 1: item is b'\xff'; an id is a text or a whole number"),
        ("timestamp", [SECOND, None, SECOND], "row 2: timestamp is empty; a number or a date is needed"),
        ("timestamp", [1.0, float("nan"), 2.0], "row 2: timestamp is nan; a number or a date is needed"),
        ("timestamp", [1, 2, -1], "row 3: timestamp is -1; 1970 or later is needed"),
        ("timestamp", [date(2014, 7, 1), None, None], "row 2: timestamp is empty; a date like the first one is needed"),
        ("timestamp", [date(1969, 7, 1)] * 3, "row 1: timestamp is datetime.date(1969, 7, 1); 1970 or later is needed"),
        ("rating", [5, None, 4], "row 2: rating is empty; a number is needed"),
    ],
)
def test_cells_that_cannot_be_read(tmp_path, listener, column, values, says):
    frame = FRAME.with_columns(pl.Series("rating", [5, 4, 3])).with_columns(pl.Series(column, values))
    with pytest.raises(DataError) as caught:
        read([save(frame, tmp_path / "log.parquet")], listener, min_rating=1.0)
    assert caught.value.message.partition("log.parquet, ")[2].startswith(says)
    assert caught.value.hint


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".feather"])
def test_ratings_of_few_bits_are_those_that_were_written(tmp_path, listener, suffix):
    """4.1 in 32 bits is less than 4.1 in 64."""
    frame = FRAME.with_columns(pl.Series("rating", [4.1, 4.0, 4.2]))
    if suffix == ".csv":
        frame.write_csv(tmp_path / "log.csv")
    else:
        save(frame.with_columns(pl.col("rating").cast(pl.Float32)), tmp_path / f"log{suffix}")
    assert read([tmp_path / f"log{suffix}"], listener, min_rating=4.1)[0] == {"u": ["b"], "v": ["a"]}


def test_ids_of_few_bits(tmp_path, listener):
    """Whole numbers are ids as long as no other is the same in 32 bits; in an items file they are the same."""
    ids = pl.Series("item", [12.0, 2**24 - 1, 13.0], dtype=pl.Float32)
    path = save(FRAME.with_columns(ids), tmp_path / "log.parquet")
    assert read([path], listener)[0] == {"u": ["16777215", "12"], "v": ["13"]}
    items = save(pl.DataFrame({"item": ids, "price": ids + 0.5}), tmp_path / "items.parquet")
    assert read_items(items, id_column="item")["16777215"] == {"price": 2.0**24}
    path = save(FRAME.with_columns(ids + 1), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"row 2: item is 16777216.0; an id is a text or a whole number"):
        read([path], listener)


def test_rows_are_counted_over_blocks(tmp_path, listener, monkeypatch):
    from bbqrec_cli.data.sources import tables

    monkeypatch.setattr(tables, "ROWS", 10)
    frame = pl.DataFrame({"user": ["u"] * 99 + [None], "item": ["a"] * 100, "timestamp": [SECOND] * 100})
    with pytest.raises(DataError, match="row 100: no user in"):
        read([save(frame, tmp_path / "log.parquet")], listener)


def test_json_lines(put, listener):
    """Objects may hold more; what is no text and no number is refused, with its line."""
    rows = '{"user": 1, "item": 12.0, "timestamp": "2014-07-01", "tags": [1]}\n\n{"timestamp": "2014-07-01T01:00:00Z"'
    path = put("log.txt", rows + ', "item": "b", "user": "1"}\n')
    assert read([path], listener) == ({"1": ["12", "b"]}, [SECOND, SECOND + 3600])
    assert listener.logged[0] == "log.txt: item holds floats; an id such as 12.0 is read as 12"
    for bad, says in {
        '{"item": "a", "timestamp": "2014-07-01"}': "no user in {'item'",
        '{"user": true, "item": "a", "timestamp": "2014-07-01"}': "user is True; an id is a text or a whole number",
        '{"user": "u", "item": "a", "timestamp": null}': "timestamp is empty; a date like the first one is needed",
        '{"user": "u", "item": ': "not JSON",
    }.items():
        with pytest.raises(DataError) as caught:
            read([put("bad.jsonl", f'{rows}, "item": 1, "user": 2}}\n{bad}\n')], listener)
        assert f"bad.jsonl, line 4: {says}" in caught.value.message
    with pytest.raises(DataError, match=r"odd.jsonl, line 1: no column for time; the first object has 'user', 'item'"):
        read([put("odd.jsonl", '{"user": 1, "item": 2}\n')], listener)


def test_any_separator(put, listener):
    for between in ("^", "\x01", "||", "¦", "\t"):
        path = put("log.txt", CSV.replace(",", between))
        assert read([path], listener, separator="tab" if between == "\t" else between) == EXPECTED
    with pytest.raises(DataError, match="split at commas, the first line has") as caught:
        read([put("log.csv", CSV.replace(",", "^"))], listener)
    assert caught.value.hint.endswith("log.csv --separator CHARACTERS")
    for bad in ("", "\n", '"'):
        with pytest.raises(UsageError, match="cannot separate cells"):
            read([path], listener, separator=bad)


def test_ids_that_pandas_wrote_as_floats_are_warned_of(put, listener):
    path = put("log.csv", f"user,item,timestamp\n1.0,a,{SECOND}\n2.0,b,{SECOND}\n")
    assert read([path], listener)[0] == {"1.0": ["a"], "2.0": ["b"]}
    assert listener.warned[0].startswith("log.csv: the ids of users look like 1.0, as pandas writes whole numbers")


def test_float_ids_that_have_lost_digits_are_no_ids(put, listener):
    path = put("log.jsonl", f'{{"user": "u", "item": 9007199254740993.0, "timestamp": {SECOND}}}\n')
    with pytest.raises(DataError, match=r"log.jsonl, line 1: item is .*; an id is a text or a whole number"):
        read([path], listener)


def test_missing_columns_of_a_typed_file(tmp_path, listener):
    path = save(FRAME.rename({"user": "who"}), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"log.parquet: no column for user; the columns are 'who', 'item', 'timestamp'"):
        read([path], listener)
    assert read([path], listener, user_column="who") == EXPECTED
    with pytest.raises(DataError, match="no column for user"):
        read([path], listener, user_column="1")
    assert listener.logged[0] == "log.parquet: columns: who (user), item (item), timestamp (time)"


def test_a_folder_of_typed_files(tmp_path, listener):
    save(FRAME, tmp_path / "interactions.parquet")
    items = pl.DataFrame({"id": ["a", "b"], "title": ["A", None], "tags": [["x", "y"], []], "price": [1.5, None]})
    save(items.with_columns(thumbnail=pl.lit(b"\xff")), tmp_path / "items.feather")
    source = InteractionTable([tmp_path], TableOptions(), seed=0, progress=listener)
    made = source.interactions()
    assert made.item_ids == ["a", "b"]
    assert source.items(made.item_ids).fields == {"title": ["A", ""], "tags": ["x|y", ""], "price": ["1.5", ""]}


def test_ids_of_typed_items(tmp_path, listener):
    """12.0 there is the 12 of the interactions; rows are counted."""
    path = save(FRAME.with_columns(item=pl.Series([7, 12, 7])), tmp_path / "log.parquet")
    items = save(pl.DataFrame({"item": [12.0, 7.0], "title": ["T", "S"]}), tmp_path / "items.parquet")
    source = InteractionTable([path], TableOptions(items=items), seed=0, progress=listener)
    assert source.items(source.interactions().item_ids).fields == {"title": ["T", "S"]}
    for ids, says in (([1, 1], "row 2: item '1' appears twice"), ([1, None], "row 2: no item id among")):
        twice = save(pl.DataFrame({"item": ids}), tmp_path / "twice.parquet")
        with pytest.raises(DataError, match=says):
            InteractionTable([path], TableOptions(items=twice), seed=0, progress=listener).items(["1"])


def test_a_piece_without_names_is_named(put, listener):
    """Read by position, users would be items."""
    first = put("a.csv", "item,user,timestamp\ni1,u1,1600000001\ni2,u1,1600000002\n")
    piece = put("b.csv", "i1,u2,1600000004\ni2,u2,1600000005\n")
    for paths, says in (([first, piece], r"b\.csv: has no line of names, unlike the columns of a\.csv"),
                        ([piece, first], r"a\.csv: has a line of names, unlike the columns of b\.csv")):  # fmt: skip
        with pytest.raises(DataError, match=says):
            read(paths, listener)


def test_half_a_character_in_json_lines(put, listener):
    line = '{"user": "u0", "item": "ITEM", "timestamp": 1600000000}\n'
    lines = line.replace("ITEM", "i1") + line.replace("ITEM", "i\\ud800")
    with pytest.raises(DataError, match=r"line 2"):
        read([put("log.jsonl", lines)], listener)


def test_a_pipe_is_said_to_be_one(tmp_path, listener):
    """It exists, and its columns are read before its rows."""
    os.mkfifo(tmp_path / "log.csv")
    with pytest.raises(DataError, match=r"log\.csv: is a pipe or a device, which cannot be read twice"):
        read([tmp_path / "log.csv"], listener)
