"""Tables that are split already."""

from __future__ import annotations

import numpy as np
import pytest

from bbqrec_cli.data.sources.divided import parts_of_names
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
    with pytest.raises(DataError, match="set is 'holdout' in the first of 2 rows that name no part"):
        read([put("log.csv", table(rows))], listener, split_column="set")
    assert parts_of_names(["Val", " TEST ", "training"], "", "set").tolist() == [1, 2, 0]


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
    with pytest.raises(DataError, match="dates in some of the three files and numbers in others"):
        read(paths, listener)


def test_a_column_and_files_contradict(put, listener):
    with pytest.raises(UsageError, match="split-column needs one file"):
        read(files(put), listener, split_column="set")


def test_filters_keep_the_parts(put, listener):
    made = read([put("log.csv", table(ROWS))], listener, split_column="set")
    kept = made.kept(np.array([made.item_ids[item] != "a" for item in made.items]), "a test")
    assert by_user(kept) == ({"u1": "bcd", "u2": "dcb", "u3": "d"}, {"u1": [0, 1, 2], "u2": [1, 2, 2], "u3": [2]})
