"""Requests for recommendations: users of the file, given histories, JSON lines. I items, T items of a history."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.data.sources.files import as_id, id_text, whole
from bbqrec_cli.errors import BBQRecError, DataError, UsageError
from bbqrec_cli.records import Catalogue, Vocabulary

T = TypeVar("T")
KEYS = ("user", "history")
_FORM = '{"user": "…", "history": ["id", …]}'


@dataclass(frozen=True, eq=False)
class Request:
    """user: an id, '' for a given history; rows (T,) int64: the items of the history, oldest first; unknown: ids of the
    history that are left out, since the catalogue has no such items."""

    user: str
    rows: np.ndarray
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Refused:
    """A line of stdin that cannot be answered. user: '' if it names none; error: why."""

    line: int
    user: str
    error: BBQRecError

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        error = self.error
        return {
            "user": self.user or None, "line": self.line, "error": error.code, "message": error.message,
            "hint": error.hint,
        }  # fmt: skip


def item_rows(catalogue: Catalogue, ids: Iterable[str], *, where: str, error: type[BBQRecError]) -> np.ndarray:
    """Rows (T,) int64 of item ids. Raises: `error` for an unknown id, with the nearest one."""
    ids = list(ids)
    rows = catalogue.item_ids.rows(ids)
    for name in (ids[place] for place in np.flatnonzero(rows < 0)):
        raise error(f"{where}: no item {name!r}{_instead(catalogue, name)}", "give ids of the catalogue")
    return rows


def history_request(
    catalogue: Catalogue, user: str, ids: Sequence[str], *, where: str, error: type[BBQRecError]
) -> Request:
    """The request of a given history without its unknown items. Raises: `error`: no item is left, with the nearest."""
    if not ids:
        raise error(f"{where}: the history is empty; at least one item is needed", "give at least one item id")
    ids = list(map(as_id, ids))
    known = catalogue.item_ids.rows(ids) >= 0
    if not known.any():
        item_rows(catalogue, ids, where=where, error=error)
    rows = item_rows(
        catalogue, [name for name, there in zip(ids, known, strict=True) if there], where=where, error=error
    )
    return Request(user, rows, tuple(name for name, there in zip(ids, known, strict=True) if not there))


def split_ids(values: Iterable[str], known: Vocabulary) -> list[str]:
    """The ids of an option: each value is an id of `known`, or else one or several, with commas and spaces between."""
    found: list[str] = []
    for value in values:
        found += [value] if value in known else [part.strip() for part in value.split(",") if part.strip()]
    return found


def _instead(catalogue: Catalogue, name: str) -> str:
    """A suggestion for an unknown item id: the item with this title, or the nearest id."""
    folded = name.casefold()
    titled = (row for row, title in enumerate(catalogue.titles) if title.casefold() == folded)
    row = next(titled, None)
    if row is None:
        return did_you_mean(name, catalogue.item_ids)
    return f" (the item with this title is {catalogue.item_ids[row]!r})"


def user_request(catalogue: Catalogue, user: str, *, where: str, error: type[BBQRecError]) -> Request:
    """The request of a user of the file. Raises: `error`: an unknown user, or one without interactions."""
    user = as_id(user)
    if user not in catalogue.user_ids:
        what = f"no user {user!r}{did_you_mean(user, catalogue.user_ids)}"
        raise error(f"{where}: {what}", "give ids of users of the model file")
    rows = catalogue.sequences[catalogue.user_ids.row(user)]
    if not len(rows):
        raise error(f"{where}: user {user!r} has no interactions", "give a --history")
    return Request(user, rows.astype("int64"))


def requests_of_options(
    catalogue: Catalogue, *, history: Sequence[str] | None, users: Sequence[str] | None, first: int
) -> list[Request]:
    """The requests of the command line: a history, users by id, or the first `first` users with interactions.

    See `split_ids` for ids that are separated by commas.
    """
    if history:
        ids = split_ids(history, catalogue.item_ids)
        return [history_request(catalogue, "", ids, where="--history", error=UsageError)]
    asked = split_ids(users, catalogue.user_ids) if users is not None else []
    if users is not None and not asked:
        raise UsageError("--user is empty", "give at least one user id")
    if users is None:
        lengths = catalogue.sequences.lengths
        with_items = (name for name, length in zip(catalogue.user_ids, lengths, strict=True) if length)
        asked = list(islice(with_items, first))
    return [user_request(catalogue, name, where="--user", error=UsageError) for name in asked]


def requests_of_lines(lines: Iterable[str | bytes], catalogue: Catalogue) -> Iterator[Request | Refused]:
    """The requests of JSON lines; blank lines are skipped, and lines that cannot be answered are `Refused`."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        user = ""
        try:
            found = _parsed(line, where := f"stdin, line {number}")
            user = "" if found.get("user") is None else _id(found["user"], where)
            if unknown := sorted(found.keys() - {*KEYS}):
                raise DataError(f"{where}: no key {unknown[0]!r}{did_you_mean(unknown[0], KEYS)}", _FORM)
            if not isinstance(found.get("history", []), list):
                raise DataError(f"{where}: 'history' must be a list, found {str(found)[:80]}", _FORM)
            if "history" in found:
                ids = [_id(item, where) for item in found["history"]]
                yield history_request(catalogue, user, ids, where=where, error=DataError)
            elif user:
                yield user_request(catalogue, user, where=where, error=DataError)
            else:
                raise DataError(f"{where}: neither 'user' nor 'history' in {str(found)[:80]}", _FORM)
        except BBQRecError as error:
            yield Refused(number, user, error)


def _id(value: Any, where: str) -> str:
    if (found := id_text(whole(value))) is None:
        raise DataError(f"{where}: {json.dumps(value)[:80]} is no id; a text or a whole number is needed", _FORM)
    return found


def _parsed(line: str | bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:  # bytes that are not UTF-8 raise ValueError, too
        what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
        raise DataError(f"{where}: not JSON ({what})", _FORM) from error
    if not isinstance(found, dict):
        raise DataError(f"{where}: an object is needed, found {str(found)[:80]}", _FORM)
    return found


def request_batches(requests: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` requests."""
    waiting = iter(requests)
    while batch := list(islice(waiting, size)):
        yield batch
