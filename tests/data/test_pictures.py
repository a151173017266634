from __future__ import annotations

import pytest

from bbqrec_cli.data.sources.pictures import find_pictures, list_pictures, pictures_of, read_pictures
from bbqrec_cli.errors import DataError, MissingFileError


def test_find_pictures(tmp_path):
    assert find_pictures(None) is None
    assert find_pictures(tmp_path) is None
    (tmp_path / "posters").mkdir()
    assert find_pictures(tmp_path) == tmp_path / "posters"
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"holds the folders images and posters; which one has the pictures\?"):
        find_pictures(tmp_path)


def test_pictures(put, tmp_path, listener):
    put("p/a.jpg", b"A")
    put("p/b.PNG", b"B")
    put("p/stray.jpg", b"S")
    put("p/notes.txt", "no picture")
    put("p/.a.png", b"hidden")
    (tmp_path / "p" / "c.jpg").symlink_to(tmp_path / "nowhere")
    pictures = list_pictures(tmp_path / "p")
    assert set(pictures) == {"a", "b", "c", "stray"}
    long = {"a": tmp_path / "p" / "a.jpg", "b": tmp_path / ("x" * 5000)}
    assert read_pictures(long, ["a", "b"], tmp_path / "p", listener) == [b"A", b""], "a name that no file can have"
    listener.warned.clear()
    made = read_pictures(pictures, ["c", "b", "q", "a"], tmp_path / "p", listener)
    assert made == [b"", b"B", b"", b"A"]
    assert [line.split("p: ")[1] for line in listener.warned] == [
        f"1 pictures do not exist and count as missing, the first: {tmp_path / 'p' / 'c.jpg'}"
    ]
    assert "1 pictures are left out" in listener.logged[0]
    assert pictures_of(tmp_path / "p", ["a", "q"], listener) == [b"A", b""]
    assert pictures_of(None, ["a", "q"], listener) == []


def test_pictures_that_are_nobodys(put, tmp_path, listener):
    put("p/IMG_1.jpg", b"A")
    with pytest.raises(
        DataError, match=r"p: none of its 1 pictures is of one of the 2 items: .* of 'IMG_1'.* 'a', 'b'"
    ):
        read_pictures(list_pictures(tmp_path / "p"), ["a", "b"], tmp_path / "p", listener)


def test_folders_of_pictures_that_are_none(put, tmp_path):
    put("p/notes.txt", "")
    with pytest.raises(DataError, match=r"p: holds no pictures \(.jpg, "):
        list_pictures(tmp_path / "p")
    with pytest.raises(MissingFileError, match="no such folder of pictures"):
        list_pictures(tmp_path / "q")
    put("p/a.jpg", b"")
    put("p/a.png", b"")
    with pytest.raises(DataError, match=r"p: two pictures of one item, a.jpg and a.png"):
        list_pictures(tmp_path / "p")
