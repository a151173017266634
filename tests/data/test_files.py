from __future__ import annotations

import bz2
import gzip
import lzma
import math

import pytest

from bbqrec_cli.data.sources import opening
from bbqrec_cli.data.sources.files import (
    as_field,
    field_name,
    fields_of,
    lines,
    read_items,
    table_rows,
)
from bbqrec_cli.errors import DataError, LackingError, MissingFileError


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_lines_and_their_numbers(put, name):
    path = put(name, "\ufefffirst\r\n\n  third \nlast")
    assert list(lines(path)) == [(1, "first"), (3, "third"), (4, "last")]


def test_gzip_is_known_by_its_first_bytes(put):
    assert list(lines(put("called.txt", gzip.compress(b"one\n")))) == [(1, "one")]
    path = put("plain.txt.gz", "")
    path.write_text("one\n")
    with pytest.raises(DataError, match=r"plain.txt.gz: not a gzip file in spite of its name") as caught:
        list(lines(path))
    assert caught.value.hint == "rename plain text to plain.txt"


def test_truncated_and_damaged_gzip(put):
    whole = gzip.compress("\n".join(map(str, range(5000))).encode())
    path = put("cut.txt", whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut.txt: not a whole gzip file \(Compressed file ended"):
        list(lines(path))
    path = put("bad.txt", whole[:200] + bytes(20) + whole[220:])
    with pytest.raises(DataError, match=r"bad.txt: not a whole gzip file"):
        list(lines(path))


@pytest.mark.parametrize("name", ["latin.txt", "latin.txt.gz"])
def test_not_utf8_is_named_with_its_line(put, name):
    """Far beyond the block that is decoded at once, so that the line has to be looked for."""
    path = put(name, b"plain\n" * 20_000 + "Café\n".encode("latin1") + b"plain\n")
    with pytest.raises(DataError, match=rf"{name}, line 20001: byte 0xe9 after 'Caf': not UTF-8") as caught:
        list(lines(path))
    assert f"iconv -f LATIN1 -t UTF-8 {path}" in caught.value.hint


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"SQLite format 3\0\xff", "an SQLite"),
    ],
)
def test_files_that_are_no_text_are_named(put, start, what):
    path = put("x.csv", start + b"\xff\xfe" * 100)
    with pytest.raises(DataError, match=f"x.csv: is {what}.*, no text") as caught:
        list(lines(path))
    assert "iconv" not in caught.value.hint


def test_what_spreadsheets_call_unicode(put):
    path = put("sheet.csv", "user,item\na,b\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"sheet.csv, line 1: byte 0xff after '': not UTF-8") as caught:
        list(lines(path))
    assert f"iconv -f UTF-16 -t UTF-8 {path}" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "packed", "unpack"),
    [
        ("log.csv.zip", b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xf9", "unzip"),
        ("log.csv.xz", lzma.compress(b"user,item\n"), "xz -d"),
        ("log.csv.bz2", bz2.compress(b"user,item\n"), "bunzip2"),
    ],
    ids=["zip", "xz", "bz2"],
)
def test_other_compressions_are_named(put, name, packed, unpack):
    path = put(name, packed)
    with pytest.raises(DataError, match=rf"{name}: is compressed with (zip|xz|bzip2)$") as caught:
        list(lines(path))
    assert caught.value.hint == f"unpack it: {unpack} {path}"


def test_missing_a_folder_forbidden(tmp_path, put, monkeypatch):
    with pytest.raises(MissingFileError, match=r"none.txt: no such file"):
        list(lines(tmp_path / "none.txt"))
    with pytest.raises(MissingFileError, match="is a folder; a file is needed"):
        list(lines(tmp_path))

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(opening, "open_bytes", forbidden)  # root may read everything
    with pytest.raises(LackingError, match=r"a.txt: no permission to read it"):
        list(lines(put("a.txt", "x")))


def test_tables(put):
    path = put("a.csv", 'id,title\n1,"a, ""b""\nc"\n\n2,d\n')
    assert list(table_rows(path)) == [(1, ["id", "title"]), (3, ["1", 'a, "b"\nc']), (5, ["2", "d"])]
    assert list(table_rows(put("a.tsv.gz", "id\ttitle\n1\ta,b\n"))) == [(1, ["id", "title"]), (2, ["1", "a,b"])]
    assert list(table_rows(put("my.tsv-export.csv", "a,b\n"))) == [(1, ["a", "b"])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,title\n1,a\n2\n", "line 3: 1 columns; the header has 2"),
        ("id,title\n1,a,b\n", "line 2: 3 columns; the header has 2"),
        ('id,title\n1,"a\n', r"line 2: not a readable table \(unexpected end of data\)"),
        ('id,title\n1,"a"b\n', "line 2: not a readable table"),
        ("id,title,id\n", "line 1: the column 'id' appears 2 times"),
        ("id,title,title \n", "line 1: the column 'title' appears 2 times"),
        ("id,title:token,title:token_seq\n", "line 1: the column 'title' appears 2 times"),
    ],
)
def test_malformed_tables(put, text, message):
    with pytest.raises(DataError, match=rf"a.csv, {message}") as caught:
        list(table_rows(put("a.csv", text)))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (None, ""),
        (math.nan, ""),
        ("  a \n b ", "a b"),
        (["Home", ["Tea", None, " Pots "]], "Home|Tea|Pots"),
        (7, "7"),
        (2.5, "2.5"),
        (True, "True"),
        ({"a": 1}, '{"a": 1}'),
    ],
)
def test_fields_as_text(value, field):
    assert as_field(value) == field


