"""The fields of items: which make their texts, and which the dataset file keeps as attributes. I items."""

from __future__ import annotations

from collections.abc import Sequence

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.data.sources.base import Items
from bbqrec_cli.data.sources.files import PROSE, TITLES, stored_names
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.hdf5.safety import LONGEST_NAME
from bbqrec_cli.hdf5.schema import RESERVED_ATTRIBUTES
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import LIST_SEPARATOR

TEXT_FIELDS = (
    *TITLES, "brand", "maker", "category", "categories", "genres", "tags", "features", "text", "description",
)  # fmt: skip
"""Fields that make an item's text by default; the long ones last, since encoders cut long texts."""
NO_ATTRIBUTES = ("title", "features", "text", "description")
"""Fields that go into the title and the text only; attributes are short, since they are copied into the model file."""


def with_known_names(fields: dict[str, list[str]]) -> dict[str, list[str]]:
    """The fields, with the names in lower case that this program knows: `Title` is `title`, unless an item has both."""
    made = dict[str, list[str]]()
    for name, values in fields.items():
        known = name.casefold()
        alike = [each for other, each in fields.items() if other.casefold() == known] if known in TEXT_FIELDS else []
        if not alike or any(sum(map(bool, each)) > 1 for each in zip(*alike, strict=True)):
            made[name] = values
        else:
            made[known] = ["".join(each) for each in zip(*alike, strict=True)]
    return made


def titles_of(fields: dict[str, list[str]], count: int) -> list[str]:
    """The title of each item, (I,): the first of TITLES that it has, '' if it has none."""
    columns = [fields[name] for name in TITLES if name in fields]
    return [next(filter(None, each), "") for each in zip(*columns, strict=True)] if columns else [""] * count


def attributes(items: Items) -> dict[str, list[str]]:
    """The short fields; '_' is appended to names that the file reserves.

    Raises:
        DataError: two fields that would have the same name there.
    """
    kept = [name for name in items.fields if name not in NO_ATTRIBUTES]
    stored = stored_names(kept, lambda name: f"{name}_" if name in RESERVED_ATTRIBUTES else name, "the fields")
    return {plain: items.fields[name] for plain, name in stored.items()}


def check_names(items: Items) -> None:
    """Raises: DataError: a name of a field or feature that is too long for the file."""
    for name in (*items.fields, *items.features):
        if len(name.encode()) >= LONGEST_NAME:
            what = f"the items have a field or feature with a name of {len(name):,} characters: {name[:40]}…"
            raise DataError(what, "shorten it")


def choose_text_fields(fields: dict[str, list[str]], asked: tuple[str, ...], progress: Progress) -> tuple[str, ...]:
    """The fields that make the texts: those of --text-fields, else all of TEXT_FIELDS that exist.

    Raises:
        UsageError: a field that no item has.
    """
    asked = tuple(name if name in fields or name.casefold() not in fields else name.casefold() for name in asked)
    for name in asked:
        if name not in fields:
            known = ", ".join(fields) or "no fields"
            what = f"--text-fields names {name!r}{did_you_mean(name, fields)}; the items have {known}"
            raise UsageError(what, "choose among these, or leave --text-fields out")
    chosen = asked or tuple(name for name in TEXT_FIELDS if name in fields)
    if chosen:
        progress.log(f"texts are made from the fields {', '.join(chosen)}")
    elif fields:
        progress.warn(f"no texts: no known text field; --text-fields can use {', '.join(fields)}")
    return chosen


def listed(name: str, values: Sequence[str]) -> list[str]:
    """A field as it stands in a text: the values of a list have commas between them."""
    return [value if name in PROSE else value.replace(LIST_SEPARATOR, ", ") for value in values]


def compose_texts(fields: dict[str, list[str]], chosen: tuple[str, ...], count: int) -> list[str]:
    """The text of each item, (I,): its chosen fields joined by '. ', spaces folded, '' if it has none of them."""
    if not chosen:
        return [""] * count
    parts = [listed(name, fields[name]) for name in chosen]
    return [" ".join(". ".join(filter(None, each)).split()) for each in zip(*parts, strict=True)]
