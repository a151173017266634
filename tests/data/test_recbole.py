from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from sources import histories, read_source

from bbqrec_cli.data.sources.options.recbole import RecBoleOptions
from bbqrec_cli.data.sources.recbole import RecBole
from bbqrec_cli.errors import DataError, MissingFileError, UsageError

read = partial(read_source, "recbole")

LOG = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "u1\tpot\t5\t978300019\nu1\tcup\t2\t978300055\nu2\tcup\t4\t978301968\n"
)
ITEMS = (
    "item_id:token\ttitle:token\tgenre:token_seq\tyear:float\tvector:float_seq\n"
    'pot\t"Tea ""pot"""\tKitchen Tea\t1999.0\t0.5 -1\ncup\tCup\t\t\t\nhat\tHat\tWear\t2000.0\t1 1\n'
)
HEAD = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
TRAIN, VALID = HEAD + "u1\ta\tb\nu1\ta b\tc\nu2\tb\ta\n", HEAD + "u1\tb c\td\nu2\tb a\tc\n"
TEST = HEAD + "u1\tc d\ta\nu2\ta c\tb\n"
"""u1: a b c d a; u2: b a c b; lists are cut to two items."""


def sequences(made) -> dict[str, str]:
    return {user: "".join(items) for user, items in histories(made).items()}


def split(put, train=TRAIN, valid=VALID, test=TEST) -> None:
    for name, text in {"train": train, "valid": valid, "test": test}.items():
        put(f"toy/toy.{name}.inter", text)


def test_types_say_what_a_column_is(put, tmp_path, listener):
    put("toy/toy.inter", LOG)
    put("toy/toy.item", ITEMS)
    put("toy/toy.user", "user_id:token\tage:token\nu1\t30\n")
    put("toy/toy.kg", "")
    made, items = read(tmp_path / "toy", listener)
    assert (made.user_ids, made.item_ids) == (["u1", "u2"], ["pot", "cup"])
    assert made.timestamps.tolist() == [978300019, 978300055, 978301968]
    assert items.fields == {"title": ['Tea "pot"', "Cup"], "genre": ["Kitchen|Tea", ""], "year": ["1999.0", ""]}
    assert items.features["vector"].values.tolist() == [[0.5, -1], [0, 0]]
    assert items.features["vector"].present.tolist() == [True, False]
    assert "toy.user, toy.kg: not read; only interactions and items are used" in listener.logged


@pytest.mark.parametrize("name", ["title", "movie_title"])
def test_a_title_of_words_stays_whole(put, tmp_path, listener, name):
    put("toy/toy.inter", LOG)
    put("toy/toy.item", f"item_id:token\t{name}:token_seq\tclass:token_seq\npot\tToy Story\tA B\ncup\tHeat\tC\n")
    assert read(tmp_path / "toy", listener)[1].fields == {name: ["Toy Story", "Heat"], "class": ["A|B", "C"]}


def test_vectors_are_read_as_python_reads_floats(put, tmp_path, listener):
    cells = {"pot": "0.1 16777217 1e-46 -3.4e14 1_0", "cup": "0.30000001192092896 .5 -0 7e-5 2"}
    put("toy/toy.inter", LOG)
    put("toy/toy.item", "item_id:token\tvector:float_seq\n" + "".join(f"{i}\t{v}\n" for i, v in cells.items()))
    found = read(tmp_path / "toy", listener)[1].features["vector"].values
    expected = np.array([[float(number) for number in cell.split()] for cell in cells.values()], np.float32)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_ratings_and_separators(put, listener):
    path = put("toy.inter", LOG.replace("\t", ","))
    assert sequences(read(path, listener, min_rating=4)[0]) == {"u1": "pot", "u2": "cup"}


def test_without_times_lines_are_the_order(put, listener):
    path = put("toy.inter", "user_id:token\titem_id:token\nu\tb\nv\tc\nu\ta\n")
    assert sequences(read(path, listener)[0]) == {"u": "ba", "v": "c"}
    assert "no column of times" in listener.logged[0]


def test_quotes_that_are_not_balanced_are_text(put, tmp_path, listener):
    put("toy.inter", LOG)
    put("toy.item", 'item_id:token\ttitle:token\npot\t"The" pot\ncup\t"Cup\n')
    assert read(tmp_path, listener)[1].fields == {"title": ['"The" pot', '"Cup']}


def test_a_split_is_put_together(put, tmp_path, listener):
    split(put)
    assert sequences(read(tmp_path / "toy", listener)[0]) == {"u1": "abcda", "u2": "bacb"}
    put("toy/toy.inter", LOG)
    assert sequences(read(tmp_path / "toy", listener)[0]) == {"u1": "potcup", "u2": "cup"}  # the whole log wins


def test_a_split_without_lists(put, tmp_path, listener):
    head = "user_id:token\titem_id:token\n"
    split(put, head + "u\ta\nu\tb\nw\ta\n", head + "u\tc\n", head + "u\ta\n")
    assert sequences(read(tmp_path / "toy", listener)[0]) == {"u": "abca", "w": "a"}


