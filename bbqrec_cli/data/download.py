"""Downloads over HTTP that go on where they stopped, and never take a part for the whole.

A file grows as NAME.part and gets its name once its length, its checksum (where one is published) and its gzip or zip
structure are right. NAME.part.json keeps what the server called this version (ETag or Last-Modified), so that a part is
only continued with the rest of the same file.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bbqrec_cli import __version__
from bbqrec_cli.data.sources.files import PICTURES
from bbqrec_cli.errors import DataError, DownloadError, InterruptedRunError, UsageError
from bbqrec_cli.progress import Progress

SCHEMES = ("http", "https")
STALL = 30.0
"""Seconds without a byte after which a connection is given up."""
TRIES = 6
"""Attempts in a row that bring nothing new before a download fails; the pause doubles after each."""
FIRST_PAUSE = 1.0
LARGEST_PICTURE = 20 * 2**20
"""Bytes; a longer answer is no picture of a product."""
_BLOCK = 1 << 16
_STEP = 1 << 20
"""Bytes per step of a progress bar."""
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that another attempt may change."""
_STARTS = {".gz": b"\x1f\x8b", ".zip": b"PK"}
_PICTURE_STARTS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}
_HOPELESS = 16
"""Pictures that all fail without any answer of a server before the others are not tried."""


class _Passing(Exception):
    """An attempt failed, and another one may not."""


class _Damaged(_Passing):
    """What has come in full is not the file."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects as long as the scheme stays, or becomes https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        before, after = (urllib.parse.urlsplit(url).scheme for url in (req.full_url, newurl))
        if after != before and after != "https":
            raise DownloadError(
                f"{req.full_url}: redirects to {newurl}; {after or 'no scheme'} is not followed",
                "download the file by hand and give its path",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS alone (urllib's own opener also knows file:, ftp: and data:), through the proxies of the
    environment."""
    made = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor, _Redirects,
    ):  # fmt: skip
        made.add_handler(handler())
    return made


@contextmanager
def _answer(url: str, headers: Mapping[str, str], stall: float) -> Iterator[Any]:
    """The server's answer, 416 included.

    Raises:
        UsageError: not an address of http or https.
        DownloadError: a status that another attempt will not change.
        _Passing: one that it may, or no connection.
    """
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise UsageError(f"{url!r} is no address to download from: http:// or https:// is needed", "correct it")
    asked = urllib.request.Request(url, headers={"User-Agent": f"bbqrec/{__version__}", **headers})
    try:
        answer = _opener().open(asked, timeout=stall)
    except urllib.error.HTTPError as error:
        answer = error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Passing(f"no answer ({getattr(error, 'reason', error)})") from error
    with closing(answer):
        if answer.status in _PASSING:
            raise _Passing(f"the server answers {answer.status} {answer.reason}")
        if answer.status not in (200, 206, 416):
            raise DownloadError(
                f"{url}: the server answers {answer.status} {answer.reason}",
                "is the name right? --mirror URL names another server; or download the file by hand and give its path",
            )
        yield answer


def _blocks(answer: Any) -> Iterator[bytes]:
    """The body as it comes. Raises: _Passing: the connection stalls or breaks."""
    while True:
        try:
            block = answer.read1(_BLOCK)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _Passing(f"the connection broke ({error or type(error).__name__})") from error
        if not block:
            return
        yield block


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
    """Download `url` as `target`; a file of this name that is there already is checked and kept.

    Args:
        md5: the published checksum, if there is one.
        stall: seconds without a byte before a connection is given up.
        pause: seconds before the second attempt; doubled for each further one.

    Raises:
        UsageError: not an address of http or https.
        DownloadError: no such file on the server; attempts without success; something else than the file.
        DataError: the file that is there already has another checksum.
        InterruptedRunError: Ctrl-C; what has come is kept.
    """
    if target.exists():
        if md5 and _md5(target) != md5:
            what = f"{target}: is there already, and is not the published file (MD5 {_md5(target)}, not {md5})"
            raise DataError(what, "remove it and download it again, or leave --download out to use it as it is")
        progress.log(f"{target.name} is there already")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(url, target)
    progress.log(f"downloading {url}" + (f", from byte {part.size:,} on" if part.size else ""))
    try:
        with progress.task(target.name, None) as task:
            _attempts(part, md5, task, progress, stall=stall, pause=pause, sleep=sleep)
    except KeyboardInterrupt:
        kept = f"{part.size / 1e6:,.1f} MB of {target.name} are kept in {part.path.name}"
        raise InterruptedRunError(f"interrupted; {kept}", "the same command goes on with it") from None
    part.finish()
    return target


