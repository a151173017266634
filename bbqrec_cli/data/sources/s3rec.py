"""S3-Rec's layout: `user item item …` a line, oldest first, and an optional items.json."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from bbqrec_cli.data.sources.base import Interactions, Items, Options, by_user
from bbqrec_cli.data.sources.files import fields_of, find_pictures, lines, list_pictures, read_items, read_pictures
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.progress import Progress

T = TypeVar("T")


class S3Rec:
    """PATH: a sequences.txt-like file, or a folder with sequences.txt, items.json and a folder of pictures.

    Raises:
        UsageError: not one path.
        MissingFileError: the path or its sequences.txt does not exist.
    """

    minimum = 0

    def __init__(self, paths: list[Path], options: Options, progress: Progress) -> None:
        if len(paths) != 1:
            raise UsageError(f"prepare s3rec needs one path; there are {len(paths)}", "bbqrec prepare s3rec FOLDER")
        folder = paths[0] if paths[0].is_dir() else None
        self._sequences = folder / "sequences.txt" if folder else paths[0]
        if not self._sequences.is_file():
            raise MissingFileError(f"{self._sequences}: no such file", "give the file of sequences itself")
        beside = folder / "items.json" if folder else None
        self._items = options.items or (beside if beside and beside.is_file() else None)
        self._images = options.images or find_pictures(folder)
        self._id_column, self._progress = options.item_column, progress
        self.files = [self._sequences, *([self._items] if self._items else [])]
        self._ids: set[str] = set()

    def interactions(self) -> Interactions:
        """Raises: DataError: a line without items, a user with two lines, an empty file; with the line."""
        owners: list[str] = []
        items: list[str] = []
        seen: dict[str, int] = {}
        for number, line in lines(self._sequences):
            user, *taken = line.split()
            if not taken:
                where = f"{self._sequences}, line {number}"
                raise DataError(f"{where}: user {user!r} has no items; `user item item …` is needed")
            if user in seen:
                where = f"{self._sequences}, line {number}"
                raise DataError(f"{where}: user {user!r} has line {seen[user]} already", "keep one line a user")
            seen[user] = number
            owners += [user] * len(taken)
            items += taken
        if not seen:
            raise DataError(f"{self._sequences}: empty; lines of `user item item …` are needed")
        self._ids = set(items)
        return by_user(owners, items)

    def items(self, item_ids: list[str]) -> Items:
        """Fields of items.json and the pictures; see `first_id`."""
        fields, shift, images = {}, 0, []
        if self._items:
            known = read_items(self._items, id_column=self._id_column)
            shift = first_id(self._ids, set(known), self._items)
            if shift:
                self._progress.log(
                    f"{self._items.name}: its ids start at 0, those of {self._sequences.name} at 1: one is added to each "
                    f"(checked: all {len(self._ids):,} items then have an entry, as they stand not all have)"
                )
            fields = fields_of(item_ids, shifted(known, shift), self._progress)
        if self._images:
            pictures = list_pictures(self._images)
            if shift and "0" in pictures:
                self._progress.log(f"{self._images.name}: numbered from 0 as well; one is added to each")
                pictures = shifted(pictures, shift)
            images = read_pictures(pictures, item_ids, self._progress)
        return Items(fields=fields, images=images)


def first_id(ids: set[str], known: set[str], path: Path) -> int:
    """What to add to the ids of an items file: 1 where they start at 0 and the sequences' at 1 (as LETTER publishes), or 0.

    Args:
        ids: the sequences' items.
        known: the items of the items file.
        path: the items file, for the messages.

    Raises:
        DataError: both readings fit, or neither does; no item has an entry.
    """
    hint = f"renumber {path.name} to the ids of the sequences"
    if not ids & known:
        some = f"{min(ids)!r}, …; {min(known)!r}, …" if known else "it is empty"
        raise DataError(f"{path}: no item of the sequences has an entry ({some})", hint)
    if not all(map(str.isdecimal, ids | known)) or ("0" in ids) == ("0" in known):
        return 0
    low = 0 if "0" in known else 1
    fits, fits_shifted = ids <= known, ids <= shifted(dict.fromkeys(known), 1 - 2 * low).keys()
    if low == 0 and fits != fits_shifted:
        return 1 if fits_shifted else 0
    if low == 1 and not fits_shifted:  # the file may simply lack the entry '0'
        return 0
    what = "all items have an entry with that difference taken off"
    if low == 0:
        what = f"{'all' if fits else 'not all'} items have an entry, be the ids as they stand or one added to each"
    raise DataError(
        f"{path}: its ids start at {low}, those of the sequences at {1 - low}, and {what}; which is meant cannot be told",
        hint,
    )


def shifted(known: dict[str, T], shift: int) -> dict[str, T]:
    """`known` with `shift` added to the ids that are numbers; the others are left out if there is a shift."""
    return {str(int(key) + shift): value for key, value in known.items() if key.isdecimal()} if shift else known
