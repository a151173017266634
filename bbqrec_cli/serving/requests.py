"""Requests for recommendations: users of the file, given histories, JSON lines. I items, T items of a history."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.errors import BBQRecError, DataError, UsageError
from bbqrec_cli.records import Catalogue


@dataclass(frozen=True, eq=False)
class Request:
    """user: an id, '' for a given history; rows (T,) int64: the items of the history, oldest first."""

    user: str
    rows: np.ndarray


def item_rows(catalogue: Catalogue, ids: Iterable[str], *, where: str, error: type[BBQRecError]) -> np.ndarray:
    """Rows (T,) int64 of item ids. Raises: `error` for an unknown id, with the nearest one."""
    ids = list(ids)
    rows = catalogue.item_ids.rows(ids)
    for name in (ids[place] for place in np.flatnonzero(rows < 0)):
        raise error(f"{where}: no item {name!r}{_instead(catalogue, name)}", "give ids of the catalogue")
    return rows


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
    if user not in catalogue.user_ids:
        what = f"no user {user!r}{did_you_mean(user, catalogue.user_ids)}"
        raise error(f"{where}: {what}", "give ids of users of the model file")
    rows = catalogue.sequences[catalogue.user_ids.row(user)]
    if not len(rows):
        raise error(f"{where}: user {user!r} has no interactions", "give a --history")
    return Request(user, rows.astype("int64"))


def requests_of_options(
    catalogue: Catalogue, *, history: Sequence[str] | None, users: Sequence[str], first: int
) -> list[Request]:
    """The requests of the command line: a history, users by id (also several separated by commas), or the first `first`
    users with interactions."""
    if history:
        return [Request("", item_rows(catalogue, history, where="--history", error=UsageError))]
    asked = [name for each in users for name in ([each] if each in catalogue.user_ids else each.split(","))]
    if not asked:
        lengths = catalogue.sequences.lengths
        with_items = (name for name, length in zip(catalogue.user_ids, lengths, strict=True) if length)
        asked = list(islice(with_items, first))
    return [user_request(catalogue, name, where="--user", error=UsageError) for name in asked]


def requests_of_lines(lines: Iterable[str | bytes], catalogue: Catalogue) -> Iterator[Request]:
    """The requests of JSON lines; blank lines are skipped. Raises: DataError, with the line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where, form = f"stdin, line {number}", '{"user": "…", "history": ["id", …]}'
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:  # bytes that are not UTF-8 raise ValueError, too
            what = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise DataError(f"{where}: not JSON ({what})", form) from error
        if not isinstance(found, dict) or not isinstance(found.get("history", []), list):
            raise DataError(f"{where}: an object with a list as 'history' is needed, found {str(found)[:80]}", form)
        user = "" if found.get("user") is None else str(found["user"])
        if "history" not in found and not user:
            raise DataError(f"{where}: neither 'user' nor 'history' in {str(found)[:80]}", form)
        if "history" not in found:
            yield user_request(catalogue, user, where=where, error=DataError)
        elif not found["history"]:
            raise DataError(f"{where}: the history is empty; at least one item is needed")
        else:
            yield Request(user, item_rows(catalogue, map(str, found["history"]), where=where, error=DataError))


def request_batches(requests: Iterator[Request], size: int) -> Iterator[list[Request]]:
    """Lists of `size` requests. Requests before an invalid one are yielded before its error is raised."""
    waiting: list[Request] = []
    try:
        for request in requests:
            waiting.append(request)
            if len(waiting) == size:
                yield waiting
                waiting = []
    except BBQRecError:
        if waiting:
            yield waiting
        raise
    if waiting:
        yield waiting
