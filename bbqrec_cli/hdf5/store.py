"""HDF5 files: atomic writes, provenance, and checks on opening."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import bbqrec_cli
from bbqrec_cli.errors import (
    BrokenFileError,
    DataError,
    LackingError,
    MissingFileError,
    NewerVersionError,
    UnsafeFileError,
    WrongKindError,
)
from bbqrec_cli.hdf5.chunks import Chunks
from bbqrec_cli.hdf5.parents import Folder, Parent, describe_parent
from bbqrec_cli.hdf5.safety import DAMAGE, Allowance, check_safe, printable
from bbqrec_cli.hdf5.schema import FORMAT, KINDS, TEXT_ATTRIBUTES, Field, field_of
from bbqrec_cli.hdf5.sink import Sink
from bbqrec_cli.outputs import check_output, replacing

_LIBVER = ("v110", "v110")
"""HDF5 1.10's file format: it has checksums on the structure, without which a flipped bit can crash the library."""

_BLOBS = 4096
"""Byte strings that are read at once."""

Value = np.ndarray | Sequence[str] | Sequence[bytes]


def write(
    path: Path,
    kind: str,
    datasets: Mapping[str, Value],
    *,
    attributes: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    parents: Sequence[Path | Folder | Parent] = (),
    origin: Mapping[str, Any] | None = None,
    force: bool = False,
) -> None:
    """Write a whole file or nothing: a temporary file beside `path` is written, synced and renamed.

    Texts are compressed, unless that would make the file so small that `check_safe` refuses it.

    Args:
        path: the output.
        kind: a key of KINDS.
        datasets: HDF5 path -> array, list of str, or list of bytes.
        attributes: the kind's own root attributes; anything that JSON can hold.
        config: the resolved configuration, seed included.
        parents: the input files, recorded with their kind and SHA-256, or what `describe_parent` said of them before.
        origin: version, commit, device and precision of what was computed (`origin.ran_on`).
        force: overwrite an existing file.

    Raises:
        OutputExistsError, DiskFullError, LackingError; BrokenFileError: the datasets contradict the schema (a bug).
    """
    check_output(path, force=force)
    attributes = {**(attributes or {}), **({"origin": dict(origin)} if origin else {})}
    root = _root(kind, attributes, config or {}, parents)
    with replacing(path) as partial, Sink(partial) as sink:
        for compress in (True, False):
            sink.truncate(0)
            with h5py.File(sink, "w", libver=_LIBVER) as file:
                for name, value in datasets.items():
                    _write_dataset(file, name, value, compress)
                    sink.raise_pending()
                for key, text in root.items():
                    _write_attribute(file, key, text)
            sink.raise_pending()
            if _passes(partial, kind):
                break


def _passes(path: Path, kind: str) -> bool:
    """Whether `check_safe` accepts a file that was just written, and all its values of variable length.

    Raises: BrokenFileError: it contradicts the schema.
    """
    with h5py.File(path, "r", locking=False) as file:
        try:
            allowance = check_safe(file, path)
        except UnsafeFileError:
            return False
        _check(file, path, kind, allowance.datasets)
    return allowance.left >= allowance.size


def _root(
    kind: str, attributes: Mapping[str, Any], config: Mapping[str, Any], parents: Sequence[Path | Folder | Parent]
) -> dict[str, Any]:
    """The root attributes: those of every file, then the kind's own."""
    root = {"format": FORMAT, "kind": kind, "schema_version": KINDS[kind].version}
    root |= {"bbqrec_version": bbqrec_cli.__version__, "created": datetime.now(timezone.utc).isoformat()}
    inputs = [dict(each) if isinstance(each, Mapping) else describe_parent(each) for each in parents]
    root |= {"config": json.dumps(config), "parents": json.dumps(inputs)}
    return root | {k: v if isinstance(v, (str, int, float)) else json.dumps(v) for k, v in attributes.items()}


_LARGEST_ATTRIBUTE = 60_000
_LARGEST_PADDED = 1 << 26


def _write_attribute(file: h5py.File, key: str, value: Any) -> None:
    """Write an attribute; a text beyond HDF5's 64 KiB limit becomes the dataset `attributes/<key>`."""
    if not isinstance(value, str):
        file.attrs[key] = value
        return
    text = value.encode()
    fixed = np.array(text, dtype=h5py.string_dtype(length=max(len(text), 1)))
    if len(text) > _LARGEST_ATTRIBUTE:
        file.create_dataset(f"attributes/{key}", data=fixed)
    else:
        file.attrs[key] = fixed


