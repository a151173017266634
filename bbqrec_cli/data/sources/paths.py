"""The paths that a source is given, and which of a folder's files is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bbqrec_cli.errors import DataError, UsageError


def only_path(paths: list[Path], name: str, example: str) -> Path:
    """The one path of a source called `name`. Raises: UsageError: there is none, or several; the hint is `example`."""
    if len(paths) != 1:
        raise UsageError(f"prepare {name} needs one path; there are {len(paths)}", example)
    return paths[0]


def check_no_path(paths: list[Path], name: str) -> None:
    """Raises: UsageError: a path for a source called `name`, which generates its data."""
    if paths:
        raise UsageError(f"prepare {name} generates its data and takes no path", f"bbqrec prepare {name}")


def download_folder(paths: list[Path], example: str) -> Path:
    """Where --download downloads to: the one path, or here. Raises: UsageError: several, or a file; the hint is
    `example`."""
    if len(paths) > 1:
        raise UsageError(f"--download needs one folder to download into; there are {len(paths)}", example)
    if paths and paths[0].exists() and not paths[0].is_dir():
        raise UsageError(f"--download needs a folder to download into; {paths[0]} is a file", example)
    return paths[0] if paths else Path()


def one_of(found: Sequence[Path], folder: Path, hint: str) -> Path | None:
    """The one file that was found in a folder, or None. Raises: DataError: there are several."""
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise DataError(f"{folder}: holds {names}; which one is meant?", hint)
    return found[0] if found else None


def find_file(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path | None:
    """`folder/stem.suffix` for the one suffix that is there, or None. Raises: DataError: several are there."""
    found = [path for suffix in suffixes if (path := folder / f"{stem}{suffix}").is_file()]
    return one_of(found, folder, "name the files, or move one away")
