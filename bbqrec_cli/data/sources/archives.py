"""Published sets as a folder or as the archive that they came in, read without unpacking: nothing is ever written."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from bbqrec_cli.data.sources.opening import no_permission, open_bytes
from bbqrec_cli.errors import DataError, MissingFileError

TARS = (".tar", ".tar.gz", ".tgz")
ARCHIVES = (".zip", *TARS)
_BUFFER = 1 << 18


class Archive:
    """The files of a folder, a zip, a tar, or a tar inside a zip, called by their names without folders.

    A file NAME.gz stands for NAME. Folders inside archives do not count: of several files of one name, the one that is
    least deep is meant.

    Raises:
        MissingFileError: no such folder or file.
        DataError: neither a folder nor an archive.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise MissingFileError(f"{path}: no such file or folder", "check the name, or give it in full")
        if path.is_file() and not path.name.lower().endswith(ARCHIVES):
            raise DataError(f"{path}: neither a folder nor an archive ({', '.join(ARCHIVES)})", "give the folder")
        self.path = path

    def files(self, *names: str) -> list[Path]:
        """The files on disk that hold these files, as far as they are there: the archive itself, if it is one."""
        if not self.path.is_dir():
            return [self.path]
        both = ((self.path / name, self.path / f"{name}.gz") for name in names)
        return [found for pair in both if (found := next(filter(Path.is_file, pair), None))]

    def has(self, name: str) -> bool:
        """Whether there is such a file; in a tar, all before it is read."""
        try:
            with self.open(name):
                return True
        except MissingFileError:
            return False

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """The bytes of a file.

        Raises:
            MissingFileError: no such file.
            DataError: a damaged or encrypted archive.
        """
        with self._reporting(name):
            if self.path.is_dir():
                found = self.files(name)
                if not found:
                    raise self._lacking(name)
                with open_bytes(found[0]) as stream:
                    yield stream
            elif self.path.name.lower().endswith(".zip"):
                yield from self._from_zip(name)
            else:
                with open(self.path, "rb") as raw:
                    yield from self._from_tar(raw, name)

    def _from_zip(self, name: str) -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(self.path) as archive:
            # macOS puts a shadow of every file into __MACOSX.
            members = [each for each in archive.namelist() if not each.startswith("__MACOSX")]
            members.sort(key=lambda each: each.count("/"))
            if member := next((each for each in members if _called(each, name)), None):
                with archive.open(member) as stream, _buffered(stream, member) as plain:
                    yield plain
            elif inner := next((each for each in members if each.lower().endswith(TARS)), None):
                with archive.open(inner) as raw:
                    yield from self._from_tar(raw, name)
            else:
                raise self._lacking(name)

    def _from_tar(self, raw: IO[bytes], name: str) -> Iterator[IO[bytes]]:
        with tarfile.open(fileobj=raw, mode="r|*") as archive:
            for member in archive:
                if member.isfile() and _called(member.name, name):
                    stream = archive.extractfile(member)
                    assert stream is not None
                    with stream, _buffered(stream, member.name) as plain:
                        yield plain
                    return
        raise self._lacking(name)

    def _lacking(self, name: str) -> MissingFileError:
        return MissingFileError(f"{self.path}: no {name} in it", "is it the whole set, as it was published?")

    @contextmanager
    def _reporting(self, name: str) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError, RuntimeError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
            if isinstance(error, PermissionError):
                raise no_permission(self.path) from error
            what = f"{self.path}: {name} cannot be read ({error or type(error).__name__})"
            raise DataError(what, "download or copy it again") from error

    def lines(self, name: str, *, encodings: tuple[str, ...] = ("utf-8-sig",)) -> Iterator[tuple[int, str]]:
        """(number from 1, line without its end) of the lines of a file that are not blank.

        Args:
            encodings: the first that fits the whole file; with more than one, the file is held in memory.

        Raises:
            MissingFileError, DataError: see `open`; a byte that does not fit, with its line.
        """
        with self.open(name) as stream:
            source = stream if len(encodings) == 1 else io.BytesIO(_in_utf8(stream.read(), encodings))
            encoding = encodings[0] if len(encodings) == 1 else "utf-8-sig"
            for number, line in enumerate(source, start=1):
                try:
                    text = line.decode(encoding).strip("\r\n")
                except UnicodeDecodeError as error:
                    what = f"{self.where(name, number)}: byte 0x{line[error.start]:02x} is not {encoding.upper()}"
                    raise DataError(what, "download or copy it again") from error
                if text.strip():
                    yield number, text

    def where(self, name: str, line: int) -> str:
        """A line of a file, for messages."""
        return f"{self.path / name}, line {line}"


def _called(member: str, name: str) -> bool:
    return PurePosixPath(member.replace("\\", "/")).name in (name, f"{name}.gz")


def _buffered(stream: IO[bytes], member: str) -> IO[bytes]:
    """A member's bytes, inflated where it is gzip; buffered, since zipfile itself is slow by lines."""
    plain: Any = gzip.GzipFile(fileobj=stream) if member.endswith(".gz") else stream
    return io.BufferedReader(plain, _BUFFER)


def _in_utf8(raw: bytes, encodings: tuple[str, ...]) -> bytes:
    for encoding in encodings[:-1]:
        try:
            return raw.decode(encoding).encode()
        except UnicodeDecodeError:
            continue
    return raw.decode(encodings[-1]).encode()
