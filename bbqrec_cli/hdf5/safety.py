"""Whether a file may be read at all: it must not refer to other files, nor need far more memory than its size.

Links are checked one by one, with calls that follow no link and read no data. Nothing in a file may be used before
`check_safe` has checked all of it. docs/file-formats.md says what a file must not hold, and why.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5i, h5l, h5o, h5p, h5t, h5z

from bbqrec_cli.errors import UnsafeFileError
from bbqrec_cli.hdf5.chunks import COMPRESSORS

RATIO = 512
"""Bytes of memory per byte of a file, at most. Files of bbqrec need up to 300 (docs/file-formats.md)."""
ALWAYS = 1 << 26
"""Bytes of memory that even a small file may take."""
LARGEST_ATTRIBUTE = 1 << 16
MOST_ATTRIBUTES = 256
"""Of one object."""
MOST_OBJECTS = 1 << 16
DEEPEST = 16
"""Depth of nested groups."""
MOST_PARTS = 1000
"""Types in a compound type."""
LONGEST_NAME = 1024
"""Bytes."""
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)
"""What h5py raises on damaged files."""

_TEXT_OVERHEAD = 64
"""Bytes of a Python string beside its characters, including its place in a list."""
_VARIABLE_OVERHEAD = 128
"""The same for a value of variable length, which is first read as an array or bytes."""
_CHUNK_OVERHEAD = 4096
"""Bytes that HDF5 needs per chunk while it reads a dataset."""
_JSON_FACTOR = 4
"""Memory of decoded JSON, as a multiple of the text's length."""

_SHOWN = 200
"""Characters of a name in messages, at most."""
_FILTERS = {*COMPRESSORS, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
_PLAIN = {h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.STRING}
_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "an external link"}
_HINT = "get the file as bbqrec wrote it; docs/file-formats.md says what a file must not hold"


def check_safe(file: h5py.File, path: Path) -> Allowance:
    """Check every link, group, dataset and attribute of an opened file, without reading data.

    Returns:
        the memory left for values of variable length, whose size is known only by reading them; and what it looked at.

    Raises:
        UnsafeFileError: with the HDF5 path of the problem.
        DAMAGE: a damaged file.
    """
    size = max(1, path.stat().st_size)
    look = _Inspection(path, size)
    todo: list[tuple[str, int, h5g.GroupID]] = [("", 0, h5g.open(file.id, b"/"))]
    while todo:
        name, depth, group = todo.pop()
        if depth > DEEPEST:
            look.refuse(name, f"is more than {DEEPEST} groups deep")
        look.attributes(name, group)
        todo += [(inner, depth + 1, found) for inner, found in look.group(name, group)]
    return Allowance(path, size, look.limit - look.cost, look.datasets)


