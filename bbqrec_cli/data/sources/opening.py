"""Opening raw files, which may be compressed with gzip or Zstandard, with the errors that users may see."""

from __future__ import annotations

import codecs
import gzip
import io
import shlex
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from bbqrec_cli.errors import DataError, LackingError, MissingFileError, UsageError

DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error)
"""What reading a truncated or damaged file raises."""
_BLOCK = 1 << 20


class _Packing(NamedTuple):
    """What packs a file: the file's first bytes, its name, the command that unpacks, its ending if it is read."""

    magic: bytes
    name: str
    command: str
    suffix: str = ""

    def hint(self, path: Path) -> str:
        return f"unpack it: {self.command} {shlex.quote(str(path))}"


_PACKINGS = (
    _Packing(b"\x1f\x8b", "gzip", "gunzip", ".gz"),
    _Packing(b"\x28\xb5\x2f\xfd", "Zstandard", "zstd -d", ".zst"),
    _Packing(b"PK\x03\x04", "zip", "unzip"),
    _Packing(b"\xfd7zXZ", "xz", "xz -d"),
    _Packing(b"BZh", "bzip2", "bunzip2"),
)
_OTHERS = {
    b"\x89HDF": "an HDF5 file", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture", b"PAR1": "a Parquet file",
    b"\x93NUMPY": "an array of NumPy's", b"%PDF": "a PDF file", b"SQLite": "an SQLite database",
}  # fmt: skip
"""First bytes of files that are no text -> what they are."""
COMPRESSED = tuple(each.suffix for each in _PACKINGS if each.suffix)


def expanded(paths: Sequence[Path]) -> list[Path]:
    """The paths, those of patterns such as logs/*.parquet in the order of their names.

    Raises:
        MissingFileError: a pattern that no file fits.
        UsageError: a file twice, or no pattern.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists() and any(mark in str(path) for mark in "*?["):
            try:
                fitting = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
            except (ValueError, NotImplementedError) as error:
                raise UsageError(f"{path}: {error}", "correct the pattern, such as logs/*.csv") from error
            if not fitting:
                raise MissingFileError(f"{path}: no file fits", "check the pattern")
            found += fitting
        else:
            found.append(path)
    places = [path.resolve() for path in found]
    if len(set(places)) < len(places):
        twice = next(path for path, place in zip(found, places, strict=True) if places.count(place) > 1)
        raise UsageError(f"{twice} is named twice", "name each file once")
    return found


def plain_suffix(name: str) -> str:
    """A file's name without .gz or .zst."""
    return name.removesuffix(".gz").removesuffix(".zst")


def _packing(path: Path) -> _Packing | None:
    """By the file's first bytes; None: none of them."""
    with open(path, "rb") as stream:
        start = stream.read(5)
    return next((each for each in _PACKINGS if start.startswith(each.magic)), None)


def no_permission(path: Path) -> LackingError:
    """What to raise where a file may not be read."""
    return LackingError(f"{path}: no permission to read it", f"chmod u+r {shlex.quote(str(path))}")


def check_plain(path: Path) -> None:
    """Raises: DataError: a compressed file."""
    if found := _packing(path):
        raise DataError(f"{path}: is compressed with {found.name}", found.hint(path))


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed if they are gzip or Zstandard. Reading may raise the errors of DAMAGE.

    Raises:
        DataError: named .gz or .zst, but not compressed so.
    """
    packing = _packing(path)
    found = packing.suffix if packing else ""
    named = next((each for each in _PACKINGS if each.suffix and each.suffix == path.suffix), None)
    if named and named is not packing and path.stat().st_size:
        hint = f"rename {f'it to {path.stem}{found}' if found else f'plain text to {path.stem}'}"
        raise DataError(f"{path}: not a {named.name} file in spite of its name", hint)
    if found == ".gz":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return io.BufferedReader(_Zstandard(path), _BLOCK) if found else open(path, "rb")


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """A UTF-8 text file, compressed or not (its first bytes tell). Raises: those of `reading`."""
    with reading(path) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as stream:
        yield stream


@contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a UTF-8 text file, decompressed; what decoding them raises becomes an error of this function.

    Raises:
        MissingFileError: no such file.
        LackingError: no permission to read it.
        DataError: no regular file; not UTF-8, with the line; not compressed in spite of its name, or in another way;
            truncated or damaged.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: is a pipe or a device, which cannot be read twice", "write it to a file first")
    if not path.is_file():
        what = "is a folder; a file is needed" if path.is_dir() else "no such file"
        raise MissingFileError(f"{path}: {what}", "check the name, or give it in full")
    try:
        with open_bytes(path) as raw:
            yield raw
    except UnicodeDecodeError as error:
        start = b""
        with suppress(*DAMAGE), open_bytes(path) as again:  # it may be damaged as well
            start = again.read(8)
        if (packing := _packing(path)) and not packing.suffix:
            raise DataError(f"{path}: is compressed with {packing.name}", packing.hint(path)) from error
        if what := next((what for magic, what in _OTHERS.items() if start.startswith(magic)), ""):
            hint = "bbqrec inspect says which command reads it" if "HDF5" in what else "give the data as text"
            raise DataError(f"{path}: is {what}, no text", hint) from error
        encoding = "UTF-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "LATIN1"
        hint = f"convert it, as with: iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))}"
        raise DataError(f"{path}{_bad_line(path)}: not UTF-8", hint) from error
    except DAMAGE as error:
        packing = _packing(path)
        kind = packing.name if packing else "gzip"
        raise DataError(f"{path}: not a whole {kind} file ({error})", "download or copy it again") from error
    except PermissionError as error:
        raise no_permission(path) from error


def _bad_line(path: Path) -> str:
    """The line of the first byte that is not UTF-8: decoding in blocks hides it."""
    with suppress(*DAMAGE, OSError), open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                before = line[max(0, error.start - 30) : error.start].decode(errors="replace")
                return f", line {number}: byte 0x{line[error.start]:02x} after {before!r}"
    return ""


class _Zstandard(io.RawIOBase):
    """The frames of a .zst file, one after the other. Reading raises EOFError where the file ends within a frame."""

    def __init__(self, path: Path) -> None:
        import zstandard

        self._damage, self._open = zstandard.ZstdError, zstandard.ZstdDecompressor().decompressobj
        self._file = open(path, "rb")  # noqa: SIM115
        self._frame: Any = None
        self._made = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            while not self._made and self._fill():
                pass
        except self._damage as error:
            raise EOFError(str(error)) from error
        count = min(len(buffer), len(self._made))
        buffer[:count], self._made = self._made[:count], self._made[count:]
        return count

    def _fill(self) -> bool:
        """Decompress some more; False at the end."""
        data = self._file.read(_BLOCK // 8)
        if not data:
            if self._frame is not None:
                raise EOFError("it ends too early")
            return False
        made = []
        while data:
            self._frame = self._frame or self._open()
            made.append(self._frame.decompress(data))
            data = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        self._made = memoryview(b"".join(made))
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
