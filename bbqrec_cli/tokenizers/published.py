"""Semantic IDs that somebody else made, from an index file in JSON: item id -> ["<a_183>", "<b_70>", …].

LETTER, MQL4GRec and MiniOneRec publish theirs so. I items, L levels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bbqrec_cli.errors import BrokenFileError, DataError, MissingFileError, UsageError
from bbqrec_cli.records import Codes

if TYPE_CHECKING:
    from bbqrec_cli.tokenizers.base import RunSettings, Tokenized, TokenizerInput
    from bbqrec_cli.tokenizers.configs import PublishedConfig

SIGNAL = "published"
LARGEST_CODE = int(np.iinfo(np.uint16).max)
_TOKEN = re.compile(r"<([A-Za-z]+)_(\d+)>")
_NEEDED = 'a list such as ["<a_183>", "<b_70>"] is needed'


class Published:
    """The tokenizer that learns nothing and reads `config.index`."""

    def __init__(self, config: PublishedConfig) -> None:
        self.config = config

    def fit(self, inputs: TokenizerInput, run: RunSettings) -> Tokenized:
        """The published codes of the catalogue's items; one signal.

        Raises:
            UsageError: no index was given.
            MissingFileError, BrokenFileError, DataError: as `read_index` and `align`.
        """
        from bbqrec_cli.tokenizers.base import Tokenized

        if not self.config.index:
            raise UsageError("--method published needs --index", "bbqrec tokenize --method published --index FILE.json")
        path = Path(self.config.index)
        item_ids, codes = read_index(path)
        codes, note = align(item_ids, codes, inputs.item_ids, where=str(path))
        if note:
            run.progress.log(f"{path}: {note}")
        made = Codes(codes=codes, modalities=(SIGNAL,), method="published", codebook_size=int(codes.max(initial=0)) + 1)
        return Tokenized(codes=made, history=[])


def read_index(path: Path) -> tuple[list[str], np.ndarray]:
    """Item ids and their codes (I, L, 1) uint16, in the order of the file.

    Raises:
        MissingFileError: no such file.
        BrokenFileError: not a JSON object.
        DataError: an entry that is no list of tokens, a code above 65,535, IDs of different lengths, a level whose
            tokens do not all begin with the same letter, an id given twice; the id is named.
    """
    entries = _read_json(path)
    codes: list[list[int]] = []
    letters: list[str] = []
    for key, tokens in entries:
        found, row = _parse(tokens, f"{path}: item {key!r}")
        letters = letters or found
        if len(found) != len(letters):
            raise DataError(f"{path}: item {key!r} has {len(found)} levels, item {entries[0][0]!r} {len(letters)}")
        if found != letters:
            raise DataError(
                f"{path}: item {key!r} has the levels {' '.join(found)}, item {entries[0][0]!r} {' '.join(letters)}"
            )
        codes.append(row)
    return [key for key, _ in entries], np.array(codes, dtype=np.uint16)[:, :, None]


def _read_json(path: Path) -> list[tuple[str, Any]]:
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=lambda pairs: pairs)
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BrokenFileError(f"{path}: not JSON: {error}", f"an object of item id to tokens: {_NEEDED}") from None
    if not isinstance(pairs, list) or not pairs or not all(isinstance(pair, tuple) for pair in pairs):
        raise BrokenFileError(f"{path}: not a JSON object of item id to tokens, or an empty one", _NEEDED)
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise DataError(f"{path}: item {key!r} is there twice", "keep one entry an item")
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

    LETTER's ids are S3-Rec's less one. That reading is taken only where every item then has an entry and, as the ids
    stand, some have none; where both readings are possible, neither is taken.

    Args:
        index_ids: the index's I' ids.
        codes: (I', L, 1), theirs.
        item_ids: the catalogue's I ids, in the order of its rows.
        where: the index's name for the messages.

    Returns:
        codes (I, L, 1) in the order of item_ids; what was assumed, in a sentence ('' if nothing was).

    Raises:
        DataError: an item has no entry, or the ids can be read in two ways.
    """
    rows = {key: row for row, key in enumerate(index_ids)}
    as_they_stand = [rows.get(item, -1) for item in item_ids]
    missing = as_they_stand.count(-1)
    less_one = _rows_less_one(rows, item_ids)
    if less_one and not missing:
        raise DataError(
            f"{where}: its ids start at 0 and the catalogue's do not, yet every item has an entry both as the ids "
            "stand and with one taken off; which is meant can not be told",
            "leave out the entry '0' if it is of no item, or number both alike",
        )
    if less_one:
        note = (
            f"its ids start at 0: the catalogue's id less one is looked up (all {len(item_ids):,} items have an entry)"
        )
        return codes[less_one], note
    if missing:
        first = item_ids[as_they_stand.index(-1)]
        raise DataError(
            f"{where}: {missing:,} of the catalogue's {len(item_ids):,} items have no entry, the first is {first!r} "
            f"(the index has {len(rows):,} entries, such as {index_ids[0]!r})",
            "prepare the data that the index was made for",
        )
    return codes[as_they_stand], ""


def _rows_less_one(rows: dict[str, int], item_ids: Sequence[str]) -> list[int]:
    """Each item's row when ids count from 0 in the index and from 1 in the catalogue; [] where that can not be."""
    if "0" not in rows or "0" in item_ids or not all(item.isdecimal() for item in item_ids):
        return []
    found = [rows.get(str(int(item) - 1), -1) for item in item_ids]
    return [] if -1 in found else found
