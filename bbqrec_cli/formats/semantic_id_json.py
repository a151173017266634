"""Semantic IDs in JSON, as LETTER, MQL4GRec and MiniOneRec publish them: item id -> ["<a_183>", "<b_70>", …].

- LETTER (and LC-Rec): four levels a, b, c, d;
- MQL4GRec: two files, texts with small letters and pictures with capitals ("<A_154>");
- MiniOneRec: three levels; with residual k-means, an item that shares its ID has one more token, its number among the
  items with that ID, from 1.

I items, L levels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.errors import BrokenFileError, DataError, MissingFileError
from bbqrec_cli.records import Vocabulary

SIGNAL = "published"
LARGEST_CODE = int(np.iinfo(np.uint16).max)
_TOKEN = re.compile(r"<([A-Za-z]+)_(\d{1,9})>")
_LENGTHS = "IDs of equal length are needed, or one more token that numbers the items that share an ID (MiniOneRec)"
_NEEDED = 'a list such as ["<a_183>", "<b_70>"] is needed'


@dataclass(frozen=True, eq=False, kw_only=True)
class Index:
    """An index file. item_ids and codes (I, L, 1) uint16, in the file's order; letters: one per level; note: that the
    last level is read as numbers of the items that share an ID (`_number`), or ''."""

    item_ids: list[str]
    codes: np.ndarray
    letters: tuple[str, ...]
    note: str = ""


def signal_names(found: Sequence[Index]) -> tuple[tuple[str, ...], str]:
    """A name for each file, and a note if they are read as MQL4GRec's: capitals are pictures, small letters texts."""
    if len(found) == 1:
        return (SIGNAL,), ""
    small, capital = ([all(map(test, index.letters)) for index in found] for test in (str.islower, str.isupper))
    if len(found) == 2 and sorted(small) == [False, True] and capital == small[::-1]:
        note = "tokens with small letters are read as texts, with capitals as pictures, as in MQL4GRec"
        return tuple("text" if each else "image" for each in small), note
    return tuple(f"{SIGNAL}_{number}" for number in range(1, len(found) + 1)), ""


def load_index(path: Path) -> Index:
    """Read an index file.

    Raises:
        MissingFileError: no such file.
        BrokenFileError: not a JSON object.
        DataError: an entry that is not a list of tokens, a code above 65,535, IDs of different lengths (except for
            `_number`), a level with different letters, a repeated id; the message names the id.
    """
    entries = _read_json(path)
    rows: list[list[int]] = []
    letters: list[list[str]] = []
    for key, tokens in entries:
        found, row = _parse(tokens, f"{path}: item {key!r}")
        letters.append(found)
        rows.append(row)
    keys = [key for key, _ in entries]
    note = _number(rows)
    first = max(letters, key=len) if note else letters[0]
    for key, found, row in zip(keys, letters, rows, strict=True):
        if len(row) != len(first):
            raise DataError(f"{path}: item {key!r} has {len(found)} levels, item {keys[0]!r} {len(first)}", _LENGTHS)
        if found != first[: len(found)]:
            raise DataError(
                f"{path}: item {key!r} has the levels {' '.join(found)}, item {keys[0]!r} {' '.join(letters[0])}"
            )
    codes = np.array(rows, dtype=np.uint16)[:, :, None]
    return Index(item_ids=keys, codes=codes, letters=tuple(first), note=note)


def index_tokens(codes: np.ndarray) -> list[list[str]]:
    """The tokens of each item's ID as an index file has them: codes (I, L, M) -> I lists of L·M.

    Levels come one after the other, the signals of one level side by side, each place with letters of its own.
    """
    flat = codes.reshape(len(codes), -1)
    single = "abcdefghijklmnopqrstuvwxyz"
    letters = [*single, *(first + second for first in single for second in single)][: flat.shape[1]]
    return [[f"<{letter}_{code}>" for letter, code in zip(letters, row, strict=True)] for row in flat.tolist()]


