from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import ClassVar

import pytest
from sources import histories, read_source

from bbqrec_cli.config import MethodConfig
from bbqrec_cli.data.sources import times
from bbqrec_cli.data.sources.options.table import TableOptions
from bbqrec_cli.data.sources.registry import SOURCES, published_source
from bbqrec_cli.data.sources.table import InteractionTable
from bbqrec_cli.errors import DataError, MissingFileError, UsageError

read = partial(read_source, "table")

ROWS = "user,item,timestamp,rating\nu2,b,30,5\nu1,a,20,3\nu2,a,10,4\nu1,c,20,1\nu1,b,5.9,4.5\n"


@pytest.mark.parametrize("name", ["interactions.csv", "interactions.tsv.gz"])
def test_each_users_interactions_by_time(put, tmp_path, listener, name):
    """Equal times keep the file's order: u1 takes a before c."""
    put(name, ROWS.replace(",", "\t") if "tsv" in name else ROWS)
    interactions, items = read(tmp_path, listener)
    assert histories(interactions) == {"u2": ["a", "b"], "u1": ["b", "a", "c"]}
    assert interactions.timestamps.tolist() == [10, 30, 5, 20, 20]
    assert (items.fields, items.images) == ({}, [])


def test_parts_of_a_second_count(put, listener):
    path = put("log.csv", "user,item,timestamp\nu1,c,100.75\nu1,b,100.25\nu1,a,100\n")
    interactions, _ = read(path, listener)
    assert histories(interactions) == {"u1": ["a", "b", "c"]}
    assert interactions.timestamps.tolist() == [100, 100, 100]


def test_named_columns_and_ratings(put, listener):
    path = put("log.csv", "when,who,stars,what\n1,u1,5,a\n2,u1,3.9,b\n3,u1,4,c\n")
    names = {"user_column": "who", "item_column": "what", "time_column": "when", "rating_column": "stars"}
    assert histories(read(path, listener, **names, min_rating=4.0)[0]) == {"u1": ["a", "c"]}
    assert histories(read(path, listener, **names)[0]) == {"u1": ["a", "b", "c"]}


def test_items_and_pictures_of_a_folder(put, tmp_path, listener):
    put("interactions.csv", ROWS)
    put("items.csv", "item,title,colour\nc,Cup,red\na,Apple,\nz,Zebra,black\n")
    put("images/a.png", b"A")
    _, items = read(tmp_path, listener)  # in the order a, b, c of their first appearance
    assert items.fields == {"title": ["Apple", "", "Cup"], "colour": ["", "", "red"]}
    assert items.images == [b"A", b"", b""]
    assert listener.warned == ["items.csv: 1 of 3 items have no entry, so no title and no text"]


def test_two_fields_of_one_stored_name(put, tmp_path, listener):
    put("interactions.csv", ROWS)
    put("items.csv", "item,a/b,a_b\na,x,\nb,y,\n")
    with pytest.raises(DataError, match="'a/b' and 'a_b' would both be stored as 'a_b'"):
        read(tmp_path, listener)


def test_pictures_by_their_paths_in_the_items_file(put, tmp_path, listener):
    path = put("log.csv", ROWS)
    put("more/pictures/first.png", b"A")
    items_file = put("more/items.csv", "id,title,image\na,Apple,pictures/first.png\nb,Bed,\nc,Cup,pictures/none.png\n")
    _, items = read(path, listener, items=items_file)
    assert items.images == [b"A", b"", b""]
    assert items.fields == {"title": ["Apple", "Bed", "Cup"]}  # the path is no attribute
    assert "1 pictures do not exist and count as missing" in listener.warned[0]
    put("other/c.jpg", b"C")
    assert read(path, listener, items=items_file, images=tmp_path / "other")[1].images == [b"", b"", b"C"]


