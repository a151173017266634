from __future__ import annotations

import pytest

from bbqrec_cli.data.fields import choose_text_fields, with_known_names
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


def test_text_fields_in_any_case(listener):
    fields = with_known_names({"Title": ["Tea"], "Colour": ["red"]})
    assert choose_text_fields(fields, (), listener) == ("title",)
    assert choose_text_fields(fields, ("Title", "Colour"), listener) == ("title", "Colour")
    with pytest.raises(UsageError, match=r"--text-fields names 'colour' \(did you mean 'Colour'"):
        choose_text_fields(fields, ("colour",), listener)