@pytest.mark.parametrize(
    ("part", "text", "said"),
    [
        ("test", TEST.replace("u2\ta c\tb\n", ""), "user 'u2' has 1 validation and 0 test targets"),
        ("test", TEST + "u2\tc b\ta\n", "user 'u2' has 1 validation and 2 test targets"),
        (
            "valid",
            VALID.replace("b c\td", "c b\td"),
            "line 2: the items before the target of user 'u1'",
        ),
        ("train", TRAIN + "u3\ta b\tc\n", "user 'u3' has 0 validation and 0 test targets"),
        ("train", TRAIN + "u3\ta\n", "line 5: 2 columns"),
        ("train", TRAIN + "\ta\tb\n", "line 5: no user or no item"),
    ],
)
def test_another_split_is_refused(put, tmp_path, listener, part, text, said):
    split(put, **{part: text})
    with pytest.raises(DataError, match=said):
        read(tmp_path / "toy", listener)


def test_names_of_an_export_are_turned_back(put, tmp_path, listener):
    put("toy.inter", "user_id:token\titem_id:token\n0\t0\n0\t1\n")
    put("toy.item", "item_id:token\ta_b:token\n0\tx\n1\ty\n")
    put("toy.map.json", json.dumps({"items": {"0": "NA", "1": "a b"}, "fields": {"a_b": "a:b"}}))
    made, items = read(tmp_path, listener)
    assert (made.user_ids, made.item_ids, items.fields) == (["0"], ["NA", "a b"], {"a:b": ["x", "y"]})
    put("toy.map.json", '{"items": {"0": 1}}')
    with pytest.raises(DataError, match="'items' does not map names to names"):
        read(tmp_path, listener)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("toy.inter", "user_id:token\titem\nu\ta\n", "the column 'item' has none of the types token"),
        ("toy.inter", "", "empty"),
        ("toy.inter", LOG + "u3\tcup\n", "line 5"),
        ("toy.item", ITEMS + "pot\tagain\t\t\t\n", "line 5: item 'pot' appears twice"),
        ("toy.item", ITEMS + "\tagain\t\t\t\n", "line 5: no item id"),
        ("toy.item", ITEMS.replace("1 1", "1 one"), "line 4: vector is '1 one'; numbers"),
        ("toy.item", ITEMS.replace("cup\tCup\t\t\t", "cup\tCup\t\t\t1 2 3"), "for item"),
        ("toy.item", ITEMS.replace("0.5 -1", "nan -1"), "NaN or infinity in 1 of 2 items, first in item 'pot'"),
        ("toy.item", ITEMS.replace("0.5 -1", "1e39 -1"), "NaN or infinity in 1 of 2 items, first in item 'pot'"),
        (
            "toy.item",
            ITEMS.replace("0.5 -1", "1e20 -1"),
            r"a number beyond 1e\+15 in 1 of 2 items",
        ),
        ("toy.item", "name:token\npot\n", "no column of item ids among name"),
    ],
)
def test_what_is_wrong_is_named(put, tmp_path, listener, name, text, said):
    put("toy/toy.inter", LOG)
    put(f"toy/{name}", text)
    with pytest.raises(DataError, match=said):
        read(tmp_path / "toy", listener)


def test_which_files_are_meant(put, tmp_path, listener):
    with pytest.raises(MissingFileError, match=r"no X\.inter in it"):
        read(tmp_path, listener)
    put("a.train.inter", TRAIN)
    with pytest.raises(MissingFileError, match=r"no a\.valid\.inter, a\.test\.inter, and no a\.inter"):
        read(tmp_path, listener)
    put("a.inter", LOG)
    put("b.inter", LOG)
    with pytest.raises(DataError, match="holds the data sets a, b"):
        read(tmp_path, listener)
    with pytest.raises(UsageError, match="there are 2"):
        RecBole([tmp_path, tmp_path], RecBoleOptions(), seed=0, progress=listener)


def test_a_split_has_its_order(put, tmp_path, listener):
    split(put)
    with pytest.raises(UsageError, match="--ties, --min-rating"):
        read(tmp_path / "toy", listener, ties="item", min_rating=2)


def timed(rows: str) -> str:
    return "user_id:token\titem_id:token\ttimestamp:float\n" + rows


def test_a_split_without_lists_is_ordered_by_time_within_its_files(put, tmp_path, listener):
    train = timed("u\tc\t30\nw\ta\t7\nu\ta\t10\nu\tb\t20\n")
    split(put, train, timed("u\td\t40\n"), timed("u\te\t50\n"))
    made, _ = read(tmp_path / "toy", listener)
    assert (sequences(made), made.user_ids) == ({"u": "abcde", "w": "a"}, ["u", "w"])
    assert made.timestamps.tolist() == [10, 20, 30, 40, 50, 7]
    assert (made.parts, listener.warned) == (None, [])
    assert sequences(read(tmp_path / "toy", listener, order="file")[0])["u"] == "cabde"
    split(put, train, timed("u\td\t15\n"), timed("u\te\t50\n"))
    made, _ = read(tmp_path / "toy", listener)
    assert sequences(made)["u"] == "abcde", "the files go before the times"
    assert "1 users have a validation row that is older than a training row" in listener.warned[0]
    split(put, train, timed("u\td\tsoon\n"), timed("u\te\t50\n"))
    with pytest.raises(DataError, match="line 2: the time is 'soon'; 1970 or later is needed"):
        read(tmp_path / "toy", listener)