def test_paths_of_which_none_is_there(put, listener):
    path, items_file = put("log.csv", ROWS), put("items.csv", "id,image\na,x/a.png\nb,x/b.png\n")
    with pytest.raises(DataError, match=r"items.csv: none of the 2 pictures exists, the first: .*x/a.png") as caught:
        read(path, listener, items=items_file)
    assert "relative to the items file" in caught.value.hint


def test_addresses_are_no_paths(put, listener):
    path, items_file = put("log.csv", ROWS), put("items.csv", "id,image\na,https://shop.example/a.png\nb,\nc,\n")
    _, items = read(path, listener, items=items_file)
    assert (items.images, items.fields["image"][0]) == ([], "https://shop.example/a.png")
    assert listener.warned == ["items.csv: its field 'image' holds URLs; pictures are not downloaded"]


def test_pictures_in_the_table_are_no_paths(put, listener):
    """Nor a field: they would be in every later file."""
    picture = f"data:image/png;base64,{'iVBORw0KGgo' * 500}"
    path, items_file = put("log.csv", ROWS), put("items.csv", f'id,title,image\na,A,"{picture}"\nb,B,\nc,C,\n')
    _, items = read(path, listener, items=items_file)
    assert (items.images, set(items.fields)) == ([], {"title"})
    assert listener.warned == ["items.csv: its field 'image' holds pictures, not their paths; it is left out"]


SECONDS = 1404172800  # 2014-07-01


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (["1404172800", "1404172801", "1404172802"], "seconds since 1970, of the year 2014"),
        (["1404172800.25", "1404172800.5", "1404172802"], "seconds since 1970, of the year 2014"),
        (["1404172800000", "1404172800001", "1404172802999"], "milliseconds since 1970, of the year 2014"),
        (["1404172800000000", "1404172800000001", "1404172802000000"], "microseconds since 1970, of the year 2014"),
        (["1404172800000000000", "1404172800000000001", "1404172802000000000"], "nanoseconds since 1970, of the y"),
        ([" 1404172800000000000", " 1404172800000000001", "1404172802000000000 "], "nanoseconds since 1970, of the y"),
        (["2014-07-01", "2014-07-01 00:00:01", "2014-07-01T02:00:02+02:00"], "dates, of the year 2014"),
        (["2014/07/01", "2014-07-01T00:00:00.5Z", "2014-07-01 00:00:02 UTC"], "dates, of the year 2014"),
        (["20140701000000", "20140701000001", "20140701000002"], "dates such as 20140701000002, of the year 2014"),
    ],
)
def test_units_and_dates_are_recognised_and_said(put, listener, times, said):
    """In the file the last comes first; the order is exact to the last nanosecond."""
    rows = [f"u,{item},{time}" for item, time in zip("abc", times, strict=True)]
    path = put("log.csv", "\n".join(["user,item,timestamp", *reversed(rows)]))
    interactions, _ = read(path, listener)
    assert histories(interactions) == {"u": ["a", "b", "c"]}
    assert interactions.timestamps[0] == SECONDS
    assert interactions.timestamps[2] == SECONDS + 2
    assert listener.logged[0].startswith(f"log.csv: times are read as {said}")
    assert listener.warned == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2014-07-01T12:00:00Z", 43200), ("2014-07-01T12", 43200), ("2014-07-01 12:00:00.25", 43200.25),
        ("2014-07-01T1200", 43200), ("20140701T120000Z", 43200), ("2014-07-01 12:00:00,1234567", 43200.123456),
        ("2014-07-01T12:00:00+0200", 36000), ("2014-07-01T12:00-02:30", 52200), ("2014-07-01 12:00+02", 36000),
        ("2014-07-01 25:00", None), ("2014-13-01", None), ("2014-07-01 12:00+2", None),
    ],
)  # fmt: skip
def test_forms_of_dates_whatever_the_python(text, seconds, monkeypatch):
    """Without Python's own reader, whose forms differ from version to version, but for the one of all versions."""

    class Earlier(datetime):
        @classmethod
        def fromisoformat(cls, form):
            if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}([+-]\d\d:\d\d)?", form):
                raise ValueError
            return datetime.fromisoformat(form)

    expected = None if seconds is None else (SECONDS * 10**6 + round(seconds * 10**6))
    assert times.date(text) == expected
    monkeypatch.setattr(times, "datetime", Earlier)
    assert times.date(text) == expected