ITEMS = {"1": {"title": "Pot", "year": "1990"}, "2": {"title": "Cup", "year": ""}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("items.csv", "item,title,year\n1,Pot,1990\n2,Cup,\n"),
        ("items.tsv.gz", "item_id\ttitle\tyear\n1\tPot\t1990\n2\tCup\t\n"),
        (
            "items.jsonl",
            '{"id": 1, "title": "Pot", "year": "1990"}\n\n{"title": "Cup", "item_id": "2", "year": ""}\n',
        ),
        ("items.ndjson.gz", '{"asin": "1", "title": "Pot", "year": "1990"}\n{"item": 2, "title": "Cup", "year": ""}\n'),
        ("items.json", '{"1": {"title": "Pot", "year": "1990"}, "2": {"title": "Cup", "year": ""}}'),
    ],
)
def test_items_files_of_every_kind(put, name, text):
    assert read_items(put(name, text), id_column="item") == ITEMS


def test_the_named_id_column_wins(put):
    path = put("items.csv", "id,sku,title\n1,x,Pot\n2,y,Cup\n")
    assert list(read_items(path, id_column="sku")) == ["x", "y"]
    for name in ("items.CSV", "items.txt"):
        assert list(read_items(put(name, path.read_text()), id_column="sku")) == ["x", "y"]
    assert list(read_items(path, id_column="item")) == ["1", "2"]


@pytest.mark.parametrize("names", [("title", "title "), ("title:token", "title:token_seq")])
def test_columns_of_a_typed_file_that_are_called_alike(tmp_path, names):
    pl = pytest.importorskip("polars")
    pl.DataFrame({name: ["1"] for name in ("id", *names)}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=r"items\.parquet: the column 'title' appears 2 times"):
        read_items(tmp_path / "items.parquet", id_column=None)


def test_a_typed_file_has_its_ids_in_one_column(tmp_path):
    """Not in that column of a row that happens to be filled."""
    pl = pytest.importorskip("polars")
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item_id": ["a", None], "title": ["A", "B"], "sku": ["s1", "b"]}).write_parquet(path)
    with pytest.raises(DataError, match="row 2: no item id"):
        read_items(path, id_column="item_id")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "id,title\n1,Pot\n1,Cup\n", "line 3: item '1' appears twice"),
        ("a.csv", "id,title\n1,Pot\n,Cup\n", "line 3: no item id among 'id', 'title', …; one of the fields item, id,"),
        ("a.csv", "key,title\n1,Pot\n", "line 2: no item id"),
        ("a.csv", "id,product\n1,Pot\n,Cup\n", "line 3: no item id"),
        ("a.jsonl", '{"id": 1}\n{"id": "1"}\n', "line 2: item '1' appears twice"),
        ("a.jsonl", '{"id": 1}\n\n{"id": 2,\n', "line 3: not JSON"),
        ("a.jsonl", '{"id": 1}\n[2]\n', r"line 2: holds '\[2\]'; an object of fields is needed"),
        ("a.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("a.json", '{"1": {}, "2": {}, "1": {}}', "the key '1' appears twice in one object"),
        ("a.json", '{"1": {},\n "2" {}}', "line 2: not JSON"),
        ("a.json", '{"1": {}}\n{"2": {}}', "line 2: not JSON"),
        ("a.json", '[{"id": 1}]', "holds a list; an object is needed"),
        ("a.json", '{"1": "Pot"}', "the entry of item '1' is 'Pot'; an object of fields is needed"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", "", "line 1: not JSON"),
        ("a.json", '{"1": {"price": ' + "9" * 5000 + "}}", "not JSON .*digits"),
    ],
)
def test_malformed_items_files(put, name, text, message):
    with pytest.raises(DataError, match=rf"{name}(:|,) {message}") as caught:
        read_items(put(name, text), id_column="item")
    assert caught.value.hint


def test_fields_in_the_items_order(listener, tmp_path):
    known = {"a": {"title": "A", "x/y": 1}, "b": {"title": None, "tags": ["u", "v"]}, "z": {"left": "over"}}
    known["a"]["empty"] = known["b"]["empty"] = []
    made = fields_of(["b", "q", "a"], known, tmp_path / "items.json", listener)
    assert made == {"title": ["", "", "A"], "tags": ["u|v", "", ""], "x_y": ["", "", "1"]}
    assert listener.warned == ["items.json: 1 of 3 items have no entry, so no title and no text"]
    assert listener.logged == ["items.json: 1 entries are left out: their items have no interactions among those kept"]


def test_an_items_file_that_matches_nothing(listener, tmp_path):
    with pytest.raises(DataError, match=r"items.json: none of the 2 items has an entry; their ids look like 'a', 'b'"):
        fields_of(["a", "b"], {"A": {}, "B": {}}, tmp_path / "items.json", listener)


@pytest.mark.parametrize(("name", "safe"), [("a/b", "a_b"), (".", "_"), ("..", "__"), ("a\0b", "a_b"), ("é.x", "é.x")])
def test_names_that_hdf5_can_hold(name, safe):
    assert field_name(name) == safe