@dataclass
class Allowance:
    """left: bytes that a file's values of variable length may still take; size: bytes of the file; datasets: the
    paths of all of them."""

    path: Path
    size: int
    left: int
    datasets: list[str]

    def read(self, name: str, node: h5py.Dataset, rows: slice) -> np.ndarray:
        """Some rows (n,) of a dataset (I,) or (I, 1) of variable length, or its only value. They are read a few at a
        time, since all values may refer to the same bytes; a single value cannot be larger than the file.

        Raises:
            UnsafeFileError: more than the allowance.
        """
        if not node.shape:
            return np.array(node[()], dtype=object)
        wanted = range(len(node))[rows]
        found, done = np.empty(len(wanted), dtype=object), 0
        while done < len(wanted):
            here = wanted[done : done + max(1, self.left // self.size)]
            block = node[here.start : here.stop : here.step]
            found[done : done + len(here)] = block = block.reshape(len(here))
            done += len(here)
            self.left -= sum(each.nbytes if isinstance(each, np.ndarray) else len(each) for each in block)
            if self.left < 0:
                what = f"the values of {_place(name)} take more memory than a file of {self.size:,} bytes may"
                raise UnsafeFileError(f"{self.path}: {what}", _HINT)
        return found


@dataclass
class _Inspection:
    """State of `check_safe`. groups: addresses seen; datasets: the paths of all; objects: their number; cost: bytes of
    memory; largest: the most expensive object and its path."""

    path: Path
    size: int
    groups: set[int] = field(default_factory=set)
    datasets: list[str] = field(default_factory=list)
    objects: int = 0
    cost: int = 0
    largest: tuple[int, str] = (0, "")

    @property
    def limit(self) -> int:
        return max(ALWAYS, RATIO * self.size)

    def refuse(self, name: str, what: str) -> None:
        raise UnsafeFileError(f"{self.path}: {_place(name)} {what}; nothing was read", _HINT)

    def charge(self, name: str, cost: int) -> None:
        """Count what a dataset or an attribute takes in memory."""
        self.cost, self.largest = self.cost + cost, max(self.largest, (cost, name))
        if self.cost > self.limit:
            most, where = self.largest
            self.refuse(
                where,
                f"declares what takes {most:,} bytes of memory; all of a file of {self.size:,} bytes may take "
                f"{self.limit:,}",
            )

    def group(self, name: str, group: h5g.GroupID) -> list[tuple[str, h5g.GroupID]]:
        """Check every link of a group, then their targets. Returns the groups inside it."""
        address = h5o.get_info(group).addr
        if address in self.groups:
            self.refuse(name, "is a group that appears elsewhere in the file, too")
        self.groups.add(address)
        self.filters(name, _creation(group), ())
        links = _links(group, MOST_OBJECTS - self.objects)
        self.objects += len(links)
        if self.objects > MOST_OBJECTS:
            self.refuse(name, f"and those before it hold more than {MOST_OBJECTS:,} objects")
        # All links are checked before any object is opened.
        for raw, kind in links:
            if kind != h5l.TYPE_HARD:
                self.refuse(_inside(name, raw), f"is {_LINKS.get(kind, f'a link of the unknown kind {kind}')}")
            if b"/" in raw or raw == b"." or not _is_name(raw):
                self.refuse(_inside(name, raw), "has an invalid name: a path, not UTF-8, or too long")
        groups = []
        for raw, _ in links:
            inner, found = _inside(name, raw), h5o.open(group, raw)
            if isinstance(found, h5g.GroupID):
                groups.append((inner, found))
            elif isinstance(found, h5d.DatasetID):
                self.attributes(inner, found)
                self.dataset(inner, found)
                self.datasets.append(h5i.get_name(found).decode().lstrip("/"))
            else:
                self.refuse(inner, "is a named type")
        return groups

    def dataset(self, name: str, found: h5d.DatasetID) -> None:
        """Check a dataset's layout, filters, type and size."""
        made = found.get_create_plist()
        layout = made.get_layout()
        if layout == h5d.VIRTUAL:  # checked first, since HDF5 opens its sources to get its shape
            self.refuse(name, "is a virtual dataset, made of other datasets")
        if made.get_external_count():
            self.refuse(name, "has external storage: its bytes are in another file")
        self.filters(name, made, _FILTERS)
        kind = found.get_type()
        self.type(name, kind)
        shape, chunk = found.get_space().shape or (), made.get_chunk() if layout == h5d.CHUNKED else ()
        cost = max(math.prod(shape), math.prod(chunk or (0,))) * _bytes_each(kind)
        if chunk:
            cost += _CHUNK_OVERHEAD * math.prod(-(-length // part) for length, part in zip(shape, chunk, strict=True))
        self.charge(name, cost * (_JSON_FACTOR if name.startswith("attributes/") else 1))

    def filters(self, name: str, made: h5p.PropDCID, known: Collection[int]) -> None:
        """Check that filters are known, each used once, and only one compresses: two could expand a million times."""
        codes = [made.get_filter(number)[0] for number in range(made.get_nfilters())]
        for code in codes:
            if code not in known:
                self.refuse(name, f"has the filter {code}; allowed, for datasets: gzip, lzf, shuffle, fletcher32")
        at = min((codes.index(code) for code in COMPRESSORS if code in codes), default=len(codes))
        if len(set(codes)) < len(codes) or set(codes[at + 1 :]) - {h5z.FILTER_FLETCHER32}:
            order = ", ".join(map(str, codes))
            self.refuse(name, f"has the filters {order}; allowed: each once, and only fletcher32 after gzip or lzf")

    def attributes(self, name: str, found: h5g.GroupID | h5d.DatasetID) -> None:
        """Check type and size of every attribute of a group or dataset."""
        count = h5a.get_num_attrs(found)
        if count > MOST_ATTRIBUTES:
            self.refuse(name, f"has {count:,} attributes; {MOST_ATTRIBUTES} are the limit")
        for number in range(count):
            attribute = h5a.open(found, index=number)
            where = f"{name}, attribute {printable(attribute.get_name())}"
            if not _is_name(attribute.get_name()):
                self.refuse(where, "has an invalid name: not UTF-8, or too long")
            kind = attribute.get_type()
            self.type(where, kind)
            values = math.prod(attribute.get_space().shape or ())
            if values * kind.get_size() > LARGEST_ATTRIBUTE:
                self.refuse(where, f"has {values * kind.get_size():,} bytes; {LARGEST_ATTRIBUTE:,} are the limit")
            if _is_variable(kind):
                # Its length is unknown: each value may be as long as the file.
                self.charge(where, _JSON_FACTOR * values * self.size)

    def type(self, name: str, kind: h5t.TypeID) -> None:
        """Refuse references, named types, nested values of variable length, and unknown types."""
        todo, parts = [kind], 0
        while todo:
            each = todo.pop()
            parts, code = parts + 1, each.get_class()
            if parts > MOST_PARTS:
                self.refuse(name, f"has a type of more than {MOST_PARTS:,} parts")
            if each.committed():
                self.refuse(name, "has a named type")
            if code == h5t.REFERENCE:
                self.refuse(name, "holds references")
            if parts > 1 and _is_variable(each):
                self.refuse(name, "holds values of variable length inside others")
            if code == h5t.COMPOUND:
                todo += [each.get_member_type(number) for number in range(each.get_nmembers())]
            elif code in (h5t.ARRAY, h5t.VLEN):
                todo.append(each.get_super())
            elif code not in _PLAIN:
                self.refuse(name, f"holds values of the unknown class {code}")


def _links(group: h5g.GroupID, most: int) -> list[tuple[bytes, int]]:
    """Name and kind of the links of a group; stops after `most` + 1 links or a name that is too long."""
    found: list[tuple[bytes, int]] = []

    def see(name: bytes, info: h5l.LinkInfo) -> bool | None:
        found.append((name, info.type))
        return len(found) > most or len(name) > LONGEST_NAME or None

    group.links.iterate(see, info=True)
    return found


def _creation(group: h5g.GroupID) -> h5p.PropDCID:
    """A group's creation properties, as an object that can list the filters of its links."""
    made = group.get_create_plist()
    h5i.inc_ref(made)  # two objects now share the list
    return h5p.PropDCID(made.id)


def _is_variable(kind: h5t.TypeID) -> bool:
    code = kind.get_class()
    return code == h5t.VLEN or (code == h5t.STRING and kind.is_variable_str())


def _bytes_each(kind: h5t.TypeID) -> int:
    """Bytes of a value in memory; for variable length, those beside its content."""
    if _is_variable(kind):
        return _VARIABLE_OVERHEAD
    # Python stores strings of up to one character only once.
    beside = (_TEXT_OVERHEAD if kind.get_size() > 1 else 8) if kind.get_class() == h5t.STRING else 0
    return kind.get_size() + beside


def _inside(group: str, name: bytes) -> str:
    return f"{group}/{printable(name)}".lstrip("/")


def _place(name: str) -> str:
    return f"/{name}"


def _is_name(name: bytes) -> bool:
    try:
        return bool(name.decode()) and len(name) <= LONGEST_NAME
    except UnicodeDecodeError:
        return False


def printable(name: bytes | str) -> str:
    """A name from a file, shortened and escaped for messages."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
