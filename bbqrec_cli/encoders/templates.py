"""Texts from templates such as '{title}. {category}'. I items."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.data.fields import listed
from bbqrec_cli.errors import UsageError

_BETWEEN = re.compile(r"((?:[)\]}>»”\"]|[’']\w*)*)([\s.,;:!?|/·•–—-]*)(.*)", re.DOTALL)
"""What stands between two fields: it closes the first one (as in "{maker}'s", too), separates the two, introduces the
second one."""
_BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">", "«": "»", "“": "”", "‘": "’"}


def compose(template: str, fields: Mapping[str, Sequence[str]], *, where: str) -> list[str]:
    """The text of each item, (I,): the template with the item's fields; '' for an item that has none of them.

    A missing field takes along what introduces it, the brackets around it and the punctuation before it; brackets
    around several fields stand as long as one of them is there. The values of lists are separated by commas.

    Args:
        template: a field's name, or text with names in braces; {{ and }} are braces.
        fields: name -> one string per item, '' = missing.
        where: the option, for the errors.

    Raises:
        UsageError: not a template, no field in it, or an unknown field.
    """
    names, texts = _parse(template if "{" in template else f"{{{template}}}", where)
    for name in names:
        if name not in fields:
            known = f"they have {', '.join(fields)}{did_you_mean(name, fields)}"
            raise UsageError(
                f"{where}: {name!r} is no field of the items; {known}",
                "prepare keeps title, text and short fields; prepare --text-fields says what `text` is made of",
            )
    # Nothing stands before the first field that could be closed or separated.
    parts = [("", "", texts[0]), *(found.groups() for found in map(_BETWEEN.fullmatch, texts[1:]) if found)]
    closing, separator, label = zip(*parts, strict=True)
    shared = _shared_brackets(label, closing)
    columns = [[value.strip() for value in listed(name, fields[name])] for name in names]
    made = []
    for values in zip(*columns, strict=True):
        text = ""
        for at, value in enumerate(values):
            if not value:
                continue
            between, lead, end = separator[at], label[at], closing[at + 1]
            for first, last, opening, closed in shared:
                if first < at <= last and not any(values[first:at]):
                    between, lead = separator[first], opening + lead
                if first <= at < last and not any(values[at + 1 : last + 1]):
                    end += closed
            text += (between if text else "") + lead + value + end
        made.append((text + separator[-1] + label[-1]).strip() if text else "")
    return made


def _shared_brackets(label: Sequence[str], closing: Sequence[str]) -> list[tuple[int, int, str, str]]:
    """(first field, last field, what introduces the first up to the bracket, the bracket at the end) of each pair of
    brackets around several fields, inner ones first."""
    # The field; in its label, where what introduces the bracket begins, and the bracket.
    opened: list[tuple[int, int, int]] = []
    found = []
    for at, text in enumerate(label[:-1]):
        start = 0
        for place, char in enumerate(text):
            if char in _BRACKETS:
                opened.append((at, start, place))
                start = place + 1
            elif opened and opened[-1][0] == at and _BRACKETS[text[opened[-1][2]]] == char:  # around words alone
                start = opened.pop()[1]
        for char in closing[at + 1]:
            if opened and _BRACKETS[label[opened[-1][0]][opened[-1][2]]] == char:
                first, start, place = opened.pop()
                found += [(first, at, label[first][start : place + 1], char)] if first < at else []
    return found


def _parse(template: str, where: str) -> tuple[list[str], list[str]]:
    """The n names of fields, and the n + 1 texts before, between and after them."""
    names, between = [], [""]
    try:
        for literal, name, form, conversion in string.Formatter().parse(template):
            between[-1] += literal
            if name is None:
                continue
            if not name or form or conversion:
                raise ValueError("a field's name is needed between braces")
            names.append(name)
            between.append("")
    except ValueError as error:
        raise UsageError(f"{where}: {template!r}: {error}", "such as '{title}. {category}'") from None
    if not names:
        raise UsageError(f"{where}: {template!r} names no field", "such as '{title}. {category}'")
    return names, between
