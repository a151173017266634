"""Which column of a table is what: usual names in any case, types as RecBole writes them, files without names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bbqrec_cli.data.sources import times

USER = (
    "user", "user_id", "uid", "user_name", "reviewer_id", "customer", "customer_id", "visitor", "visitor_id",
    "member_id", "account_id", "buyer_id", "client_id",
)  # fmt: skip
ITEM = (
    "item", "item_id", "iid", "sku", "asin", "parent_asin", "product", "product_id", "movie_id", "book_id", "isbn",
    "business_id", "gmap_id", "artist_id", "track_id", "song_id", "game_id", "app_id", "article_id", "news_id",
    "video_id",
)  # fmt: skip
TIME = (
    "timestamp", "ts", "time", "unix_review_time", "unix_time", "unix_timestamp", "date_time", "date", "created_at",
    "event_time",
)  # fmt: skip
RATING = ("rating", "stars", "overall", "score")
USUAL = {"user": USER, "item": ITEM, "time": TIME, "rating": RATING}
"""What a column is for -> its usual names, the best first; case, `_`, `-` and spaces do not count."""
ITEM_ID = ("item", "id", *ITEM[1:])
"""Usual names of the id in a table of items."""
LISTS = ("item_list", "items", "item_ids", "item_id_list", "sequence", "history", "item_sequence")
"""Usual names of a column with a user's items, besides those of one item."""
TIME_LISTS = ("timestamps", "times", "timestamp_list", "time_list", "timestamp_sequence", "dates")
"""Usual names of a column with the times of these."""
_NAMELESS = {3: ("user", "item", "time"), 4: ("user", "item", "rating", "time")}
"""Columns of a file without names, as MovieLens has them."""


@dataclass(frozen=True)
class Columns:
    """found: what a column is for -> its place; missing: what has none; nameless: the file has no line of names."""

    found: dict[str, int]
    missing: tuple[str, ...] = ()
    nameless: bool = False


def usual(header: Sequence[str], names: Sequence[str]) -> int | None:
    """The place of the column with the first of the usual `names` that there is; None without any."""
    plain = [_folded(name) for name in header]
    return next((plain.index(name) for name in map(_folded, names) if name in plain), None)


def find(header: Sequence[str], named: dict[str, str | None]) -> Columns:
    """The columns of a table.

    Args:
        header: the cells of its first line; where `named` has numbers that are no names, it is data.
        named: what a column is for (a key of USUAL) -> its name if the command line gives it, else None.
    """
    names = [name if name in header else plain_name(name) for name in header]
    found: dict[str, int | None] = {}
    for role, name in named.items():
        if name is None:
            found[role] = usual(header, USUAL[role])
        else:
            found[role] = header.index(name) if name in header else names.index(name) if name in names else None
    numbers = [name for name in named.values() if name and name.isdecimal() and name not in header]
    bare = bool(numbers) or nameless(header)
    if bare:
        places = {role: place for place, role in enumerate(_NAMELESS.get(len(header), ()))}
        numbered = {role: int(name) - 1 for role, name in named.items() if name and name.isdecimal()}
        found = {role: numbered.get(role, None if named[role] else places.get(role)) for role in named}
        found = {
            role: place if place is not None and 0 <= place < len(header) else None for role, place in found.items()
        }
    missing = tuple(role for role, place in found.items() if place is None)
    known = {role: place for role, place in found.items() if place is not None}
    return Columns(known, missing, bare)


def nameless(header: Sequence[str]) -> bool:
    """Whether the first line holds data: user, item [, rating], time, and the last of them is a time for certain."""
    if len(header) not in _NAMELESS:
        return False
    last = times.number(header[-1])
    return times.date(header[-1]) is not None if last is None else last >= 1e8


def plain_name(name: str) -> str:
    """A column's name without spaces at its ends and without the type that RecBole adds (`user_id:token`)."""
    start, colon, kind = name.strip().rpartition(":")
    return start if colon and kind in ("token", "token_seq", "float", "float_seq") else name.strip()


def _folded(name: str) -> str:
    return "".join(c for c in plain_name(name).casefold() if c not in "_- .")
