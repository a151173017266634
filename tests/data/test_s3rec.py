from __future__ import annotations

import json
from functools import partial

import pytest
from sources import read_source

from bbqrec_cli.data.sources.options.s3rec import S3RecOptions
from bbqrec_cli.data.sources.s3rec import S3Rec
from bbqrec_cli.errors import DataError, MissingFileError, UsageError

read = partial(read_source, "s3rec")

SEQUENCES = "u1 1 2 3\nu2 3 1\nu3 2 2\n"


def entries(ids) -> str:
    return json.dumps({str(item): {"title": f"entry {item}"} for item in ids})


def titles(path, listener, **options) -> dict[str, str]:
    interactions, items = read(path, listener, **options)
    return dict(zip(interactions.item_ids, items.fields["title"], strict=True))


def test_a_folder(put, tmp_path, listener):
    put("sequences.txt", SEQUENCES)
    put("items.json", json.dumps({"1": {"title": "A"}, "2": {"title": "B"}, "3": {}, "9": {"title": "nobody's"}}))
    put("pictures/2.png", b"picture")
    interactions, items = read(tmp_path, listener)
    assert interactions.user_ids == ["u1", "u2", "u3"]
    assert interactions.item_ids == ["1", "2", "3"]
    assert interactions.users.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert interactions.items.tolist() == [0, 1, 2, 2, 0, 1, 1]  # who takes an item again has it twice
    assert interactions.timestamps is None
    assert items.fields == {"title": ["A", "B", ""]}
    assert items.images == [b"", b"picture", b""]
    assert listener.logged == ["items.json: 1 entries are left out: their items have no interactions among those kept"]


def test_a_file_alone(put, listener):
    interactions, items = read(put("any.txt.gz", SEQUENCES), listener)
    assert len(interactions.items) == 7
    assert (items.fields, items.images) == ({}, [])


@pytest.mark.parametrize("text", ['{"0": [5, 8, 3], "1": [9, 2, 5]}', '{\n "0": ["5", "8 ", 3],\n "1": [9, 2, 5]\n}'])
def test_an_inter_json_is_read_as_what_it_is(put, tmp_path, listener, text):
    """Everybody's X.inter.json: user -> items; the items' fields stand beside it."""
    path = put("Beauty.inter.json", text)
    interactions, _ = read(path, listener)
    assert interactions.user_ids == ["0", "1"]
    assert [interactions.item_ids[row] for row in interactions.items] == [*"583925"]
    assert listener.logged == ["Beauty.inter.json: read as one JSON object, user -> items, oldest first"]
    put("Beauty.item.json", entries([2, 3, 5, 8, 9]))
    assert titles(tmp_path, listener)["8"] == "entry 8"
    put("more.inter.json", text)
    with pytest.raises(DataError, match=r"holds Beauty.inter.json and more.inter.json; which one is meant"):
        read(tmp_path, listener)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"0": {"title": "A"}}', "user '0' has {'title': 'A'}; a list of item ids is needed"),
        ('{"0": [[1, 2]]}', r"user '0' has \[\[1, 2\]\]; a list of item ids is needed"),
        ('{"0": []}', r"user '0' has \[\]; a list of item ids is needed"),
        ('{"0": [1], "0": [2]}', "the key '0' appears twice"),
        ('{"0": [1]}\n{"1": [2]}\n', "line 2: not JSON"),
        ("[[1, 2]]", "holds a list; an object is needed"),
        ("{}", "empty"),
    ],
)
def test_json_that_is_something_else(put, listener, text, message):
    with pytest.raises(DataError, match=message) as caught:
        read(put("x.json", text), listener)
    assert caught.value.hint


@pytest.mark.parametrize("names", ["user_id items", "user_id:token item_id_list:token_seq", "User item item item"])
def test_a_line_of_names_is_no_user(put, listener, names):
    interactions, _ = read(put("sequences.txt", f"{names}\n{SEQUENCES}"), listener)
    assert interactions.user_ids == ["u1", "u2", "u3"]
    assert listener.logged == [f"sequences.txt: its first line, {names!r}, is read as names"]


def test_an_unusual_line_of_names_is_refused(put, listener):
    with pytest.raises(DataError, match=r"line 1: 'wer was' looks like a line of names: all other ids are numbers"):
        read(put("sequences.txt", "wer was\n1 2 3\n2 3 1\n"), listener)
    assert read(put("sequences.txt", "wer was\nwie wo\n"), listener)[0].user_ids == ["wer", "wie"]


def test_ids_that_start_at_zero_are_moved_and_said(put, tmp_path, listener):
    put("sequences.txt", SEQUENCES)
    put("items.json", entries([0, 1, 2]))
    assert titles(tmp_path, listener) == {"1": "entry 0", "2": "entry 1", "3": "entry 2"}
    assert listener.logged == [
        "items.json: its ids start at 0, those of sequences.txt at 1: 1 is added to each "
        "(checked: all 3 items then have an entry; without it, not all have)"
    ]


@pytest.mark.parametrize(
    ("sequences", "ids"),
    [
        (SEQUENCES, [1, 2, 3]),
        (SEQUENCES, [1, 3]),  # an entry is missing, but nothing starts at 0
        (SEQUENCES, [0, 1, 2, 3, "x"]),  # not all numbers
        ("u1 0 1 2\n", [0, 1]),  # both start at 0
        ("u1 0 1 2\n", [1, 2]),  # the entry of '0' is missing, and moved down the others would not fit
    ],
)
def test_ids_that_stay(put, tmp_path, listener, sequences, ids):
    put("sequences.txt", sequences)
    put("items.json", entries(ids))
    for item, title in titles(tmp_path, listener).items():
        assert title in ("", f"entry {item}")
    assert not any("added" in line for line in listener.logged)