def _attempts(
    part: _Part, md5: str, task: Any, progress: Progress, *, stall: float, pause: float, sleep: Callable[[float], None]
) -> None:
    """Fetch until the part is whole. Raises: DownloadError."""
    tried, reached, damaged = 0, part.size, 0
    while True:
        try:
            part.fetch(task, stall)
            part.check(md5)
            return
        except _Passing as error:
            tried = 1 if part.size > reached else tried + 1
            reached = max(reached, part.size)
            damaged += isinstance(error, _Damaged)
            if tried == TRIES or damaged == 2:
                kept = f"; {part.path.name} keeps what has come" if part.size else ""
                raise DownloadError(
                    f"{part.url}: {error}, and further attempts brought nothing new{kept}",
                    "try again later (the same command goes on), or name another server with --mirror URL",
                ) from error
            wait = pause * 2 ** (tried - 1)
            progress.log(f"{part.path.name}: {error}; next attempt in {wait:g} s")
            sleep(wait)


class _Part:
    """The growing file of a download."""

    def __init__(self, url: str, target: Path) -> None:
        self.url, self.target = url, target
        self.path = target.with_name(target.name + ".part")
        self._about = target.with_name(target.name + ".part.json")
        known = self._read()
        self._version: str = known.get("version", "") if known.get("url") == url else ""
        self._length: int | None = None
        if not self._version:
            self.restart()

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

    def restart(self) -> None:
        """Forget what has come."""
        self._version, self._length = "", None
        for path in (self.path, self._about):
            path.unlink(missing_ok=True)

    def fetch(self, task: Any, stall: float) -> None:
        """One attempt at the rest.

        Raises:
            _Passing: it ended before the announced length, or does not fit what has come.
            DownloadError: what the server sends is not this file.
        """
        start = self.size if self._version else 0
        headers = {"Range": f"bytes={start}-", "If-Range": self._version} if start else {}
        with _answer(self.url, headers, stall) as answer:
            start = self._fitting(answer, start)
            with open(self.path, "ab") as stream:
                for number, block in enumerate(_blocks(answer)):
                    if number == 0 and start == 0:
                        self._refuse_pages(answer, block)
                    stream.write(block)
                    if stream.tell() // _STEP > (stream.tell() - len(block)) // _STEP:
                        stream.flush()
                        task.advance(1, MB=round(stream.tell() / 1e6, 1))
        if self._length is not None and self.size != self._length:
            what = f"{self.size:,} of {self._length:,} bytes have come"
            if self.size > self._length:
                self.restart()
            raise _Passing(what)

    def _fitting(self, answer: Any, start: int) -> int:
        """Where the body of an answer belongs. Raises: _Passing: nowhere."""
        version = _version(answer.headers)
        length = answer.headers.get("Content-Length", "")
        if answer.status == 200:  # the whole: nothing was there, it is another version, or Range is not known here
            self.restart()
            self._length = int(length) if length.isdecimal() else None
            self._version = version
            if version:
                about = {"url": self.url, "version": version}
                self._about.write_text(json.dumps(about), encoding="utf-8")
            return 0
        ranged = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
        total = int(ranged[2]) if ranged and ranged[2].isdecimal() else None
        if answer.status == 416 and start and total == start:  # nothing is missing: only the checks were
            self._length = total
            return start
        same = answer.status == 206 and start and version in ("", self._version)
        if not (same and ranged and ranged[1] and int(ranged[1]) == start):
            self.restart()
            raise _Passing(f"the server's answer {answer.status} does not go on where the part ends")
        self._length = total if total is not None else start + int(length) if length.isdecimal() else None
        return start

    def _refuse_pages(self, answer: Any, block: bytes) -> None:
        """Raises: DownloadError: a web page instead of the file."""
        kind = answer.headers.get_content_type()
        start = _STARTS.get(self.target.suffix, b"")
        page = block.lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))
        if page or not block.startswith(start):
            what = "a web page" if page or kind == "text/html" else f"something that is not {self.target.suffix[1:]}"
            self.restart()
            raise DownloadError(
                f"{self.url}: the server sends {what} ({kind}), starting with {block[:40]!r}",
                "open the address in a browser: there may be a form or a notice; then give the downloaded file's path",
            )

    def check(self, md5: str) -> None:
        """Whether the part is the whole file. Raises: _Damaged, after which it is fetched anew."""
        if not self.path.exists():
            self.path.touch()
        wrong = ""
        if md5:
            found = _md5(self.path)
            wrong = "" if found == md5 else f"its MD5 is {found}, not the published {md5}"
        elif self.target.suffix in _STARTS:
            wrong = _damage(self.path, self.target.suffix)
        elif self._length is None:
            wrong = "the server does not say how long the file is"
        if wrong:
            self.restart()
            raise _Damaged(f"what has come is not the file: {wrong}")

    def finish(self) -> None:
        """The part gets the file's name."""
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
        with _answer(f"{url}.md5", {}, stall) as answer:
            text = b"".join(_blocks(answer))[:200].decode("ascii", errors="replace")
    except (_Passing, DownloadError):
        return ""
    found = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    return found[0].lower() if found else ""


