"""Whether a file may be read at all: that it leads to no other file, and that it fits into memory as its size promises.

Everything is looked at link by link, through calls that follow no link and read no data. Nothing in a file may be used
before `check_safe` has seen all of it. docs/file-formats.md says what a file must not hold, and why.
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
"""Bytes of memory that a byte of a file may become. What bbqrec writes reaches 300 at most (docs/file-formats.md)."""
ALWAYS = 1 << 26
"""Bytes of memory that any file may take, however small it is."""
LARGEST_ATTRIBUTE = 1 << 16
MOST_ATTRIBUTES = 256
"""Of one object."""
MOST_OBJECTS = 1 << 16
DEEPEST = 16
"""Groups inside each other."""
MOST_PARTS = 1000
"""Types that one type is made of."""
LONGEST_NAME = 1024
"""Bytes."""

_TEXT_OVERHEAD = 64
"""Bytes that a Python string takes beside its characters, with its place in a list."""
_VARIABLE_OVERHEAD = 128
"""The same for a value of variable length, which is an array or bytes before that."""
_CHUNK_OVERHEAD = 4096
"""Bytes that HDF5 takes for a chunk while a dataset is read, whatever is in it."""
_JSON_FACTOR = 4
"""A text of JSON takes several times its length when it is decoded."""

_SHOWN = 200
"""Characters of a name that a message shows."""
_FILTERS = {*COMPRESSORS, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
_PLAIN = {h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.STRING}
_LINKS = {h5l.TYPE_SOFT: "a soft link", h5l.TYPE_EXTERNAL: "an external link"}
_HINT = "ask for the file as bbqrec wrote it; docs/file-formats.md says what a file must not hold"


def check_safe(file: h5py.File, path: Path) -> Allowance:
    """Look at every link, group, dataset and attribute of an opened file, and at no data.

    Returns:
        What is left for values of variable length, whose size only reading shows.

    Raises:
        UnsafeFileError: with the HDF5 path of what was found.
        OSError, RuntimeError, KeyError, ValueError, TypeError: a damaged file.
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
    return Allowance(path, size, look.limit - look.cost)