def _write_dataset(file: h5py.File, name: str, value: Value, compress: bool) -> None:
    if isinstance(value, np.ndarray):
        file.create_dataset(name, data=value, **_storage(value))
    elif len(value) and isinstance(value[0], bytes):
        data = file.create_dataset(name, (len(value),), dtype=h5py.vlen_dtype(np.uint8))
        for row, blob in enumerate(value):
            if blob:
                data[row] = np.frombuffer(bytes(blob), np.uint8)  # type: ignore[arg-type]
    else:
        _write_strings(file, name, value, compress)


def _write_strings(file: h5py.File, name: str, value: Sequence[Any], compress: bool) -> None:
    """Write texts padded to the longest one, or with variable length if that takes too much space.

    Only padded texts have checksums: HDF5 stores strings of variable length in a heap without checksums, where a
    flipped bit can hang the library.
    """

    def texts() -> Iterator[bytes]:  # encoded twice, since a list of all texts would take more memory
        return (_encode(text, name, row) for row, text in enumerate(value))

    longest = max(map(len, texts()), default=0) or 1
    if longest * len(value) > _LARGEST_PADDED:
        file.create_dataset(name, data=np.array(value, dtype=object), dtype=h5py.string_dtype())
    else:
        padded = np.fromiter(texts(), dtype=h5py.string_dtype(length=longest), count=len(value))
        file.create_dataset(name, data=padded, **_storage(padded, compress))


def _encode(text: str, name: str, row: int) -> bytes:
    """UTF-8 bytes of a text. Raises: DataError: a text that HDF5 cannot store."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"/{name}, row {row}: half a character ({error})", "correct the text in the source") from error
    if b"\0" in encoded:
        raise DataError(f"/{name}, row {row}: holds a NUL character: {text!r}", "correct the text in the source")
    return encoded


def _storage(value: np.ndarray, compress: bool = True) -> dict[str, Any]:
    """Storage options: checksums for all chunked datasets, compression for large ones."""
    if value.ndim == 0 or value.size == 0:
        return {}
    large = value.nbytes > 1 << 16
    return {"chunks": True if large else value.shape, "fletcher32": True} | (
        {"shuffle": True, "compression": "lzf"} if large and compress else {}
    )


class File:
    """An open bbqrec file whose structure has been checked."""

    def __init__(self, path: Path, file: h5py.File, allowance: Allowance) -> None:
        self.path = path
        self._file = file
        self._allowance = allowance
        self._chunks: dict[str, Chunks] = {}
        self.kind = _text(file.attrs["kind"])
        about = path.stat()
        self._content = about.st_size, about.st_mtime_ns  # inodes change by themselves on some network file systems

    def __contains__(self, name: str) -> bool:
        return name in self._file

    def names(self, group: str, *, arrays: bool = False) -> list[str]:
        """Names inside a group, [] without it; arrays: of datasets alone. Raises: BrokenFileError: it is a dataset."""
        if group not in self._file:
            return []
        node = self._file[group]
        if not isinstance(node, h5py.Group):
            raise BrokenFileError(f"{self.path}: /{group} is not a group", _remake(self.kind))
        return sorted(name for name in node if not arrays or isinstance(node[name], h5py.Dataset))

    def array(self, name: str, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        """A dataset, or some rows of it; rows of variable length only by slices.

        Raises:
            BrokenFileError: its bytes cannot be read.
            UnsafeFileError: values of variable length take too much memory for the file's size.
        """
        try:
            node = self._file[name]
            if not isinstance(node, h5py.Dataset):
                raise KeyError("no dataset")
            if name not in self._chunks:
                self._chunks[name] = Chunks(node)
            self._chunks[name].check(rows)
            if node.dtype.kind == "O" and isinstance(rows, slice):
                return self._allowance.read(name, node, rows)
            return node[rows] if node.shape else np.asarray(node[()])
        except DAMAGE as error:
            raise BrokenFileError(f"{self.path}: /{name} cannot be read ({error})", _remake(self.kind)) from error

    def reader(self) -> Callable[[], AbstractContextManager[File]]:
        """Opens this file again, to read more of it later.

        What it returns raises DataError if another file stands in its place, and the errors of `open_file`.
        """
        path, kind, content = self.path, self.kind, self._content

        @contextmanager
        def again() -> Iterator[File]:
            with open_file(path, kind) as file:
                if file._content != content:
                    raise DataError(f"{path}: has changed since it was opened", "open it again")
                yield file

        return again

    def length(self, name: str) -> int:
        """The number of rows of a dataset."""
        return int(self._file[name].shape[0])

    def strings(self, name: str, rows: slice = slice(None)) -> list[str]:
        """A dataset of strings, or some rows of it."""
        try:
            return [_text(v) for v in self.array(name, rows)]
        except UnicodeDecodeError as error:
            raise BrokenFileError(f"{self.path}: /{name} is not UTF-8 ({error})", _remake(self.kind)) from error

    def blobs(self, name: str) -> list[bytes]:
        """A dataset of byte strings, read in slices: HDF5's arrays and these would fill memory twice."""
        slices = (slice(start, start + _BLOBS) for start in range(0, self.length(name), _BLOBS))
        return [value.tobytes() for rows in slices for value in self.array(name, rows)]

    def attribute(self, key: str) -> Any:
        """A root attribute, decoded if it is JSON and not of those that are texts."""
        try:
            if key not in self._file.attrs and f"attributes/{key}" in self._file:
                if not h5py.check_string_dtype(self._file[f"attributes/{key}"].dtype):
                    raise TypeError("no text")
                found = self.array(f"attributes/{key}")[()]
            else:
                found = self._file.attrs[key]
            return _text(found) if key in TEXT_ATTRIBUTES else _decode(found)
        except DAMAGE as error:
            raise BrokenFileError(
                f"{self.path}: the attribute {key} cannot be read ({error})", _remake(self.kind)
            ) from error

    def mapping(self, key: str) -> dict[str, Any]:
        """A root attribute that holds a JSON object. Raises: BrokenFileError: it holds something else."""
        found = self.attribute(key)
        if not isinstance(found, dict):
            raise BrokenFileError(f"{self.path}: the attribute {key} is no JSON object", _remake(self.kind))
        return found

    def count(self, key: str) -> int:
        """A root attribute that holds a whole number, not below 0. Raises: BrokenFileError: it holds something else."""
        found = self.attribute(key)
        if not isinstance(found, int) or found < 0:
            raise BrokenFileError(f"{self.path}: the attribute {key} is no whole number", _remake(self.kind))
        return found

    def own_attributes(self) -> list[str]:
        """Names of the kind's own root attributes, beside those of every file."""
        names = {*self._file.attrs, *self.names("attributes")}
        return sorted(names - {"format", "kind", "schema_version", "bbqrec_version", "created", "config", "parents"})

    def has_attribute(self, key: str) -> bool:
        """Whether a root attribute exists."""
        return key in self._file.attrs or f"attributes/{key}" in self._file

    def tree(self) -> dict[str, dict[str, Any]]:
        """Path -> {'shape', 'type'} of every dataset."""
        found: dict[str, dict[str, Any]] = {}

        def visit(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset):
                found[name] = {"shape": list(node.shape or ()), "type": _type(node)}

        self._file.visititems(visit)
        return found


