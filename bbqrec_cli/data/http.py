"""One question and answer over HTTP: redirects that keep the scheme, stalls that end, no other protocol."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from typing import Any

from bbqrec_cli import __version__
from bbqrec_cli.errors import DownloadError, UsageError

SCHEMES = ("http", "https")
STALL = 30.0
"""Seconds without a byte after which a connection is given up."""
FIRST_PAUSE = 1.0
"""Seconds before the second attempt; doubled for each further one."""
_BLOCK = 1 << 16
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses that another attempt may change."""


class PassingError(Exception):
    """An attempt failed, and another one may not. answered: whether a server said anything at all."""

    def __init__(self, what: str, *, answered: bool = True) -> None:
        super().__init__(what)
        self.answered = answered


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


@cache
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
def answer_of(url: str, headers: Mapping[str, str], stall: float) -> Iterator[Any]:
    """The server's answer, 416 included.

    Raises:
        UsageError: not an address of http or https.
        DownloadError: a status that another attempt will not change.
        PassingError: one that it may, or no connection.
    """
    try:
        if urllib.parse.urlsplit(url).scheme not in SCHEMES:
            raise UsageError(f"{url!r} is no address to download from: http:// or https:// is needed", "correct it")
        asked = urllib.request.Request(url, headers={"User-Agent": f"bbqrec/{__version__}", **headers})
        answer = _opener().open(asked, timeout=stall)
    except urllib.error.HTTPError as error:
        answer = error
    except (http.client.InvalidURL, ValueError) as error:
        raise DownloadError(f"{url!r} is no valid address ({error})", "correct it") from error
    except (OSError, http.client.HTTPException) as error:
        raise PassingError(f"no answer ({getattr(error, 'reason', error)})", answered=False) from error
    with closing(answer):
        if answer.status in _PASSING:
            raise PassingError(f"the server answers {answer.status} {answer.reason}")
        if answer.status not in (200, 206, 416):
            raise DownloadError(
                f"{url}: the server answers {answer.status} {answer.reason}",
                "is the name right? --mirror URL names another server; or download the file by hand and give its path",
            )
        yield answer


def blocks(answer: Any) -> Iterator[bytes]:
    """The body as it comes. Raises: PassingError: the connection stalls or breaks."""
    while True:
        try:
            block = answer.read1(_BLOCK)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise PassingError(f"the connection broke ({error or type(error).__name__})") from error
        if not block:
            return
        yield block