def test_days_without_separators_and_counters(put, listener):
    """20140701 as seconds would be a day of 1970; small numbers only say an order."""
    interactions, _ = read(put("log.csv", "user,item,timestamp\nu,a,20140702\nu,b,20140701\n"), listener)
    assert interactions.timestamps.tolist() == [SECONDS, SECONDS + 86400]
    read(put("log.csv", ROWS), listener)
    assert listener.logged[-1] == "log.csv: times are read as a counter"
    assert listener.warned == []


def test_a_unit_that_is_named_is_taken_and_implausible_years_are_said(put, listener):
    path = put("log.csv", "user,item,timestamp\nu,a,1588615855070\nv,b,1588615855071\n")
    assert read(path, listener, time_unit="ms")[0].timestamps.tolist() == [1588615855, 1588615855]
    assert listener.warned == []
    assert read(path, listener, time_unit="s")[0].timestamps.tolist() == [1588615855070, 1588615855071]
    assert listener.warned == [
        "log.csv: 2 of 2 times are of implausible years, the first of 52311 (user u, item a); is --time-unit right?"
    ]
    mixed = put("log.csv", "user,item,timestamp\nu,a,1588615855\nu,b,1588615856\nu,c,1588615857000\n")
    read(mixed, listener)
    assert "1 of 3 times are of implausible years" in listener.warned[1]


def test_the_first_second_of_a_year_belongs_to_it(put, listener):
    read(put("log.csv", "user,item,timestamp\nu,a,946684800\nu,b,1009843199\n"), listener)
    assert listener.logged == ["log.csv: times are read as seconds since 1970, of the years 2000 to 2001"]
    read(put("log.csv", "user,item,timestamp\nu,a,2014-01-01\nu,b,2914-01-01\n"), listener)
    assert listener.warned == ["log.csv: 1 of 2 times are of implausible years, the first of 2914 (user u, item b)"]


def test_exact_duplicates(put, listener):
    """u has a three times in one second, and once more later."""
    path = put("log.csv", "user,item,timestamp\nu,a,100\nu,b,100\nu,a,100\nu,a,100\nu,a,200\nv,a,100\n")
    found = {how: histories(read(path, listener, duplicates=how)[0]) for how in ("keep", "drop", "first", "last")}
    assert found == {
        "keep": {"u": [*"abaaa"], "v": ["a"]},
        "drop": {"u": [*"aba"], "v": ["a"]},
        "first": {"u": [*"ab"], "v": ["a"]},
        "last": {"u": [*"ba"], "v": ["a"]},
    }
    assert len(listener.warned) == 1
    assert listener.warned[0].startswith("2 of 6 interactions repeat user, item and time of another one")
    said = [line for line in listener.logged if "repeat" in line]
    assert said[0] == "2 of 6 interactions repeat user, item and time of another one and are left out"
    assert said[1:] == ["3 of 6 interactions repeat user and item of another one and are left out"] * 2
    parts = put("log.csv", "user,item,timestamp\nu,a,100.1\nu,a,100.2\n")
    assert len(read(parts, listener, duplicates="drop")[0].items) == 2  # another time


