"""Whether each chunk of a dataset has the right length once its filters are undone.

HDF5 assumes so: behind a shorter chunk it reads on in the process's memory and returns that as data. N bytes of a
decoded chunk.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Sequence

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t, h5z

COMPRESSORS = (h5z.FILTER_DEFLATE, h5z.FILTER_LZF)
"""`safety.py` allows one of them, followed only by checksums."""
_CHECKSUM = 4
"""Bytes that fletcher32 adds."""
_MARK = 32
"""Bytes of the marker; LZF's largest run."""


class Chunks:
    """The chunks of a dataset that is read in parts: listed once, and each checked once.

    Raises:
        ValueError: chunks that are stored in a way that cannot be checked.
    """

    def __init__(self, node: h5py.Dataset) -> None:
        self._node, self._rows = node, node.chunks[0] if node.chunks else 0
        if not node.chunks:
            return
        made, self._length = node.id.get_create_plist(), math.prod(node.chunks) * _size(node)
        self._filters = [made.get_filter(number)[0] for number in range(made.get_nfilters())]
        self._lzf = _Lzf(self._length) if h5z.FILTER_LZF in self._filters else None
        if set(self._filters) & set(COMPRESSORS) and _edges_are_plain(node, made):
            raise ValueError("chunks at its edge are stored without its filters")
        found: list[h5d.StoreInfo] = []
        node.id.chunk_iter(found.append)
        self._chunks = sorted(found, key=lambda chunk: chunk.chunk_offset)
        self._starts = np.array([chunk.chunk_offset[0] for chunk in self._chunks], np.int64)
        self._left = np.ones(len(found), bool)

    def check(self, rows: slice | np.ndarray) -> None:
        """Check the chunks that hold `rows`; for an array of rows, all chunks.

        Raises:
            ValueError: a chunk of the wrong length.
            OSError, RuntimeError: a damaged chunk.
        """
        if not self._rows:
            return
        start, stop, _ = rows.indices(len(self._node)) if isinstance(rows, slice) else (0, len(self._node), 1)
        first, last = np.searchsorted(self._starts, (start - self._rows + 1, stop))
        for at in (first + np.flatnonzero(self._left[first:last])).tolist():
            chunk = self._chunks[at]
            if not _fits(self._node.id, chunk, self._filters, self._length, self._lzf):
                raise ValueError(f"the chunk at {chunk.chunk_offset} is not of {self._length:,} bytes")
            self._left[at] = False


def _size(node: h5py.Dataset) -> int:
    """Bytes of a value in the file; for variable length, those of its reference (length, address, index)."""
    if node.dtype.kind == "O":
        return 8 + node.file.id.get_create_plist().get_sizes()[0]
    return node.id.get_type().get_size()


def _fits(data: h5d.DatasetID, chunk: h5d.StoreInfo, filters: Sequence[int], length: int, lzf: _Lzf | None) -> bool:
    """Whether a chunk decodes to N = length bytes; filters that its mask skips are skipped."""
    left = [code for number, code in enumerate(filters) if not chunk.filter_mask >> number & 1]
    at = next((number for number, code in enumerate(left) if code in COMPRESSORS), len(left))
    length += _CHECKSUM * left[:at].count(h5z.FILTER_FLETCHER32)
    if at == len(left):
        return chunk.size == length
    _, raw = data.read_direct_chunk(chunk.chunk_offset)
    raw = raw[: len(raw) - _CHECKSUM * left[at:].count(h5z.FILTER_FLETCHER32)]
    if left[at] == h5z.FILTER_LZF:
        assert lzf is not None  # it is among the filters
        return lzf.becomes(raw, length)
    try:
        return len(zlib.decompressobj().decompress(raw, length + 1)) == length
    except zlib.error:
        return False


class _Lzf:
    """The decoded length of LZF data, which only HDF5 can tell: by an in-memory dataset of one chunk.

    A random marker is appended to the data and must come out after exactly N bytes; it is new each time, since memory
    may still hold an old one.
    """

    def __init__(self, length: int) -> None:
        shape, made = (length + _CHECKSUM + _MARK,), h5p.create(h5p.DATASET_CREATE)
        made.set_chunk(shape)
        made.set_filter(h5z.FILTER_LZF, h5z.FLAG_OPTIONAL)
        self.file = _in_memory()
        self.data = h5d.create(self.file.id, b"x", h5t.NATIVE_UINT8, h5s.create_simple(shape), made)

    def becomes(self, raw: bytes, length: int) -> bool:
        """Whether raw bytes decode to `length` bytes."""
        mark, found, space = os.urandom(_MARK), np.empty(_MARK, np.uint8), self.data.get_space()
        # LZF: n - 1 says that n bytes follow as they are.
        self.data.write_direct_chunk((0,), raw + bytes([_MARK - 1]) + mark)
        space.select_hyperslab((length,), found.shape)
        self.data.read(h5s.create_simple(found.shape), space, found)
        return found.tobytes() == mark


def _edges_are_plain(node: h5py.Dataset, made: h5p.PropDCID) -> bool:
    """Whether a dataset's filters skip the chunks that exceed its shape, an option of the writer.

    The only way to tell is an in-memory dataset with the same properties and such a chunk of zeros.
    """
    chunk = node.chunks
    assert chunk is not None  # only called for chunked datasets
    if not any(size % part for size, part in zip(node.shape, chunk, strict=True)):
        return False
    made, size = made.copy(), _size(node)
    zeros = np.zeros((1, *chunk[1:]), f"V{size}")
    made.set_fill_value(np.zeros((), zeros.dtype))
    with _in_memory() as file:
        whole, corner = h5s.create_simple((chunk[0] + 1, *chunk[1:])), (chunk[0], *(0 for _ in chunk[1:]))
        whole.select_hyperslab(corner, zeros.shape)
        data = h5d.create(file.id, b"x", h5t.py_create(zeros.dtype), whole, made)
        data.write(h5s.create_simple(zeros.shape), whole, zeros)
        mask, raw = data.read_direct_chunk(corner)
    return mask == 0 and raw == bytes(math.prod(chunk) * size)


def _in_memory() -> h5py.File:
    """An HDF5 file in memory, never on disk; its name does not matter."""
    return h5py.File(os.urandom(8).hex(), "w", driver="core", backing_store=False, libver=("v110", "v110"))
