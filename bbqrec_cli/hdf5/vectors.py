"""Arrays of other programs' HDF5 files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from bbqrec_cli.errors import BrokenFileError, LackingError
from bbqrec_cli.hdf5.chunks import Chunks
from bbqrec_cli.hdf5.safety import DAMAGE, Allowance, check_safe


class Arrays:
    """The datasets of any HDF5 file; shapes: HDF5 path -> shape and NumPy kind ('f', 'i', …; 'U': strings); format: its
    root attribute of that name, '' without one.

    Raises:
        BrokenFileError: not an HDF5 file, or a damaged one.
        UnsafeFileError: as `open_file`. LackingError: no permission.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        with self._open() as (file, _):
            said = file.attrs.get("format", "")
            self.format = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            try:
                file.visititems(self._see)
            except DAMAGE as error:
                raise BrokenFileError(f"{path}: a damaged HDF5 file ({error})") from error

    @contextmanager
    def _open(self) -> Iterator[tuple[h5py.File, Allowance]]:
        try:
            file = h5py.File(self.path, "r", locking=False)
        except PermissionError as error:
            raise LackingError(f"{self.path}: no permission to read it") from error
        except DAMAGE as error:
            raise BrokenFileError(f"{self.path}: not an HDF5 file, or a damaged one ({error})") from error
        with file:
            try:
                allowance = check_safe(file, self.path)
            except DAMAGE as error:
                raise BrokenFileError(f"{self.path}: a damaged HDF5 file ({error})") from error
            yield file, allowance

    def _see(self, name: str, node: h5py.Dataset | h5py.Group) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            self.shapes[name] = node.shape, "U" if h5py.check_string_dtype(node.dtype) else node.dtype.kind

    def read(self, name: str) -> np.ndarray:
        """A dataset; strings as NumPy's. Raises: BrokenFileError: its bytes cannot be read."""
        with self._open() as (file, allowance):
            try:
                node = file[name]
                Chunks(node).check(slice(None))
                if not h5py.check_string_dtype(node.dtype):
                    if node.dtype.hasobject:  # many may refer to the same bytes
                        raise TypeError("values of variable length that are no texts")
                    return node[()]
                values = allowance.read(name, node, slice(None)) if node.dtype.kind == "O" else node[()]
                return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in np.ravel(values)])
            except DAMAGE as error:
                raise BrokenFileError(f"{self.path}: /{name} cannot be read ({error})") from error