@pytest.mark.parametrize("ties", ["file", "item", "random"])
def test_ties(put, listener, ties):
    """Only --ties file hangs on the order of the lines; random hangs on the seed."""
    rows = [f"u{user},{item},100" for user in range(5) for item in "cadbe"]

    def order(lines, seed=0):
        path = put("log.csv", "\n".join(["user,item,timestamp", *lines]))
        made = InteractionTable([path], TableOptions(ties=ties), seed=seed, progress=listener).interactions()
        return histories(made)

    first, other = order(rows), order(rows[::-1])
    assert (first == other) == (ties != "file")
    assert first["u0"] == {"file": [*"cadbe"], "item": [*"abcde"]}.get(ties, first["u0"])
    assert (order(rows, seed=1) == first) == (ties != "random")
    assert sorted(first["u3"]) == [*"abcde"]
    grown = order([*rows, "a,d,100", "a,x,100"])
    assert {user: grown[user] for user in first} == first, "what is added later changes no order"
    later = order([row.replace(",100", ",200") for row in rows])
    assert (later == first) == (ties != "random"), "a basket that is bought again has another order"


def test_random_ties_are_even(put, listener):
    """Each of the items is first for about as many users, whatever the seed; equal rows stay together."""
    lines = [f"u{user},{item},100" for user in range(3000) for item in "abca"]
    path = put("log.csv", "\n".join(["user,item,timestamp", *lines]))
    for seed in (0, 1, 1 << 40):
        made = InteractionTable([path], TableOptions(ties="random"), seed=seed, progress=listener).interactions()
        orders = ["".join(names) for names in histories(made).values()]
        assert set(orders) == {"aabc", "aacb", "baac", "bcaa", "caab", "cbaa"}
        assert all(400 < orders.count(order) < 600 for order in set(orders))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "userId,movieId,rating,timestamp\n1,10,5,200\n1,20,3,100\n"),
        ("x.csv", "User_ID,Item_ID,TS\n1,10,200\n1,20,100\n"),
        ("x.csv", "uid;iid;ts\n1;10;200\n1;20;100\n"),
        ("x.txt", "customer|product|date\n1|10|2014-01-02\n1|20|2014-01-01\n"),
        ("x.csv", "user, item ,timestamp\n1, 10 ,200\n1,20,100\n"),
        ("x.inter", "user_id:token\titem_id:token\ttimestamp:float\n1\t10\t200.0\n1\t20\t100.0\n"),
        ("ratings.dat", "1::10::5::978300761\n1::20::3::978300760\n"),
        ("u.data", "1\t10\t5\t978300761\n1\t20\t3\t978300760\n"),
        ("x.csv", "1,10,978300761\n1,20,978300760\n"),
        ("x.dat", "user item timestamp\n1 10   200\n1 20 100\n"),
    ],
)
def test_usual_names_and_separators(put, listener, name, text):
    assert histories(read(put(name, text), listener)[0]) == {"1": ["20", "10"]}


def test_what_was_recognised_is_said(put, listener):
    read(put("x.csv", "uid;iid;ts\n1;10;200\n"), listener)
    assert listener.logged[0] == "x.csv: columns, separated by semicolons: uid (user), iid (item), ts (time)"
    path = put("r.dat", "1::10::5::978300760\n")
    read(path, listener)
    assert listener.warned[0].startswith("r.dat: no line of names; its columns are read as 1 user, 2 item, 4 time")
    swapped = read(path, listener, user_column="2", item_column="1")[0]
    assert (swapped.user_ids, swapped.item_ids) == (["10"], ["1"])
    assert histories(read(path, listener, min_rating=5.0)[0]) == {"1": ["10"]}


def test_columns_by_number(put, listener):
    """Numbers mean that there is no line of names, whatever the cells look like."""
    path = put("pairs.txt", "a u\nb u\n")
    made = read(path, listener, user_column="2", item_column="1", order="file")[0]
    assert histories(made) == {"u": ["a", "b"]}
    with pytest.raises(DataError, match="no column for user"):
        read(path, listener, user_column="3", item_column="1", order="file")


