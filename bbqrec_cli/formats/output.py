"""A file or a folder that is written whole or not at all: beside its place, then renamed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bbqrec_cli.data.sources.exported import RECORD, recorded_files
from bbqrec_cli.errors import DataError, OutputExistsError
from bbqrec_cli.outputs import check_output, check_parent, only_writer, partial_of, replacing, write_error


@contextmanager
def whole_file(path: Path, *, force: bool, inputs: list[Path]) -> Iterator[Path]:
    """The place to write to; it becomes `path` at the end, or is removed on any error.

    Raises:
        OutputExistsError, DataError, LackingError, DiskFullError: as files of bbqrec.
    """
    check_output(path, force=force, inputs=inputs)
    with replacing(path) as partial:
        yield partial


@contextmanager
def whole_folder(path: Path, about: Mapping[str, Any], *, force: bool) -> Iterator[Path]:
    """The folder to write into; with its record it becomes `path` at the end, or is removed on any error.

    Args:
        about: what the record says beside the names of the files.
        force: replace an existing folder, but only one that holds nothing but what an export wrote.

    Raises:
        OutputExistsError, DataError, LackingError, DiskFullError.
    """
    _check_folder(path, force=force)
    partial, old = partial_of(path), partial_of(path).with_suffix(".old")
    with only_writer(path):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            yield partial
            record = {**about, "files": files_in(partial)}
            (partial / RECORD).write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.replace(path, old)
            os.replace(partial, path)
        except OSError as error:
            raise write_error(path, error) from error
        finally:
            if old.exists() and not path.exists():
                os.replace(old, path)
            for each in (partial, old):
                shutil.rmtree(each, ignore_errors=True)


def files_in(folder: Path) -> tuple[str, ...]:
    """The names of all files in a folder, however deep, in order."""
    return tuple(sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()))


def _check_folder(path: Path, *, force: bool) -> None:
    if path.name in ("", ".."):
        raise DataError(f"{path}: has no name of its own; a new folder is needed", "give -o its name")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise DataError(f"{path}: is not a folder; this format has several files", "give -o the name of a new folder")
    check_parent(path)
    if not path.exists():
        return
    others = sorted({*files_in(path)} - {*recorded_files(path)})
    if others:
        what = f"{path}: holds files that no export wrote, such as {others[0]}"
        raise OutputExistsError(what, "give -o the name of a new folder")
    if not force:
        raise OutputExistsError(f"{path}: exists already", "give --force to replace it, or -o for another name")
