from __future__ import annotations

import pytest

from bbqrec_cli.data.sources.options.table import TableOptions
from bbqrec_cli.data.sources.table import InteractionTable
from bbqrec_cli.errors import DataError, MissingFileError, UsageError

ROWS = "user,item,timestamp,rating\nu2,b,30,5\nu1,a,20,3\nu2,a,10,4\nu1,c,20,1\nu1,b,5.9,4.5\n"


def read(path, listener, **options):
    """(interactions, items) of a source."""
    source = InteractionTable([path], TableOptions(**options), seed=0, progress=listener)
    interactions = source.interactions()
    return interactions, source.items(interactions.item_ids)


def histories(interactions) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {name: [] for name in interactions.user_ids}
    for user, item in zip(interactions.users, interactions.items, strict=True):
        found[interactions.user_ids[user]].append(interactions.item_ids[item])
    return found


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; a line with the names of the columns is needed first"),
        ("user,item,timestamp\n", "no interactions in it"),
        ("user;item;timestamp\nu;a;1\n", "line 1: no column 'user'; the first line has 'user;item;timestamp'"),
        ("user, item,timestamp\n", "line 1: no column 'item'; the first line has 'user', ' item', 'timestamp'"),
        ("user,item\nu,a\n", "line 1: no column 'timestamp'"),
        ("user,item,timestamp\nu,a,1\n,b,2\n", "line 3: no user in"),
        ("user,item,timestamp\nu,,1\n", "line 2: no item in"),
        ("user,item,timestamp\nu,a,2014-01-01\n", "line 2: timestamp is '2014-01-01'; a number is needed"),
        ("user,item,timestamp\nu,a,nan\n", "line 2: timestamp is 'nan'; a number is needed"),
        ("user,item,timestamp\nu,a,-1\n", "line 2: timestamp is -1; 0 or more is needed"),
        ("user,item,timestamp\nu,a,1e300\n", "line 2: timestamp is 1e300; 0 or more is needed"),
    ],
)
def test_malformed_tables(put, listener, text, message):
    with pytest.raises(DataError, match=rf"log.csv(,|:) {message}") as caught:
        read(put("log.csv", text), listener)
    assert caught.value.hint


def test_ratings_that_are_none(put, listener):
    path = put("log.csv", "user,item,timestamp,rating\nu,a,1,5\nu,b,2,good\n")
    with pytest.raises(DataError, match="line 3: rating is 'good'; a number is needed"):
        read(path, listener, min_rating=1.0)
    with pytest.raises(DataError, match="no column 'stars'"):
        read(path, listener, min_rating=1.0, rating_column="stars")
    assert len(read(path, listener)[0].items) == 2  # nobody asked for ratings
    with pytest.raises(DataError, match="no interactions rated 6 or better in it"):
        read(put("one.csv", "user,item,timestamp,rating\nu,a,1,5\n"), listener, min_rating=6.0)


def test_paths(put, tmp_path, listener):
    for paths in ([], [tmp_path, tmp_path]):
        with pytest.raises(UsageError, match=f"needs one path; there are {len(paths)}"):
            InteractionTable(paths, TableOptions(), seed=0, progress=listener)
    with pytest.raises(MissingFileError, match=r"no interactions.csv, .tsv"):
        InteractionTable([tmp_path], TableOptions(), seed=0, progress=listener)
    with pytest.raises(MissingFileError, match=r"none.csv: no such file"):
        read(tmp_path / "none.csv", listener)
    put("interactions.csv", ROWS)
    put("interactions.tsv", ROWS)
    with pytest.raises(DataError, match=r"holds interactions.csv and interactions.tsv; which one"):
        InteractionTable([tmp_path], TableOptions(), seed=0, progress=listener)