def _number(rows: list[list[int]]) -> str:
    """If IDs with one more token number the items that share the other tokens, from 1, append 0 to the other IDs.

    rows are changed in place, and only in that case.

    Returns:
        the assumption made, in a sentence, or ''.
    """
    levels = min(map(len, rows))
    if {len(row) for row in rows} != {levels, levels + 1}:
        return ""
    groups: dict[tuple[int, ...], list[int]] = {}
    for row in rows:
        groups.setdefault(tuple(row[:levels]), []).append(row[levels] if len(row) > levels else 0)
    if any(sorted(each) != ([0] if len(each) == 1 else list(range(1, len(each) + 1))) for each in groups.values()):
        return ""
    alone = [row for row in rows if len(row) == levels]
    for row in alone:
        row.append(0)
    return (
        f"{len(rows) - len(alone):,} items have one more token, their number among those that share an ID, as in "
        "MiniOneRec; the others get 0 there"
    )


def _read_json(path: Path) -> list[tuple[str, Any]]:
    try:
        pairs = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=lambda pairs: pairs)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise BrokenFileError(f"{path}: not JSON: {error}", f"an object from item id to tokens: {_NEEDED}") from None
    if not isinstance(pairs, list) or not pairs or not all(isinstance(pair, tuple) for pair in pairs):
        raise BrokenFileError(f"{path}: not a JSON object from item id to tokens, or an empty one", _NEEDED)
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise DataError(f"{path}: item {key!r} appears twice", "keep one entry per item")
        seen.add(key)
    return pairs


def _parse(tokens: Any, where: str) -> tuple[list[str], list[int]]:
    """Letters and codes of one entry."""
    if not isinstance(tokens, list) or not tokens:
        raise DataError(f"{where} has {tokens!r:.80}; {_NEEDED}")
    letters, codes = [], []
    for token in tokens:
        match = _TOKEN.fullmatch(token) if isinstance(token, str) else None
        if match is None:
            raise DataError(f"{where} has the token {token!r:.80}; {_NEEDED}")
        if int(match[2]) > LARGEST_CODE:
            raise DataError(f"{where} has the token {token!r:.80}; codes go up to {LARGEST_CODE:,}")
        letters.append(match[1])
        codes.append(int(match[2]))
    return letters, codes


def align(
    index_ids: Sequence[str], codes: np.ndarray, item_ids: Sequence[str], *, where: str
) -> tuple[np.ndarray, str]:
    """The codes of the catalogue's items.

    LETTER's ids are S3-Rec's minus one. 1 is subtracted only if every item then has an entry and, with unchanged ids,
    some have none; if both readings are possible, that is an error.

    Args:
        index_ids: the I' ids of the index.
        codes: (I', L, 1), theirs.
        item_ids: the catalogue's I ids, in the order of its rows.
        where: the index's name for the messages.

    Returns:
        codes (I, L, 1) in the order of item_ids; the assumption made, in a sentence, or ''.

    Raises:
        DataError: an item has no entry, or the ids can be read in two ways.
    """
    known = Vocabulary(index_ids)
    as_they_stand = known.rows(item_ids)
    missing = int((as_they_stand < 0).sum())
    less_one = _rows_less_one(known, item_ids)
    if len(less_one) and not missing:
        raise DataError(
            f"{where}: its ids start at 0 and the catalogue's do not, yet every item has an entry both with the ids "
            "unchanged and with 1 subtracted; which is meant cannot be told",
            "remove the entry '0' if it belongs to no item, or use the same ids in both",
        )
    if len(less_one):
        note = (
            f"its ids start at 0: 1 is subtracted from the catalogue's ids (all {len(item_ids):,} items have an entry)"
        )
        return codes[less_one], note
    if missing:
        first = item_ids[int(as_they_stand.argmin())]
        raise DataError(
            f"{where}: {missing:,} of the catalogue's {len(item_ids):,} items have no entry, the first is {first!r} "
            f"(the index has {len(known):,} entries, such as {index_ids[0]!r})",
            "prepare the data set for which the index was made",
        )
    return codes[as_they_stand], ""


def _rows_less_one(known: Vocabulary, item_ids: Sequence[str]) -> np.ndarray:
    """Each item's row if ids start at 0 in the index and at 1 in the catalogue; empty if they do not."""
    if "0" not in known or "0" in item_ids or not all(item.isdecimal() for item in item_ids):
        return np.empty(0, dtype=np.int64)
    found = known.rows(str(int(item) - 1) for item in item_ids)
    return found[:0] if (found < 0).any() else found