def test_no_time_column(put, listener):
    path = put("my log.csv", "user,what\nu,c\nu,a\nu,b\nu,a\n")
    with pytest.raises(DataError, match="no column for item, time") as caught:
        read(path, listener)
    command = f"bbqrec prepare table '{path}' --item-column NAME"
    assert caught.value.hint == f"{command} --time-column NAME; without times: {command} --order file"
    made = read(path, listener, item_column="what", order="file")[0]
    assert (histories(made), made.timestamps) == ({"u": [*"caba"]}, None)
    assert histories(read(path, listener, item_column="what", order="file", duplicates="last")[0]) == {"u": [*"cba"]}
    with pytest.raises(UsageError, match="--duplicates drop compares times"):
        read(path, listener, order="file", duplicates="drop")
    with pytest.raises(UsageError, match="--ties random orders equal times"):
        read(path, listener, order="file", ties="random")


def test_the_hint_keeps_the_columns_that_were_given(put, listener):
    path = put("log.csv", "who,sku,when\nu,a,1\n")
    with pytest.raises(DataError, match=r"no column for item \('what'\), time") as caught:
        read(path, listener, user_column="who", item_column="what")
    command = f"bbqrec prepare table {path} --user-column who --item-column NAME"
    assert caught.value.hint == f"{command} --time-column NAME; without times: {command} --order file"


def test_one_column_is_one_thing(put, listener):
    path = put("log.csv", "sku,name,timestamp\na,b,1\n")
    with pytest.raises(UsageError, match="the column 'sku' is read as user and item") as caught:
        read(path, listener, user_column="sku", item_column="sku")
    assert caught.value.hint == "--user-column NAME --item-column NAME"


def test_a_folder_of_recbole(put, tmp_path, listener):
    put("ml.inter", "user_id:token\titem_id:token\ttimestamp:float\n1\t10\t2\n1\t20\t1\n")
    put("ml.item", "item_id:token\ttitle:token_seq\n10\tA pot\n20\tA cup\n")
    interactions, items = read(tmp_path, listener)
    assert histories(interactions) == {"1": ["20", "10"]}
    assert items.fields == {"title": ["A cup", "A pot"]}


def test_the_items_have_their_id_where_the_interactions_have_it(put, listener):
    """Not in `id`, which counts rows here."""
    path = put("r.csv", "userId,movieId,timestamp\n1,2,5\n1,3,6\n")
    _, found = read(path, listener, items=put("m.csv", "id,movie_id,title\n1,3,Three\n2,2,Two\n3,1,One\n"))
    assert found.fields["title"] == ["Two", "Three"]


@pytest.mark.parametrize("items", ["item,title\n pot  ,Pot\n", '{"pot ": {"title": "Pot"}}'])
def test_spaces_at_the_ends_of_ids_count_nowhere(put, listener, items):
    path = put("log.csv", "user,item,timestamp\nu ,pot ,1\nu, pot,2\n")
    file = put("items.json" if items.startswith("{") else "items.csv", items)
    interactions, found = read(path, listener, items=file)
    assert (interactions.user_ids, interactions.item_ids) == (["u"], ["pot"])
    assert found.fields == {"title": ["Pot"]}


def test_long_cells(put, listener):
    path = put("log.csv", "user,item,timestamp\nu,a,1\n")
    found = read(path, listener, items=put("items.csv", "item,title\na," + "x" * 140_000 + "\n"))[1]
    assert len(found.fields["title"][0]) == 140_000


def test_a_folder_of_other_names_is_told_what_to_type(put, tmp_path, listener):
    put("ratings.csv", ROWS)
    with pytest.raises(MissingFileError) as caught:
        read(tmp_path, listener)
    assert caught.value.hint == f"bbqrec prepare table {tmp_path}/ratings.csv"
    put("films.csv", "item,title\n")
    with pytest.raises(MissingFileError) as caught:
        read(tmp_path, listener)
    assert "name one of films.csv, ratings.csv" in caught.value.hint


