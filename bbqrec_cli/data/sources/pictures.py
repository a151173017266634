"""Pictures of items, in a folder or by their paths: each is read from its file when it is asked for. I items."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import overload

from bbqrec_cli.data.sources.files import as_id, first_few
from bbqrec_cli.errors import DataError, MissingFileError
from bbqrec_cli.progress import Progress

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
PICTURE_FOLDERS = ("images", "pictures", "posters")


def find_pictures(folder: Path | None) -> Path | None:
    """The folder of pictures inside a data folder, if there is one; None for a file.

    Raises:
        DataError: several are there.
    """
    found = [folder / name for name in PICTURE_FOLDERS if (folder / name).is_dir()] if folder else []
    if len(found) > 1:
        names = " and ".join(each.name for each in found)
        raise DataError(f"{folder}: holds the folders {names}; which one has the pictures?", "--images FOLDER")
    return found[0] if found else None


def list_pictures(folder: Path) -> dict[str, Path]:
    """Item id -> picture, for a folder of pictures named by item id.

    Raises:
        MissingFileError: no such folder.
        DataError: no picture in it; two pictures of one item.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{folder}: no such folder of pictures", "--images FOLDER")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES and not path.name.startswith("."):
            item = as_id(path.stem)
            if item in found:
                what = f"{folder}: two pictures of one item, {found[item].name} and {path.name}"
                raise DataError(what, "keep one of them")
            found[item] = path
    if not found:
        raise DataError(f"{folder}: holds no pictures ({', '.join(PICTURES)})", "--images FOLDER, or move it away")
    return found


def pictures_of(folder: Path | None, item_ids: list[str], progress: Progress) -> Sequence[bytes]:
    """The encoded pictures (I,) in a folder, named by item id, b'' = missing; [] without a folder.

    Raises: those of `list_pictures` and `read_pictures`.
    """
    return read_pictures(list_pictures(folder), item_ids, folder, progress) if folder else []


def read_pictures(pictures: dict[str, Path], item_ids: list[str], where: Path, progress: Progress) -> PictureFiles:
    """The encoded picture of each item, b'' = missing; logs missing and unused pictures.

    Args:
        pictures: item id -> picture.
        where: the folder or file that assigns pictures to items, for the messages.

    Raises:
        DataError: no picture belongs to an item, or none exists.
    """
    named = {item: pictures[item] for item in item_ids if item in pictures}
    # `Path.is_file` fails for a name that is too long.
    kept = {item: path for item, path in named.items() if os.path.isfile(path) and path.stat().st_size}
    if not named:
        raise DataError(
            f"{where}: none of its {len(pictures):,} pictures is of one of the {len(item_ids):,} items: the pictures "
            f"are those of {first_few(pictures)}, the items {first_few(item_ids)}",
            f"name each picture by its item's id, as {item_ids[0]}.jpg, or give another --images FOLDER",
        )
    if not kept:
        first = next(iter(named.values()))
        what = f"{where}: none of the {len(named):,} pictures exists, the first: {first}"
        raise DataError(what, "give paths relative to the items file, or --images FOLDER")
    if gone := [path for item, path in named.items() if item not in kept]:
        progress.warn(f"{where}: {len(gone):,} pictures do not exist and count as missing, the first: {min(gone)}")
    if left := len(pictures) - len(named):
        progress.log(f"{where}: {left:,} pictures are left out: their items are not among those kept")
    return PictureFiles([kept.get(item) for item in item_ids])


class PictureFiles(Sequence[bytes]):
    """Encoded pictures (I,), each read from its file when it is asked for; b'' = missing.

    paths: (I,), None = missing.
    """

    def __init__(self, paths: Sequence[Path | None]) -> None:
        self._paths = paths

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> PictureFiles: ...
    def __getitem__(self, row: int | slice) -> bytes | PictureFiles:
        if isinstance(row, slice):
            return PictureFiles(self._paths[row])
        path = self._paths[row]
        return path.read_bytes() if path else b""

    def __len__(self) -> int:
        return len(self._paths)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def files(self) -> list[Path]:
        """Those that are there."""
        return [path for path in self._paths if path]

    @property
    def present(self) -> list[bool]:
        """Which of the items have one, (I,)."""
        return [path is not None for path in self._paths]

    def without(self, rows: Collection[int]) -> PictureFiles:
        """The same with some rows missing."""
        return PictureFiles([None if row in rows else path for row, path in enumerate(self._paths)])
