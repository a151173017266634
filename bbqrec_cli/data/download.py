"""Downloads over HTTP that go on where they stopped, and never take a part for the whole.

A file grows as NAME.part and gets its name once its length, its checksum (where one is published) and its gzip or zip
structure are right. NAME.part.json keeps what the server called this version (ETag or Last-Modified), so that a part is
only continued with the rest of the same file.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import time
import zipfile
import zlib
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

from bbqrec_cli.data.http import FIRST_PAUSE, STALL, PassingError, answer_of, blocks
from bbqrec_cli.errors import DataError, DownloadError, InterruptedRunError
from bbqrec_cli.locks import alone
from bbqrec_cli.progress import Progress

TRIES = 6
"""Attempts in a row that bring nothing new before a download fails; the pause doubles after each."""
_STEP = 1 << 20
"""Bytes per step of a progress bar."""
_STARTS = {".gz": b"\x1f\x8b", ".zip": b"PK"}


class _DamagedError(PassingError):
    """What has come in full is not the file."""


def download(
    url: str,
    target: Path,
    *,
    md5: str = "",
    progress: Progress,
    stall: float = STALL,
    pause: float = FIRST_PAUSE,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Download `url` as `target`; a file of this name that is there already is checked and kept, also one that another
    process is downloading: it is waited for.

    Args:
        md5: the published checksum, if there is one.
        stall: seconds without a byte before a connection is given up.
        pause: seconds before the second attempt; doubled for each further one.

    Raises:
        UsageError: not an address of http or https.
        DownloadError: no such file on the server; attempts without success; something else than the file.
        DataError: the file that is there already has another checksum.
        LackingError: its folder cannot be written.
        InterruptedRunError: Ctrl-C; what has come is kept.
    """
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.with_name(f"{target.name}.lock")
        with alone(lock, lambda: progress.log(f"{target.name}: another process is downloading it; waiting")):
            if not target.exists():
                _fetch(url, target, md5, progress, stall=stall, pause=pause, sleep=sleep)
                return target
    if md5 and _md5(target) != md5:
        what = f"{target}: is there already, and is not the published file (MD5 {_md5(target)}, not {md5})"
        raise DataError(what, "remove it and download it again, or leave --download out to use it as it is")
    progress.log(f"{target.name} is there already")
    return target


def _fetch(
    url: str, target: Path, md5: str, progress: Progress, *, stall: float, pause: float, sleep: Callable[[float], None]
) -> None:
    """The rest of the file, from where its part ends. Raises: as `download`."""
    part = _Part(url, target)
    progress.log(f"downloading {url}" + (f", from byte {part.start:,} on" if part.start else ""))
    try:
        with progress.task(target.name, None) as task:
            _attempts(part, md5, task, progress, stall=stall, pause=pause, sleep=sleep)
    except KeyboardInterrupt:
        if not part.start:
            what = f"interrupted; the next attempt at {target.name} begins anew"
            raise InterruptedRunError(what, "the server does not say which version of the file it sends") from None
        kept = f"{part.start / 1e6:,.1f} MB of {target.name} are kept in {part.path.name}"
        raise InterruptedRunError(f"interrupted; {kept}", "the same command goes on with it") from None
    part.finish()


def _attempts(
    part: _Part, md5: str, task: Any, progress: Progress, *, stall: float, pause: float, sleep: Callable[[float], None]
) -> None:
    """Fetch until the part is whole. Raises: DownloadError."""
    tried, reached, damaged = 0, part.start, 0
    while True:
        try:
            part.fetch(task, stall)
            part.check(md5)
            return
        except PassingError as error:
            tried = 1 if part.size > reached else tried + 1
            reached = max(reached, part.size)
            damaged += isinstance(error, _DamagedError)
            if tried == TRIES or damaged == 2:
                kept = f"; {part.path.name} keeps what has come" if part.start else ""
                raise DownloadError(
                    f"{part.url}: {error}, and further attempts brought nothing new{kept}",
                    "try again later (the same command goes on), or name another server with --mirror URL",
                ) from error
            wait = pause * 2 ** (tried - 1)
            progress.log(f"{part.path.name}: {error}; next attempt in {wait:g} s")
            sleep(wait)