@pytest.mark.parametrize(
    ("names", "source"),
    [
        (["ratings.csv", "movies.csv"], "movielens"),
        (["ratings.dat", "movies.dat"], "movielens"),
        (["u.data", "u.item"], "movielens"),
        (["yelp_academic_dataset_review.json"], "yelp"),
        (["All_Beauty.jsonl.gz"], "amazon"),
        (["Software_5.json.gz"], "amazon"),
        (["reviews_Beauty_5.json.gz"], "amazon"),
        (["sequences.txt"], "s3rec"),
        (["Toys.inter.json"], "letter"),
    ],
)
def test_a_published_set_is_told_its_source(put, tmp_path, listener, names, source):
    for name in names:
        put(name, ROWS)
    with pytest.raises(MissingFileError, match=f"looks like what prepare {source} reads") as caught:
        read(tmp_path, listener)
    assert caught.value.hint == f"bbqrec prepare {source} {tmp_path}"


@dataclass(frozen=True, kw_only=True)
class Halves(MethodConfig):
    """A source of a plugin, whose data are two files."""

    name: ClassVar[str] = "halves"
    implementation: ClassVar[str] = "halves:Halves"
    own_files: ClassVar[tuple[str, ...]] = (r"left\.\w+ right\.\w+",)


def test_a_plugin_says_which_files_are_its_own(put, tmp_path):
    SOURCES.add(Halves)
    try:
        put("left.txt", "")
        assert published_source(tmp_path) is None
        put("right.txt", "")
        assert published_source(tmp_path) == "halves"
        with pytest.raises(UsageError) as caught:
            SOURCES.config(str(tmp_path))
        assert caught.value.hint == f"bbqrec prepare halves {tmp_path}"
    finally:
        SOURCES.remove("halves")


def test_lines_of_users_belong_to_another_source(put, listener):
    with pytest.raises(DataError, match="no column for user, item, time; split at spaces") as caught:
        read(put("x.txt", "u1 i1 i2 i3\nu2 i3 i4\n"), listener)
    assert "bbqrec prepare s3rec" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; a line with the names of the columns is needed first"),
        ("user,item,timestamp\n", "no interactions in it"),
        (
            "who;what\nu;a\n",
            "line 1: no column for user, item, time; split at semicolons, the first line has 'who', 'wh",
        ),
        ("user item\nu a\n", "line 1: no column for time; split at spaces, the first line has 'user', 'item'"),
        ("user,item,timestamp\nu,a,1\n,b,2\n", "line 3: no user in"),
        ("user,item,timestamp\nu,,1\n", "line 2: no item in"),
        (
            "user,item,timestamp\nu,a,7\nu,a,2014-01-01\n",
            "line 3: timestamp is '2014-01-01'; a number or a date is needed",
        ),
        (
            "user,item,timestamp\nu,a,2014-01-01\nu,a,7\n",
            "line 3: timestamp is '7'; a date like the first one is needed",
        ),
        ("user,item,timestamp\nu,a,01/07/2014\n", "line 2: timestamp is '01/07/2014'; a number or a date is needed"),
        ("user,item,timestamp\nu,a,31.12.2014 10:00\n", "line 2: timestamp is '31.12.2014 10:00'; a number or a date"),
        ("user,item,timestamp\nu,a,1969-12-31\n", "line 2: timestamp is '1969-12-31'; 1970 or later is needed"),
        ("user,item,timestamp\nu,a,nan\n", "line 2: timestamp is 'nan'; a number or a date is needed"),
        ("user,item,timestamp\nu,a,-1\n", "line 2: timestamp is '-1'; 1970 or later is needed"),
        ("user,item,timestamp\nu,a,1e300\n", "line 2: timestamp is '1e300'; a number or a date is needed"),
    ],
)
def test_malformed_tables(put, listener, text, message):
    with pytest.raises(DataError, match=rf"log.csv(,|:) {message}") as caught:
        read(put("log.csv", text), listener)
    assert caught.value.hint


