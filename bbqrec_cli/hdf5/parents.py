"""What a file records of the files that it was made of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from bbqrec_cli.hdf5.safety import DAMAGE, check_safe
from bbqrec_cli.hdf5.schema import KINDS

Parent = Mapping[str, Any]


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream) -> str:  # Python 3.10
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Folder:
    """Files of a folder that were read, as one input."""

    path: Path
    files: tuple[Path, ...]


def folder_of(files: Iterable[Path]) -> list[Folder]:
    """The folder that holds all `files`, however deep; [] without files."""
    there = tuple(sorted({Path(os.path.abspath(each)) for each in files}))
    if not there:
        return []
    common = Path(os.path.commonpath([each.parent for each in there]))
    return [Folder(common, there)]


def describe_parent(path: Path | Folder) -> Parent:
    """{'path': name, 'kind', 'sha256'} of an input; kind 'raw' if it is not a bbqrec file. Of a folder, kind 'folder',
    also the number of 'files', and the digest of their names and contents.

    Raises:
        UnsafeFileError: as `open_file`.
    """
    if isinstance(path, Folder):
        inside = [[each.relative_to(path.path).as_posix(), sha256(each)] for each in path.files]
        digest = hashlib.sha256(json.dumps(inside).encode()).hexdigest()
        return {"path": path.path.name, "kind": "folder", "files": len(inside), "sha256": digest}
    kind = "raw"
    if h5py.is_hdf5(path):
        with suppress(*DAMAGE), h5py.File(path, "r", locking=False) as file:
            check_safe(file, path)
            found = file.attrs.get("kind", kind)
            found = found.decode() if isinstance(found, bytes) else str(found)
            kind = found if found in KINDS else kind
    return {"path": path.name, "kind": kind, "sha256": sha256(path)}
