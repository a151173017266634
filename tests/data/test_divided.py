"""Tables that are split already."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bbqrec_cli.data.sources.base import without_duplicates
from bbqrec_cli.data.sources.divided import NO_PART, parts_of_names
from bbqrec_cli.data.sources.options.table import TableOptions
from bbqrec_cli.data.sources.table import InteractionTable
from bbqrec_cli.errors import DataError, UsageError

ROWS = [  # user, item, time, part
    ("u1", "a", 1, "train"), ("u1", "b", 2, "Train"), ("u1", "c", 3, "VALID"), ("u1", "d", 4, "Test"),
    ("u2", "b", 9, "test"), ("u2", "a", 5, "training"), ("u2", "d", 6, "dev"), ("u2", "c", 8, "test"),
    ("u3", "d", 7, "test"),
]  # fmt: skip
EXPECTED = {"u1": "abcd", "u2": "adcb", "u3": "d"}
PARTS = {"u1": [0, 0, 1, 2], "u2": [0, 1, 2, 2], "u3": [2]}


def read(paths, listener, **options):
    source = InteractionTable(paths, TableOptions(**options), seed=0, progress=listener)
    if "split_column" not in options:
        source.divide()
    assert source.divided
    assert source.files == paths
    return source.interactions()


def by_user(made) -> tuple[dict[str, str], dict[str, list[int]]]:
    walks: dict[str, str] = dict.fromkeys(made.user_ids, "")
    parts: dict[str, list[int]] = {name: [] for name in made.user_ids}
    for user, item, part in zip(made.users, made.items, made.parts.tolist(), strict=True):
        walks[made.user_ids[user]] += made.item_ids[item]
        parts[made.user_ids[user]].append(part)
    return walks, parts


def table(rows, *, part: bool = True) -> str:
    lines = [",".join(map(str, row if part else row[:3])) for row in rows]
    return "\n".join(["user,item,timestamp" + (",set" if part else ""), *lines]) + "\n"


def files(put) -> list:
    places = {"train.csv": ("train", "training"), "valid.csv": ("valid", "dev"), "test.csv": ("test",)}
    return [
        put(name, table([row for row in ROWS if row[3].lower() in parts], part=False)) for name, parts in places.items()
    ]


def test_a_column_names_the_parts(put, listener):
    assert by_user(read([put("log.csv", table(ROWS))], listener, split_column="set")) == (EXPECTED, PARTS)
    assert not listener.warned


def test_three_files(put, listener):
    assert by_user(read(files(put), listener)) == (EXPECTED, PARTS)


def test_a_strange_name_is_refused(put, listener):
    rows = [*ROWS, ("u3", "a", 8, "holdout"), ("u3", "a", 9, "")]
    with pytest.raises(
        DataError, match=r"log\.csv, line 11: set is 'holdout'; train, valid \(validation, dev\) or test"
    ):
        read([put("log.csv", table(rows))], listener, split_column="set")
    with pytest.raises(DataError, match=r"line 11: set is ''; train"):
        read([put("log.csv", table([*ROWS, rows[-1]]))], listener, split_column="set")
    assert parts_of_names(["Val", " TEST ", "training", "holdout"]).tolist() == [1, 2, 0, NO_PART]


def test_a_missing_column(put, listener):
    with pytest.raises(DataError, match="no column for split") as caught:
        read([put("log.csv", table(ROWS))], listener, split_column="fold")
    assert "--split-column NAME" in caught.value.hint


def test_what_is_not_by_time_is_said(put, listener):
    """Training rows go before the test row, whatever their times."""
    rows = [("u1", "a", 10, "test"), ("u1", "b", 20, "train"), ("u1", "c", 5, "train"), ("u2", "a", 1, "train")]
    made = read([put("log.csv", table(rows))], listener, split_column="set")
    assert by_user(made) == ({"u1": "cba", "u2": "a"}, {"u1": [0, 0, 2], "u2": [0]})
    assert len(listener.warned) == 1
    assert "1 users have a test row that is older than a training or validation row" in listener.warned[0]


def test_without_times(put, listener):
    """The order of the files, and a part before the next one."""
    rows = [("u1", "a", 0, "test"), ("u1", "b", 0, "train"), ("u1", "c", 0, "train")]
    made = read([put("log.csv", table(rows))], listener, split_column="set", order="file")
    assert by_user(made) == ({"u1": "bca"}, {"u1": [0, 0, 2]})


def test_dates_and_numbers_do_not_mix(put, listener):
    paths = files(put)
    paths[2].write_text("user,item,timestamp\nu1,d,2014-07-01\n")
    with pytest.raises(DataError, match=r"test\.csv, line 2: timestamp is '2014-07-01'; a number or a date is needed"):
        read(paths, listener)


def test_without_the_word_three_files_are_one_log(put, listener):
    source = InteractionTable(files(put), TableOptions(), seed=0, progress=listener)
    assert not source.divided
    assert source.interactions().parts is None
    assert listener.warned == [
        "train.csv, valid.csv, test.csv are read as one log; --split given reads them as the parts of a split"
    ]


def test_files_that_are_no_split(put, listener):
    train, valid, test = files(put)
    for paths, said in (([train], "there is 1"), ([train, valid], "there are 2")):
        with pytest.raises(UsageError, match=f"three files are needed, .*; {said}"):
            read(paths, listener)
    with pytest.raises(UsageError, match=r"test\.csv, train\.csv, valid\.csv are not in this order"):
        read([test, train, valid], listener)
    other = [path.rename(path.with_name(f"{number}.csv")) for number, path in enumerate((train, valid, test))]
    assert by_user(read(other, listener)) == (EXPECTED, PARTS)


def test_a_column_in_several_files(put, listener):
    """Each row says its part, wherever it stands."""
    paths = [put("a.csv", table(ROWS[4:])), put("b.csv", table(ROWS[:4]))]
    walks, parts = by_user(read(paths, listener, split_column="set"))
    assert (walks, parts) == (EXPECTED, PARTS)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_typed_columns_and_json(tmp_path, listener, kind):
    users, items, times, names = (list(column) for column in zip(*ROWS, strict=True))
    frame = pl.DataFrame({"user": users, "item": items, "timestamp": times, "set": names})
    path = tmp_path / f"log.{kind}"
    if kind == "parquet":
        frame.with_columns(pl.col("set").cast(pl.Categorical)).write_parquet(path)
    else:
        frame.write_ndjson(path)
    assert by_user(read([path], listener, split_column="set")) == (EXPECTED, PARTS)


def test_ratings_that_are_left_out_leave_the_parts_in_step(put, listener):
    lines = [f"{user},{item},{time},{part},{4 if item == 'a' else 5}" for user, item, time, part in ROWS]
    path = put("log.csv", "\n".join(["user,item,timestamp,set,rating", *lines]))
    made = read([path], listener, split_column="set", min_rating=5.0)
    assert by_user(made) == ({"u1": "bcd", "u2": "dcb", "u3": "d"}, {"u1": [0, 1, 2], "u2": [1, 2, 2], "u3": [2]})
    assert made.left_out == {"ratings": 2}


def test_many_rows_are_sorted_by_user_part_and_time(tmp_path, listener, monkeypatch):
    """Against sorting by Python, in blocks of a few rows."""
    monkeypatch.setattr("bbqrec_cli.data.sources.base._PART", 64)
    monkeypatch.setattr("bbqrec_cli.data.sources.tables.ROWS", 100)
    rng = np.random.default_rng(0)
    rows = [(int(u), n, int(t), int(p)) for n, (u, t, p) in enumerate(rng.integers(0, (40, 5, 3), (1000, 3)))]
    users, items, times, parts = (list(column) for column in zip(*rows, strict=True))
    words = [("train", "valid", "test")[part] for part in parts]
    frame = pl.DataFrame({"user": users, "item": items, "timestamp": times, "set": words})
    frame.write_parquet(tmp_path / "log.parquet")
    made = read([tmp_path / "log.parquet"], listener, split_column="set", time_unit="s")
    order = {user: place for place, user in enumerate(dict.fromkeys(row[0] for row in rows))}
    wanted = sorted(rows, key=lambda row: (order[row[0]], row[3], row[2], row[1]))
    assert [int(made.item_ids[item]) for item in made.items] == [row[1] for row in wanted]
    assert made.parts.tolist() == [row[3] for row in wanted]
    assert made.timestamps.tolist() == [row[2] for row in wanted]


def test_filters_keep_the_parts(put, listener):
    made = read([put("log.csv", table(ROWS))], listener, split_column="set")
    kept = made.kept(np.array([made.item_ids[item] != "a" for item in made.items]), "a test")
    assert by_user(kept) == ({"u1": "bcd", "u2": "dcb", "u3": "d"}, {"u1": [0, 1, 2], "u2": [1, 2, 2], "u3": [2]})


def test_duplicates_across_the_parts(put, listener):
    """A test target that is a training interaction to the second is a repeat of it."""
    rows = [("u1", "a", 1, "train"), ("u1", "b", 2, "train"), ("u1", "c", 3, "valid"), ("u1", "a", 1, "test"),
            ("u1", "d", 3, "test"), ("u1", "d", 3, "test")]  # fmt: skip
    made = read([put("log.csv", table(rows))], listener, split_column="set")
    made = without_duplicates(made, "drop", listener)
    assert by_user(made) == ({"u1": "abcd"}, {"u1": [0, 0, 1, 2]})
