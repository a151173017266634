from __future__ import annotations

import pytest

from bbqrec_cli.encoders.templates import compose
from bbqrec_cli.errors import UsageError

ALL = {"title": "Teapot", "category": "Kitchen|Tea", "brand": "Acme"}


def one(template: str, **fields: str) -> str:
    return compose(template, {name: [value] for name, value in fields.items()}, where="--text-template")[0]


def without(template: str, *missing: str) -> str:
    return one(template, **{name: "" if name in missing else value for name, value in ALL.items()})


@pytest.mark.parametrize(
    ("template", "missing", "expected"),
    [
        ("{title}. {category}", (), "Teapot. Kitchen, Tea"),
        ("{title}. {category}", ("category",), "Teapot"),
        ("{title}. {category}", ("title",), "Kitchen, Tea"),
        ("{title}. {category}", ("title", "category"), ""),
        ("{title}. {category}.", ("category",), "Teapot."),
        ("Title: {title}. Category: {category}.", ("category",), "Title: Teapot."),
        ("Title: {title}. Category: {category}.", ("title",), "Category: Kitchen, Tea."),
        ("Title: {title}. Category: {category}.", ("title", "category"), ""),
        ("{title} ({brand}), {category}", (), "Teapot (Acme), Kitchen, Tea"),
        ("{title} ({brand}), {category}", ("brand",), "Teapot, Kitchen, Tea"),
        ("{title} ({brand})", ("brand",), "Teapot"),
        ("{title} by {brand} | {category}", ("brand",), "Teapot | Kitchen, Tea"),
        ("{title} by {brand} | {category}", ("title",), "by Acme | Kitchen, Tea"),
        ("{title} — “{brand}”", ("brand",), "Teapot"),
        ('"{title}" by {brand}', (), '"Teapot" by Acme'),
        ('"{title}" by {brand}', ("title",), "by Acme"),
        ("- {title}: {brand}", ("brand",), "- Teapot"),
        ("{title}: {brand}'s {category}", (), "Teapot: Acme's Kitchen, Tea"),
        ("{title}: {brand}'s {category}", ("brand",), "Teapot Kitchen, Tea"),
        ("{brand}’s {title}", ("title",), "Acme’s"),
        ("{brand}’s {title}", ("brand",), "Teapot"),
        ("'{title}' by {brand}", ("title",), "by Acme"),
        ("'{title}' by '{brand}'", ("brand",), "'Teapot'"),
        ("{{{title}}}", (), "{Teapot}"),
        ("brand", (), "Acme"),
        ("{title} ({brand}, {category})", (), "Teapot (Acme, Kitchen, Tea)"),
        ("{title} ({brand}, {category})", ("brand",), "Teapot (Kitchen, Tea)"),
        ("{title} ({brand}, {category})", ("category",), "Teapot (Acme)"),
        ("{title} ({brand}, {category})", ("title",), "(Acme, Kitchen, Tea)"),
        ("{title} ({brand}, {category})", ("brand", "category"), "Teapot"),
        ("{title} [{category}, {brand}]!", ("category",), "Teapot [Acme]!"),
        ("{title} made (by {brand} [{category}, {title}])", ("brand",), "Teapot made ([Kitchen, Tea, Teapot])"),
        ("{title} (item(s) {brand}, {category})", ("brand",), "Teapot (Kitchen, Tea)"),
        ("{title} [by (c) {brand}, {category}]", ("category",), "Teapot [by (c) Acme]"),
        ("{title} [by (c) {brand}, {category}]", ("brand",), "Teapot [Kitchen, Tea]"),
        ("{title} ([{brand}, {category}]; {title})", ("brand",), "Teapot ([Kitchen, Tea]; Teapot)"),
    ],
)
def test_what_is_missing_leaves_nothing_behind(template, missing, expected):
    assert without(template, *missing) == expected


def test_prose_is_no_list():
    fields = {"title": ["Oil | 50 ml"], "text": ["a|b"], "category": ["Kitchen|Tea"]}
    assert compose("{title}; {text}; {category}", fields, where="x") == ["Oil | 50 ml; a|b; Kitchen, Tea"]


def test_one_text_an_item():
    fields = {"title": ["Teapot", "  ", "Cup"], "size": ["", "", "small"]}
    assert compose("{title}, {size}", fields, where="x") == ["Teapot", "", "Cup, small"]


def test_an_unknown_field_is_named_with_those_that_there_are():
    with pytest.raises(UsageError, match=r"--text-template: 'titel' is no field.*title, brand.*did you mean 'title'"):
        one("{titel}", title="x", brand="y")


@pytest.mark.parametrize("template", ["{title", "{}", "{title!r}", "{title:>9}", "plain {{title}}", "{title.upper}"])
def test_not_a_template(template):
    with pytest.raises(UsageError, match="--text-template: "):
        one(template, title="x")