def check_there(path: Path, *kinds: str) -> str:
    """The hint for whatever else is wrong with `path`: the command that makes a file of the first of `kinds`.

    Raises:
        MissingFileError: there is no such file; BrokenFileError: it is a folder.
    """
    hint = _make(kinds[0]) if kinds else ""
    if not path.exists():
        raise MissingFileError(f"{path}: no such file", hint)
    if path.is_dir():
        raise BrokenFileError(f"{path}: is a folder; a file is needed", hint)
    return hint


@contextmanager
def open_file(path: Path, *kinds: str) -> Iterator[File]:
    """Open `path` for reading, after checking that it is safe, undamaged, and of one of `kinds` (none given: any).

    Raises:
        MissingFileError, BrokenFileError, WrongKindError, NewerVersionError: with the path and the command that helps.
        UnsafeFileError: with the HDF5 path of the problem; see `safety.check_safe`.
        LackingError: no permission to read it.
    """
    hint = check_there(path, *kinds)
    try:
        # Files are replaced, never changed, so locks are not needed; some network file systems lack them.
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        if isinstance(error, PermissionError):
            raise LackingError(f"{path}: no permission to read it") from error
        if "already open for write" in str(error):
            what = f"{path}: another program is writing to it, or was stopped while it did"
            raise BrokenFileError(what, "close it there; after a crash, h5clear -s FILE") from error
        what = "a truncated or damaged HDF5 file" if _starts_like_hdf5(path) else "not an HDF5 file"
        raise BrokenFileError(f"{path}: {what}", hint) from error
    with file:
        try:
            allowance = check_safe(file, path)
            _check_header(file, path, kinds, hint)
            _check(file, path, _text(file.attrs["kind"]), allowance.datasets)
        except DAMAGE as error:
            raise BrokenFileError(f"{path}: a damaged HDF5 file ({error})", hint) from error
        yield File(path, file, allowance)


