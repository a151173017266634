"""Who asks for recommendations: users of the file, ids that were typed, JSON lines. I items, T items of a history."""

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
    """Who asks, and the rows of all the items of this person, oldest first."""

    user: str
    rows: np.ndarray


def item_rows(catalogue: Catalogue, ids: Iterable[str], *, where: str, error: type[BBQRecError]) -> np.ndarray:
    """Rows (T,) int64 of items. Raises: `error` for an unknown id, naming the nearest one."""
    ids = list(ids)
    rows = catalogue.item_ids.rows(ids)
    for name in (ids[place] for place in np.flatnonzero(rows < 0)):
        raise error(f"{where}: no item {name!r}{_instead(catalogue, name)}", "give ids of the catalogue")
    return rows


def _instead(catalogue: Catalogue, name: str) -> str:
    """What an unknown item may have been meant as: somebody typed a title, or mistyped an id."""
    folded = name.casefold()
    titled = (row for row, title in enumerate(catalogue.titles) if title.casefold() == folded)
    row = next(titled, None)
    if row is None:
        return did_you_mean(name, catalogue.item_ids)
    return f" (the item of this title is {catalogue.item_ids[row]!r})"


def user_request(catalogue: Catalogue, user: str, *, where: str, error: type[BBQRecError]) -> Request:
    """All interactions of a user of the file. Raises: `error` for an unknown user, or one without any."""
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
    """Who is asked for on the command line: a history, users by id (several may stand between commas), or the first so
    many users that have interactions."""
    if history:
        return [Request("", item_rows(catalogue, history, where="--history", error=UsageError))]
    asked = [name for each in users for name in ([each] if each in catalogue.user_ids else each.split(","))]
    if not asked:
        lengths = catalogue.sequences.lengths
        with_items = (name for name, length in zip(catalogue.user_ids, lengths, strict=True) if length)
        asked = list(islice(with_items, first))
    return [user_request(catalogue, name, where="--user", error=UsageError) for name in asked]


def requests_of_lines(lines: Iterable[str | bytes], catalogue: Catalogue) -> Iterator[Request]:
    """JSON lines; blank ones are skipped."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where, form = f"stdin, line {number}", '{"user": "…", "history": ["id", …]}'
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:  # bytes that are not UTF-8 are a ValueError too
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
            raise DataError(f"{where}: the history is empty; one item at least is needed")
        else:
            yield Request(user, item_rows(catalogue, map(str, found["history"]), where=where, error=DataError))


def request_batches(requests: Iterator[Request], size: int) -> Iterator[list[Request]]:
    """Lists of `size`. Where a request is bad, those before it come first, then its error."""
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