def test_ratings_that_are_none(put, listener):
    path = put("log.csv", "user,item,timestamp,rating\nu,a,1,5\nu,b,2,good\n")
    comma = put("comma.csv", "user;item;timestamp;rating\nu;a;1;2,5\n")
    with pytest.raises(DataError, match="line 2: rating is '2,5'; a number is needed") as caught:
        read(comma, listener, min_rating=1.0)
    assert caught.value.hint.startswith("2.5 with a point, in all lines")
    with pytest.raises(DataError, match="line 3: rating is 'good'; a number is needed"):
        read(path, listener, min_rating=1.0)
    with pytest.raises(DataError, match=r"no column for rating \('stars'\); split at commas"):
        read(path, listener, min_rating=1.0, rating_column="stars")
    assert len(read(path, listener)[0].items) == 2  # nobody asked for ratings
    with pytest.raises(DataError, match="no interactions rated 6 or better in it"):
        read(put("one.csv", "user,item,timestamp,rating\nu,a,1,5\n"), listener, min_rating=6.0)


def test_paths(put, tmp_path, listener):
    for paths in ([], [tmp_path, tmp_path / "x.csv"]):
        with pytest.raises(UsageError, match=f"needs files, or one folder; there are {len(paths)} paths"):
            InteractionTable(paths, TableOptions(), seed=0, progress=listener)
    with pytest.raises(MissingFileError, match=r"no interactions.csv, .tsv, .parquet"):
        InteractionTable([tmp_path], TableOptions(), seed=0, progress=listener)
    with pytest.raises(MissingFileError, match=r"none.csv: no such file"):
        read(tmp_path / "none.csv", listener)
    put("interactions.csv", ROWS)
    put("interactions.tsv", ROWS)
    with pytest.raises(DataError, match=r"holds interactions.csv and interactions.tsv; which one"):
        InteractionTable([tmp_path], TableOptions(), seed=0, progress=listener)


@pytest.mark.parametrize(
    ("lines", "options", "column"),
    [
        ("user,item,timestamp,stars\nu1,a,1400000000,5", {}, "stars"),
        ("user,item,timestamp,grade\nu1,a,1400000000,5", {"rating_column": "grade"}, "grade"),
        ("u1,a,5,1400000000", {}, "3"),
        ("u1,a,1400000000", {}, None),
        ("user,item,timestamp,grade\nu1,a,1400000000,5", {}, None),
        ("user,item,timestamp,stars\nu1,a,1400000000,5", {"min_rating": 1.0}, None),
    ],
)
def test_ratings_that_are_not_used_are_said(put, listener, lines, options, column):
    read(put("log.csv", f"{lines}\n"), listener, **options)
    note = f"log.csv: its ratings (column {column}) are not used: every rating is an interaction; "
    said = [line for line in listener.logged if "not used" in line]
    assert said == ([f"{note}--min-rating leaves out lower ones"] if column else [])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"order": "file", "time_column": "when"}, "--time-column has no effect: --order file reads no times"),
        ({"order": "file", "time_unit": "ms"}, "--time-unit has no effect: --order file reads no times"),
    ],
)
def test_options_without_effect(options, said):
    with pytest.raises(UsageError, match=said):
        TableOptions(**options)


def test_a_unit_of_numbers_for_dates(put, listener):
    with pytest.raises(UsageError, match="--time-unit ns: the times are dates, not numbers"):
        read(put("x.csv", "user,item,time\nu,a,2014-07-01\n"), listener, time_unit="ns")


@pytest.mark.parametrize("text", ['[{"user": "u", "item": "i", "time": 1}]', '[\n {"user": "u"}\n]'])
def test_a_json_array_is_named(put, listener, text):
    with pytest.raises(DataError, match="a JSON array; one object per line is needed"):
        read(put("log.json", text), listener)