class _Part:
    """The growing file of a download. What has come from another address is given up only for what this one sends."""

    def __init__(self, url: str, target: Path) -> None:
        self.url, self.target = url, target
        self.path = target.with_name(target.name + ".part")
        self._about = target.with_name(target.name + ".part.json")
        known = self._read()
        self._version: str = known.get("version", "") if known.get("url") == url else ""
        self._length: int | None = None

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._about.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def start(self) -> int:
        """Bytes after which it can go on: 0 if nobody says that they are of the same version."""
        return self.size if self._version else 0

    def restart(self) -> None:
        """Forget what has come."""
        self._version, self._length = "", None
        for path in (self.path, self._about):
            path.unlink(missing_ok=True)

    def fetch(self, task: Any, stall: float) -> None:
        """One attempt at the rest.

        Raises:
            PassingError: it ended before the announced length, or does not fit what has come.
            DownloadError: what the server sends is not this file.
        """
        start = self.start
        headers = {"Range": f"bytes={start}-", "If-Range": self._version} if start else {}
        with answer_of(self.url, headers, stall) as answer:
            coming = blocks(answer)
            first = next(coming, b"")
            if answer.status == 200:
                self._refuse_pages(answer, first)  # before what has come is given up for it
            self._fitting(answer, start)
            if answer.status == 416:  # its body is no part of the file
                return
            with open(self.path, "ab") as stream:
                for block in chain([first], coming):
                    stream.write(block)
                    if stream.tell() // _STEP > (stream.tell() - len(block)) // _STEP:
                        stream.flush()
                        task.advance(1, MB=round(stream.tell() / 1e6, 1))
        if self._length is not None and self.size != self._length:
            what = f"{self.size:,} of {self._length:,} bytes have come"
            if self.size > self._length:
                self.restart()
            raise PassingError(what)

    def _fitting(self, answer: Any, start: int) -> None:
        """Make the end of the part the place where the body belongs.

        Raises:
            PassingError: the body belongs nowhere; what has come is given up.
        """
        version = _version(answer.headers)
        length = answer.headers.get("Content-Length", "")
        if answer.status == 200:  # the whole: nothing was there, it is another version, or Range is not known here
            self.restart()
            self._length = int(length) if length.isdecimal() else None
            self._version = version
            if version:
                about = {"url": self.url, "version": version}
                self._about.write_text(json.dumps(about), encoding="utf-8")
            return
        ranged = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
        total = int(ranged[2]) if ranged and ranged[2].isdecimal() else None
        if answer.status == 416 and start and total == start:  # nothing is missing: only the checks were
            self._length = total
            return
        same = answer.status == 206 and start and version in ("", self._version)
        if not (same and ranged and ranged[1] and int(ranged[1]) == start):
            self.restart()
            raise PassingError(f"the server's answer {answer.status} does not go on where the part ends")
        self._length = total if total is not None else start + int(length) if length.isdecimal() else None

    def _refuse_pages(self, answer: Any, block: bytes) -> None:
        """Raises: DownloadError: a web page instead of the file."""
        kind = answer.headers.get_content_type()
        start = _STARTS.get(self.target.suffix, b"")
        page = block.lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))
        if page or not block.startswith(start[: len(block)]):
            what = "a web page" if page or kind == "text/html" else f"something that is not {self.target.suffix[1:]}"
            raise DownloadError(
                f"{self.url}: the server sends {what} ({kind}), starting with {block[:40]!r}",
                "open the address in a browser: there may be a form or a notice; then give the downloaded file's path",
            )

    def check(self, md5: str) -> None:
        """Whether the part is the whole file. Raises: _DamagedError, after which it is fetched anew."""
        if not self.path.exists():
            self.path.touch()
        wrong = ""
        if md5:
            found = _md5(self.path)
            wrong = "" if found == md5 else f"its MD5 is {found}, not the published {md5}"
        elif self.target.suffix in _STARTS:
            wrong = _damage(self.path, self.target.suffix) if self.size else "it is empty"
        elif self._length is None:
            wrong = "the server does not say how long the file is"
        if wrong:
            self.restart()
            raise _DamagedError(f"what has come is not the file: {wrong}")

    def finish(self) -> None:
        """The part gets the file's name, once all of it is on the disk."""
        with open(self.path, "rb") as stream:
            os.fsync(stream.fileno())
        self.path.replace(self.target)
        self._about.unlink(missing_ok=True)


def _version(headers: Any) -> str:
    """What tells one version of a file from another in If-Range: a strong ETag, or the time of the last change."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _md5(path: Path) -> str:
    found = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(_STEP):
            found.update(block)
    return found.hexdigest()


def _damage(path: Path, suffix: str) -> str:
    """What is wrong with a gzip or zip file; '' if every checksum in it is right."""
    try:
        if suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
            return f"{bad} is damaged" if bad else ""
        with gzip.open(path, "rb") as stream:
            while stream.read(_STEP):
                pass
    except (EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        return str(error)
    return ""


def published_md5(url: str, *, stall: float = STALL) -> str:
    """The checksum that stands beside a file, as FILE.md5; '' where there is none."""
    try:
        with answer_of(f"{url}.md5", {}, stall) as answer:
            text = b"".join(blocks(answer))[:200].decode("ascii", errors="replace")
    except (PassingError, DownloadError):
        return ""
    found = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    return found[0].lower() if found else ""