# Pictures


def download_pictures(
    addresses: Mapping[str, str],
    folder: Path,
    *,
    progress: Progress,
    threads: int = 8,
    stall: float = STALL,
    pause: float = FIRST_PAUSE,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Download the picture of each item into `folder`, named by its id; those that are there already are kept.

    Args:
        addresses: item id -> address.

    Returns:
        The number of pictures that came; failures are counted and said.

    Raises:
        DownloadError: no server answers.
        InterruptedRunError: Ctrl-C; the pictures that have come are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = {path.stem for path in folder.iterdir() if path.suffix.lower() in PICTURES}
    missing = {item: url for item, url in addresses.items() if item not in there}
    failed: dict[str, str] = {}
    answered = 0
    pool = ThreadPoolExecutor(threads)
    try:
        waiting = {
            pool.submit(_picture, item, url, folder, stall=stall, pause=pause, sleep=sleep): item
            for item, url in missing.items()
        }
        with progress.task("pictures", len(missing)) as task:
            for done in as_completed(waiting):
                reached, why = done.result()
                answered += reached
                if why:
                    failed[waiting[done]] = why
                if not answered and len(failed) >= _HOPELESS:
                    break
                task.advance(1, failed=len(failed))
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; the pictures that have come are in {folder}", "the same command fetches the others"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return _say_pictures(addresses, missing, failed, answered, folder, progress)


def _say_pictures(
    addresses: Mapping[str, str],
    missing: Mapping[str, str],
    failed: Mapping[str, str],
    answered: int,
    folder: Path,
    progress: Progress,
) -> int:
    first = next(iter(failed.items()), None)
    if first and not answered:
        what = f"none of {len(missing):,} pictures could be downloaded; the first: {missing[first[0]]}: {first[1]}"
        raise DownloadError(what, "is there a network? Without --download-pictures, pictures are those of --images")
    came = len(missing) - len(failed)
    progress.log(f"{folder}: {came:,} pictures downloaded, {len(addresses) - len(missing):,} were there already")
    if first:
        progress.warn(
            f"{folder}: {len(failed):,} of {len(missing):,} pictures could not be downloaded and count as missing; "
            f"the first: item {first[0]}, {first[1]}; the same command tries them again"
        )
    return came


def _picture(
    item: str, url: str, folder: Path, *, stall: float, pause: float, sleep: Callable[[float], None]
) -> tuple[bool, str]:
    """Whether a server answered, and why the picture of one item did not come ('' if it did)."""
    if not _plain_name(item):
        return True, "its id cannot be the name of a file"
    why = ""
    for attempt in range(3):
        if attempt:
            sleep(pause * 2 ** (attempt - 1))
        try:
            with _answer(url, {}, stall) as answer:
                body = _body(answer)
        except _Passing as error:
            why = str(error)
            continue
        except (DownloadError, UsageError) as error:
            return True, error.message
        suffix = next((suffix for start, suffix in _PICTURE_STARTS.items() if body.startswith(start)), "")
        if not suffix:
            return True, f"the server sends no picture ({answer.headers.get_content_type()})"
        part = folder / f".{item}.part"
        part.write_bytes(body)
        part.replace(folder / f"{item}{suffix}")
        return True, ""
    return "no answer" not in why, why


def _body(answer: Any) -> bytes:
    """A short answer as a whole. Raises: _Passing: it is cut off; DownloadError: it is longer than any picture."""
    found = bytearray()
    for block in _blocks(answer):
        found += block
        if len(found) > LARGEST_PICTURE:
            raise DownloadError(f"more than {LARGEST_PICTURE / 2**20:.0f} MB")
    length = answer.headers.get("Content-Length", "")
    if length.isdecimal() and len(found) != int(length):
        raise _Passing(f"{len(found):,} of {length} bytes have come")
    return bytes(found)


def _plain_name(item: str) -> bool:
    """Whether an id is a file's name on every system and stays in its folder."""
    return bool(re.fullmatch(r"[\w-][\w. -]{0,150}", item))
