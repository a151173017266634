"""S3-Rec's layout: one line `user item item …` per user, oldest first, and an optional items.json; or LETTER's, where
one JSON object has each user's items (X.inter.json, X.item.json)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from bbqrec_cli.data.sources.base import Interactions, Items, by_user
from bbqrec_cli.data.sources.columns import ITEM, LISTS, USER, usual
from bbqrec_cli.data.sources.files import (
    as_id,
    fields_of,
    first_few,
    lines,
    read_items,
    read_json,
)
from bbqrec_cli.data.sources.options.s3rec import S3RecOptions
from bbqrec_cli.data.sources.paths import one_of, only_path
from bbqrec_cli.data.sources.pictures import find_pictures, list_pictures, read_pictures
from bbqrec_cli.errors import DataError, MissingFileError
from bbqrec_cli.progress import Progress

T = TypeVar("T")
_TELL = "--id-shift N adds N to each id of {name}: 0 keeps them as they are, 1 or -1 shifts them"
_RENUMBER = "give {name} the ids of the sequences, or say with --id-shift what to add to its own"
_EXAMPLE = "one line per user: u1 i1 i2 i3"
_JSON_EXAMPLE = '{"u1": ["i1", "i2"], …}, oldest first'
_HEAD = 50
"""Lines that are looked at to tell whether the first one has names."""


class S3Rec:
    """PATH: a sequences.txt-like file or an X.inter.json, or a folder with one of them, the items' JSON and pictures.

    entries: the ids in the items file, as they stand there; after `items`.

    Raises:
        UsageError: not one path.
        MissingFileError: the path or its sequences.txt does not exist.
    """

    minimum = 0

    def __init__(self, paths: list[Path], options: S3RecOptions, *, seed: int, progress: Progress) -> None:
        path = only_path(paths, "s3rec", "bbqrec prepare s3rec FOLDER")
        folder = path if path.is_dir() else None
        self._sequences = _sequences_of(folder) if folder else path
        if not self._sequences.is_file():
            hint = "give the file of sequences itself" if folder else "check the name, or give it in full"
            raise MissingFileError(f"{self._sequences}: no such file", hint)
        names = ("items.json", self._sequences.name.replace(".inter.json", ".item.json"))
        beside = [folder / name for name in names if name != self._sequences.name] if folder else []
        self._items = options.items or next(filter(Path.is_file, beside), None)
        self.images = options.images or find_pictures(folder)
        self._id_column, self._shift, self._progress = options.item_column, options.id_shift, progress
        self.files = [self._sequences, *([self._items] if self._items else [])]
        self._ids: set[str] = set()
        self.entries: set[str] = set()

    def interactions(self) -> Interactions:
        """Raises: DataError: a line without items, a user with two lines, an empty file; it names the line."""
        owners: list[str] = []
        items: list[str] = []
        rows = self._json() if _is_json(self._sequences) else self._lines()
        for user, interacted in rows:
            owners += [user] * len(interacted)
            items += interacted
        if not items:
            raise DataError(f"{self._sequences}: empty; lines of `user item item …` are needed", _EXAMPLE)
        self._ids = set(items)
        return by_user(owners, items)

    def _lines(self) -> Iterator[tuple[str, list[str]]]:
        """(user, items) of each line; a line of names is left out, and said."""
        seen: dict[str, int] = {}
        rows = lines(self._sequences)
        head = list(islice(rows, _HEAD))
        if head and (header := _header([line.split() for _, line in head])):
            number, line = head.pop(0)
            if header == "odd":
                what = f"{self._sequences}, line {number}: {line[:80]!r} looks like a line of names"
                raise DataError(f"{what}: all other ids are numbers", "remove the line")
            self._progress.log(f"{self._sequences.name}: its first line, {line[:80]!r}, is read as names")
        for number, line in chain(head, rows):
            user, *interacted = line.split()
            where = f"{self._sequences}, line {number}"
            if not interacted:
                raise DataError(f"{where}: user {user!r} has no items; `user item item …` is needed", _EXAMPLE)
            if user in seen:
                raise DataError(f"{where}: user {user!r} has line {seen[user]} already", "keep one line per user")
            seen[user] = number
            yield user, interacted

    def _json(self) -> Iterator[tuple[str, list[str]]]:
        """(user, items) of each entry of a JSON object."""
        found = read_json(self._sequences, _JSON_EXAMPLE)
        self._progress.log(f"{self._sequences.name}: read as one JSON object, user -> items, oldest first")
        seen: set[str] = set()
        for user, interacted in found.items():
            plain = isinstance(interacted, list) and all(type(item) in (str, int) for item in interacted)
            if not plain or not interacted:
                what = f"{self._sequences}: user {user!r} has {str(interacted)[:60]}; a list of item ids is needed"
                hint = "an items file is named with --items" if isinstance(interacted, dict) else _JSON_EXAMPLE
                raise DataError(what, hint)
            row = as_id(user), [as_id(str(item)) for item in interacted]
            if not row[0] or "" in row[1]:
                raise DataError(f"{self._sequences}: user {user!r}: an id is empty", "name every user and item")
            if row[0] in seen:
                raise DataError(f"{self._sequences}: user {row[0]!r} has two entries", "keep one entry per user")
            seen.add(row[0])
            yield row

    def items(self, item_ids: list[str]) -> Items:
        """Fields of items.json and pictures; see `id_shift` and `picture_shift`."""
        fields: dict[str, list[str]] = {}
        images: Sequence[bytes] = []
        shift = self._shift
        if self._items:
            known = read_items(self._items, id_column=self._id_column)
            self.entries = set(known)
            if shift is None:
                shift = id_shift(self._ids, set(known), self._items)
            if shift:
                self._say(self._items.name, shift, self._ids <= shifted(known, shift).keys())
            fields = fields_of(item_ids, shifted(known, shift), self._items, self._progress)
        if self.images:
            pictures = list_pictures(self.images)
            if self._shift is not None:
                shift = self._shift
            else:
                shift = picture_shift(self._ids, set(pictures), shift or 0, self.images, self._progress)
            if shift:
                self._say(self.images.name, shift, self._ids <= shifted(pictures, shift).keys())
            images = read_pictures(shifted(pictures, shift), item_ids, self.images, self._progress)
        return Items(fields=fields, images=images)

    def _say(self, name: str, shift: int, all_there: bool) -> None:
        if self._shift is not None:
            self._progress.log(f"{name}: {shift} is added to each id (--id-shift)")
            return
        checked = f" (checked: all {len(self._ids):,} items then have an entry; without it, not all have)"
        self._progress.log(
            f"{name}: its ids start at 0, those of {self._sequences.name} at 1: 1 is added to each"
            f"{checked if all_there else ''}"
        )


def _sequences_of(folder: Path) -> Path:
    """sequences.txt, or the folder's one X.inter.json.

    Raises:
        DataError: several of the latter.
    """
    usual_one = folder / "sequences.txt"
    found = [] if usual_one.is_file() else sorted(folder.glob("*.inter.json"))
    return one_of(found, folder, "give the file") or usual_one


def _is_json(path: Path) -> bool:
    """Whether the file is JSON; lines of users never start with a brace or a bracket."""
    return next((line for _, line in lines(path)), "").startswith(("{", "["))


def _header(rows: list[list[str]]) -> str:
    """Whether the first of some rows has names: "usual" ones, "odd" ones (all other ids are numbers), or ""."""
    first, rest = rows[0], rows[1:]
    user, items = first[:1], first[1:]
    if items and usual(user, USER) == 0 and all(usual([name], (*ITEM, *LISTS)) == 0 for name in items):
        return "usual"
    numbers = rest and all(name.isdecimal() for row in rest for name in row)
    return "odd" if numbers and not any(name.isdecimal() for name in first) else ""


def id_shift(ids: set[str], known: set[str], path: Path) -> int:
    """What to add to the ids of an items file: 1 where they start at 0 and the sequences' at 1 (as in LETTER), or 0.

    Args:
        ids: the sequences' items.
        known: the items of the items file.
        path: the items file, for the messages.

    Raises:
        DataError: both readings fit, or neither does; no item has an entry.
    """
    if not ids & known:
        what = f"{path}: no item of the sequences has an entry: their ids look like {first_few(sorted(ids))}"
        raise DataError(f"{what}, those of the file like {first_few(sorted(known))}", _RENUMBER.format(name=path.name))
    if not all(map(str.isdecimal, ids | known)) or ("0" in ids) == ("0" in known):
        return 0
    fits = ids <= known
    if "0" in known:
        fits_shifted = ids <= shifted(dict.fromkeys(known), 1).keys()
        if fits != fits_shifted:
            return 1 if fits_shifted else 0
        what = f"{'all' if fits else 'not all'} items have an entry, whether its ids stay or 1 is added to each"
        where = f"{path}: its ids start at 0, those of the sequences at 1, and {what}"
    else:
        if not ids <= shifted(dict.fromkeys(known), -1).keys():
            return 0  # it may lack just the entry '0'
        what = "all items have an entry if 1 is subtracted"
        where = f"{path}: its ids start at 1, those of the sequences at 0, and {what}"
    raise DataError(f"{where}; which is meant cannot be told", _TELL.format(name=path.name))


def picture_shift(ids: set[str], pictures: set[str], shift: int, folder: Path, progress: Progress) -> int:
    """What to add to the numbers that name the pictures: 0, or 1 like the items file's (`shift`).

    A picture 0 means 1, a picture of the sequences' highest id means 0.

    Raises:
        DataError: both exist, or there is a picture 0 although nothing else starts at 0.
    """
    if not all(map(str.isdecimal, ids | pictures)) or "0" in ids:
        return 0
    zero, top = "0" in pictures, str(max(map(int, ids))) in pictures
    if zero and (top or not shift):
        what = f"{folder}: there is a picture 0, but no item 0" + (", and one of the last item as well" if top else "")
        raise DataError(f"{what}; whether they count from 0 or 1 cannot be told", _TELL.format(name=folder.name))
    if shift and not zero and not top:
        progress.warn(f"{folder}: read as named by the ids of the sequences, which start at 1; --id-shift changes that")
    return 1 if zero else 0


def shifted(known: dict[str, T], shift: int) -> dict[str, T]:
    """`known` with `shift` added to the ids that are numbers; the others are left out if there is a shift."""
    return {str(int(key) + shift): value for key, value in known.items() if key.isdecimal()} if shift else known