@pytest.mark.parametrize(
    ("sequences", "ids", "message"),
    [
        (
            SEQUENCES,
            [0, 1, 2, 3],
            "start at 0, those of the sequences at 1, and all items have an entry, whether its ids stay",
        ),
        (
            SEQUENCES,
            [0, 1],
            "start at 0, those of the sequences at 1, and not all items have an entry, whether its ids stay",
        ),
        ("u1 0 1 2\n", [1, 2, 3], "start at 1, those of the sequences at 0, and all items have an entry if 1 is"),
    ],
)
def test_ids_that_can_not_be_told(put, tmp_path, listener, sequences, ids, message):
    put("sequences.txt", sequences)
    put("items.json", entries(ids))
    with pytest.raises(DataError, match=rf"items.json: its ids {message}.*which is meant cannot be told") as caught:
        titles(tmp_path, listener)
    assert "--id-shift" in caught.value.hint


@pytest.mark.parametrize(("shift", "title"), [(0, "entry 1"), (1, "entry 0")])
def test_the_command_line_says_which_is_meant(put, tmp_path, listener, shift, title):
    put("sequences.txt", SEQUENCES)
    put("items.json", entries([0, 1, 2, 3]))
    assert titles(tmp_path, listener, id_shift=shift)["1"] == title
    assert any("1 is added to each id (--id-shift)" in line for line in listener.logged) == (shift == 1)


def test_ids_move_down_as_well(put, tmp_path, listener):
    put("sequences.txt", "u1 0 1 2\n")
    put("items.json", entries([1, 2, 3]))
    assert titles(tmp_path, listener, id_shift=-1) == {"0": "entry 1", "1": "entry 2", "2": "entry 3"}


def test_an_items_file_of_something_else(put, tmp_path, listener):
    put("sequences.txt", SEQUENCES)
    put("items.json", entries(["B0001", "B0002"]))
    with pytest.raises(
        DataError, match=r"no item of the sequences has an entry: their ids look like '1', '2', '3', those"
    ):
        titles(tmp_path, listener)


def pictures(put, tmp_path, listener, numbers, *, first: int | None, **options) -> list[bytes]:
    """Pictures of these numbers, beside an items file whose ids start at `first`; what items 1, 2 and 3 get."""
    put("sequences.txt", "u1 1 2 3\n")
    if first is not None:
        put("items.json", entries(range(first, first + 3)))
    for number in numbers:
        put(f"images/{number}.png", f"picture {number}".encode())
    return read(tmp_path, listener, **options)[1].images


def test_pictures_are_moved_with_the_items(put, tmp_path, listener):
    assert pictures(put, tmp_path, listener, [0, 2], first=0) == [b"picture 0", b"", b"picture 2"]
    assert listener.logged[-1] == "images: its ids start at 0, those of sequences.txt at 1: 1 is added to each"


def test_pictures_that_are_named_as_the_sequences_stay(put, tmp_path, listener):
    """One of the last item shows it, even where the items file starts at 0."""
    assert pictures(put, tmp_path, listener, [1, 3], first=0) == [b"picture 1", b"", b"picture 3"]
    assert listener.warned == []


def test_pictures_that_say_nothing_about_their_numbers_are_taken_with_a_warning(put, tmp_path, listener):
    assert pictures(put, tmp_path, listener, [1, 2], first=0) == [b"picture 1", b"picture 2", b""]
    assert "read as named by the ids of the sequences, which start at 1; --id-shift" in listener.warned[0]


@pytest.mark.parametrize(("numbers", "first"), [([0, 3], 0), ([0, 1], 1), ([0, 1], None), ([0, 1, 2, 3], None)])
def test_pictures_that_can_not_be_told(put, tmp_path, listener, numbers, first):
    with pytest.raises(DataError, match=r"images: there is a picture 0, but no item 0.*cannot be told") as caught:
        pictures(put, tmp_path, listener, numbers, first=first)
    assert "--id-shift" in caught.value.hint
    moved = pictures(put, tmp_path, listener, numbers, first=None if first is None else 0, id_shift=1)
    assert moved[0] == b"picture 0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u1 1 2\nu2\n", "line 2: user 'u2' has no items"),
        ("u1 1 2\n\nu1 3\n", "line 3: user 'u1' has line 1 already"),
        ("\n\n", "empty; lines of `user item item …` are needed"),
        ("", "empty"),
    ],
)
def test_malformed_sequences(put, listener, text, message):
    with pytest.raises(DataError, match=rf"sequences.txt(,|:) {message}") as caught:
        read(put("sequences.txt", text), listener)
    assert caught.value.hint


def test_a_user_with_two_entries_in_json(put, listener):
    """They are one but for a space."""
    with pytest.raises(DataError, match=r"sequences.txt: user 'u1' has two entries"):
        read(put("sequences.txt", '{"u1": ["a", "b", "c"], "u1 ": ["d"]}'), listener)


def test_paths(tmp_path, listener):
    for paths in ([], [tmp_path, tmp_path]):
        with pytest.raises(UsageError, match=f"needs one path; there are {len(paths)}"):
            S3Rec(paths, S3RecOptions(), seed=0, progress=listener)
    with pytest.raises(MissingFileError, match=r"sequences.txt: no such file"):
        S3Rec([tmp_path], S3RecOptions(), seed=0, progress=listener)


@pytest.mark.parametrize("text", ['{"u": ["", "a", "b"]}', '{"": ["a", "b", "c"]}'])
def test_empty_ids_in_json(put, tmp_path, listener, text):
    with pytest.raises(DataError, match="an id is empty"):
        read(put("e.inter.json", text), listener)
