from __future__ import annotations

import pytest

from bbqrec_cli.data.fields import choose_text_fields, compose_texts, titles_of, with_known_names
from bbqrec_cli.data.sources.files import fields_of
from bbqrec_cli.errors import UsageError


@pytest.mark.parametrize(
    ("names", "made"),
    [
        (("Title", "Category", "SKU"), ("title", "category", "SKU")),
        (("title", "Title"), ("title", "Title")),
        (("Title", "TITLE"), ("Title", "TITLE")),
        (("Movie_Title",), ("movie_title",)),
    ],
    ids=["capitals", "taken", "two", "recbole"],
)
def test_known_names_in_any_case(names, made):
    assert list(with_known_names({name: [name] for name in names}).items()) == [
        (new, [name]) for new, name in zip(made, names, strict=True)
    ]


def test_an_item_has_one_of_its_names():
    fields = with_known_names({"title": ["Pot", "", ""], "name": ["", "Cup", ""], "Title": ["", "", "Tea"]})
    assert fields == {"title": ["Pot", "", "Tea"], "name": ["", "Cup", ""]}
    assert titles_of(fields, 3) == ["Pot", "Cup", "Tea"]
    assert titles_of({"brand": ["x", "y", "z"]}, 3) == [""] * 3


def test_a_bar_in_a_title_is_no_list(tmp_path, listener):
    known = {"a": {"title": "Case | Black", "text": ["one", "two"], "Name": ["x"], "category": ["Kitchen", "Tea"]}}
    fields = fields_of(["a"], known, tmp_path / "items.json", listener)
    assert fields == {"title": ["Case | Black"], "text": ["one, two"], "Name": ["x"], "category": ["Kitchen|Tea"]}
    fields = {"title": ["Case | Black"], "category": ["Kitchen|Tea"], "text": ["a|b"]}
    assert compose_texts(fields, tuple(fields), 1) == ["Case | Black. Kitchen, Tea. a|b"]


def test_text_fields_in_any_case(listener):
    fields = with_known_names({"Title": ["Tea"], "Colour": ["red"]})
    assert choose_text_fields(fields, (), listener) == ("title",)
    assert choose_text_fields(fields, ("Title", "Colour"), listener) == ("title", "Colour")
    with pytest.raises(UsageError, match=r"--text-fields names 'colour' \(did you mean 'Colour'"):
        choose_text_fields(fields, ("colour",), listener)