@dataclass
class Allowance:
    """Bytes that the values of variable length of one file may still take. size: bytes of the file."""

    path: Path
    size: int
    left: int

    def read(self, name: str, node: h5py.Dataset, rows: slice) -> np.ndarray:
        """Some rows of a dataset of variable length, (n) or one value, a few at a time: all may name the same bytes.

        A single value cannot be larger than the file.

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
            found[done : done + len(here)] = block
            done += len(here)
            self.left -= sum(map(len, block))
            if self.left < 0:
                what = f"the values of {_place(name)} take more memory than a file of {self.size:,} bytes may"
                raise UnsafeFileError(f"{self.path}: {what}", _HINT)
        return found


@dataclass
class _Inspection:
    """What was seen of a file: addresses of groups, how many objects, the memory that all takes, and the most of it."""

    path: Path
    size: int
    groups: set[int] = field(default_factory=set)
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
        """Every link of a group, then what each leads to. Returns the groups inside it."""
        address = h5o.get_info(group).addr
        if address in self.groups:
            self.refuse(name, "is a group that stands elsewhere in the file, too")
        self.groups.add(address)
        self.filters(name, _creation(group), ())
        links = _links(group, MOST_OBJECTS - self.objects)
        self.objects += len(links)
        if self.objects > MOST_OBJECTS:
            self.refuse(name, f"and those before it hold more than {MOST_OBJECTS:,} objects")
        # All links before anything is opened.
        for raw, kind in links:
            if kind != h5l.TYPE_HARD:
                self.refuse(_inside(name, raw), f"is {_LINKS.get(kind, f'a link of the unknown kind {kind}')}")
            if b"/" in raw or raw == b"." or not _is_name(raw):
                self.refuse(_inside(name, raw), "has a name that is no name: a path, not UTF-8, or too long")
        groups = []
        for raw, _ in links:
            inner, found = _inside(name, raw), h5o.open(group, raw)
            if isinstance(found, h5g.GroupID):
                groups.append((inner, found))
            elif isinstance(found, h5d.DatasetID):
                self.attributes(inner, found)
                self.dataset(inner, found)
            else:
                self.refuse(inner, "is a named type")
        return groups

    def dataset(self, name: str, found: h5d.DatasetID) -> None:
        """Where a dataset's bytes lie, what they pass through, what they are, and how many there are of them."""
        made = found.get_create_plist()
        layout = made.get_layout()
        if layout == h5d.VIRTUAL:  # before its shape is asked for, for which HDF5 opens its sources
            self.refuse(name, "is a virtual dataset, which is made of other ones")
        if made.get_external_count():
            self.refuse(name, "has external storage: its bytes are those of another file")
        self.filters(name, made, _FILTERS)
        kind = found.get_type()
        self.type(name, kind)
        shape, chunk = found.get_space().shape or (), made.get_chunk() if layout == h5d.CHUNKED else ()
        cost = max(math.prod(shape), math.prod(chunk or (0,))) * _bytes_each(kind)
        if chunk:
            cost += _CHUNK_OVERHEAD * math.prod(-(-length // part) for length, part in zip(shape, chunk, strict=True))
        self.charge(name, cost * (_JSON_FACTOR if name.startswith("attributes/") else 1))

    def filters(self, name: str, made: h5p.PropDCID, known: Collection[int]) -> None:
        """Known ones, each once, and compression once: twice, it makes a million bytes of one."""
        codes = [made.get_filter(number)[0] for number in range(made.get_nfilters())]
        for code in codes:
            if code not in known:
                self.refuse(name, f"has the filter {code}; gzip, lzf, shuffle and fletcher32 are known, for datasets")
        at = min((codes.index(code) for code in COMPRESSORS if code in codes), default=len(codes))
        if len(set(codes)) < len(codes) or set(codes[at + 1 :]) - {h5z.FILTER_FLETCHER32}:
            order = ", ".join(map(str, codes))
            self.refuse(name, f"has the filters {order}: each once, and after gzip or lzf only fletcher32, are known")

    def attributes(self, name: str, found: h5g.GroupID | h5d.DatasetID) -> None:
        """Type and size of every attribute of a group or dataset."""
        count = h5a.get_num_attrs(found)
        if count > MOST_ATTRIBUTES:
            self.refuse(name, f"has {count:,} attributes; {MOST_ATTRIBUTES} are the limit")
        for number in range(count):
            attribute = h5a.open(found, index=number)
            where = f"{name}, attribute {printable(attribute.get_name())}"
            if not _is_name(attribute.get_name()):
                self.refuse(where, "has a name that is no name: not UTF-8, or too long")
            kind = attribute.get_type()
            self.type(where, kind)
            values = math.prod(attribute.get_space().shape or ())
            if values * kind.get_size() > LARGEST_ATTRIBUTE:
                self.refuse(where, f"has {values * kind.get_size():,} bytes; {LARGEST_ATTRIBUTE:,} are the limit")
            if _is_variable(kind):
                # Its length is not known: each value may be as long as the file.
                self.charge(where, _JSON_FACTOR * values * self.size)

    def type(self, name: str, kind: h5t.TypeID) -> None:
        """No references, no named types, nothing of variable length inside something else, nothing unknown."""
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
    """Name and kind of every link of a group, up to one above `most` or one whose name is too long."""
    found: list[tuple[bytes, int]] = []

    def see(name: bytes, info: h5l.LinkInfo) -> bool | None:
        found.append((name, info.type))
        return len(found) > most or len(name) > LONGEST_NAME or None

    group.links.iterate(see, info=True)
    return found


def _creation(group: h5g.GroupID) -> h5p.PropDCID:
    """How a group was made, as an object that can say which filters its links pass through."""
    made = group.get_create_plist()
    h5i.inc_ref(made)  # two objects hold the same list now
    return h5p.PropDCID(made.id)


def _is_variable(kind: h5t.TypeID) -> bool:
    code = kind.get_class()
    return code == h5t.VLEN or (code == h5t.STRING and kind.is_variable_str())


def _bytes_each(kind: h5t.TypeID) -> int:
    """Bytes that a value takes in memory; of variable length: what it takes beside its content."""
    if _is_variable(kind):
        return _VARIABLE_OVERHEAD
    # Python keeps each text of one character, and the empty one, once.
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
    """A name from a file as a message can show it: not too long, and what cannot be printed escaped."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