def _check_header(file: h5py.File, path: Path, kinds: Sequence[str], hint: str) -> None:
    if _text(file.attrs.get("format", "")) != FORMAT:
        raise WrongKindError(f"{path}: an HDF5 file, but not one of bbqrec's (no attribute format = {FORMAT!r})", hint)
    kind = _text(file.attrs.get("kind", ""))
    if kind not in KINDS:
        raise WrongKindError(f"{path}: kind {printable(kind)!r} is unknown to bbqrec {bbqrec_cli.__version__}", hint)
    if kinds and kind not in kinds:
        raise WrongKindError(f"{path}: is a {kind} file; a {' or '.join(kinds)} file is needed", hint)
    version = int(file.attrs["schema_version"])
    if version > KINDS[kind].version:
        made = printable(_text(file.attrs.get("bbqrec_version", "?")))
        raise NewerVersionError(
            f"{path}: schema version {version} of a {kind} file, written by bbqrec {made}; this is bbqrec "
            f"{bbqrec_cli.__version__}, which reads versions up to {KINDS[kind].version}",
            "pip install --upgrade bbqrec",
        )


def _check(file: h5py.File, path: Path, kind: str, datasets: Collection[str]) -> None:
    """Check that required datasets and attributes exist, and that types and dimensions fit the schema."""
    schema = KINDS[kind]
    for f in schema.fields:
        if f.required and not _is_there(datasets, f.path):
            raise BrokenFileError(f"{path}: /{f.path} is missing", _remake(kind))
    for key in ("config", "parents", "bbqrec_version", "created", *schema.attributes):
        if key not in file.attrs and f"attributes/{key}" not in datasets:
            raise BrokenFileError(f"{path}: the attribute {key} is missing", _remake(kind))
    sizes: dict[str, tuple[int, str]] = {}
    for name in sorted(datasets):
        if (known := field_of(schema, name)) is not None:
            _check_dataset(path, kind, name, h5py.Dataset(h5py.h5d.open(file.id, name.encode())), known, sizes)


def _is_there(datasets: Collection[str], path: str) -> bool:
    """Whether the dataset of a field is there; of 'recall/{k}', whether its group holds any."""
    group, _, name = path.rpartition("/")
    return any(each.startswith(f"{group}/") for each in datasets) if name.startswith("{") else path in datasets


def _check_dataset(
    path: Path, kind: str, name: str, node: h5py.Dataset, f: Field, sizes: dict[str, tuple[int, str]]
) -> None:
    if node.shape is None:
        raise BrokenFileError(f"{path}: /{name} holds nothing", _remake(kind))
    if f.type == "*" and node.dtype.kind not in "biufc":
        raise BrokenFileError(f"{path}: /{name} holds {_type(node)}; numbers are needed", _remake(kind))
    if f.type != "*" and _type(node) != f.type:
        raise BrokenFileError(f"{path}: /{name} holds {_type(node)}; {f.type} is needed", _remake(kind))
    if f.shape == ("...",):
        return
    if node.ndim != len(f.shape):
        raise BrokenFileError(
            f"{path}: /{name} has {node.ndim} dimensions; ({', '.join(f.shape)}) is needed", _remake(kind)
        )
    for symbol, size in zip(f.shape, node.shape, strict=True):
        symbol, size = (symbol[:-2], size - 1) if symbol.endswith("+1") else (symbol, size)
        known, where = sizes.setdefault(symbol, (size, name))
        if symbol != "*" and known != size:
            raise BrokenFileError(f"{path}: /{name} says {symbol} = {size}, but /{where} says {known}", _remake(kind))


def _type(node: h5py.Dataset) -> str:
    if h5py.check_string_dtype(node.dtype):
        return "str"
    return "bytes" if h5py.check_vlen_dtype(node.dtype) == np.uint8 else str(node.dtype)


def _make(kind: str, again: str = "") -> str:
    if kind == "checkpoint":
        return "start from the beginning with --force, without --resume"
    return f"make it {again}with `{KINDS[kind].made_by}`"


def _remake(kind: str) -> str:
    return _make(kind, "again ")


def _starts_like_hdf5(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(8) == b"\x89HDF\r\n\x1a\n"


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _decode(value: Any) -> Any:
    if isinstance(value, (str, bytes)):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return _text(value)
    return value.item() if hasattr(value, "item") else value
