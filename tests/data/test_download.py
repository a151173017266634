"""Against a server on loopback that does what servers do: stall, truncate, lie, redirect, ignore Range."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bbqrec_cli.data.download import TRIES, download, published_md5
from bbqrec_cli.data.download_pictures import download_pictures
from bbqrec_cli.errors import DataError, DownloadError, InterruptedRunError, UsageError

BODY = bytes(range(256)) * 2000
MD5 = hashlib.md5(BODY).hexdigest()
JPEG = b"\xff\xd8\xff" + b"picture" * 50


class Site:
    """Answers in turn (the last one again and again), and what was asked."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answers: list[Callable[[Handler], None]] = []
        self.asked: list[dict[str, str]] = []

    def says(self, *answers: Callable[[Handler], None]) -> None:
        self.answers = list(answers)


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        self.site.asked.append({"path": self.path, **dict(self.headers)})
        answers = self.site.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def log_message(self, *_: object) -> None:
        pass

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Own(Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    server.daemon_threads = True
    Own.site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Own.site
    server.shutdown()
    thread.join()
    server.server_close()


def whole(body: bytes = BODY, etag: str = '"one"', kind: str = "application/zip", length: int | None = None):
    """200, without ranges."""

    def answer(handler: Handler) -> None:
        more = {"ETag": etag} if etag else {}
        handler.head(200, Content_Type=kind, Content_Length=len(body) if length is None else length, **more)
        handler.wfile.write(body)

    return answer


def ranges(body: bytes = BODY, etag: str = '"one"', stop: int | None = None):
    """As a good server answers; it closes the connection before byte `stop`."""

    def answer(handler: Handler) -> None:
        asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range", etag)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and condition == etag else 0
        if start >= len(body):
            handler.head(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
            return
        more = {"Content_Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
        handler.head(206 if start else 200, Content_Length=len(body) - start, ETag=etag, **more)
        handler.wfile.write(body[start:stop])

    return answer


def status(code: int, **headers: object):
    return lambda handler: handler.head(code, Content_Length=0, **headers)


@pytest.fixture
def fetch(site, tmp_path, listener):
    """`fetch("f.bin")` downloads it from the site into tmp_path; the pauses are kept in `fetch.slept`."""
    slept: list[float] = []

    def run(name: str = "f.bin", **options):
        return download(
            f"{site.address}/{name}", tmp_path / name, progress=listener, stall=0.3, sleep=slept.append, **options
        )

    run.slept = slept  # type: ignore[attr-defined]
    return run


def left(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole(site, fetch, tmp_path):
    site.says(ranges())
    assert fetch(md5=MD5).read_bytes() == BODY
    assert left(tmp_path) == ["f.bin"]
    assert site.asked[0]["User-Agent"].startswith("bbqrec/")


def slowly(body: bytes = BODY, etag: str = '"one"'):
    """200, in pieces, so that a second download begins meanwhile."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(body), ETag=etag)
        for start in range(0, len(body), 64_000):
            handler.wfile.write(body[start : start + 64_000])
            time.sleep(0.1)

    return answer


def test_two_threads_download_a_file_once(site, fetch, tmp_path, listener):
    site.says(slowly())
    made: list[bytes] = []
    threads = [threading.Thread(target=lambda: made.append(fetch(md5=MD5).read_bytes())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [BODY, BODY]
    assert len(site.asked) == 1
    assert "f.bin: another process is downloading it; waiting" in listener.logged
    assert listener.logged[-1] == "f.bin is there already"
    assert left(tmp_path) == ["f.bin"]


def test_two_processes_download_a_file_once(site, tmp_path):
    """The first one is killed: the second goes on with its part, and is not kept out by its lock."""
    site.says(slowly(), ranges())
    code = (
        "from pathlib import Path; from bbqrec_cli.data.download import download; "
        "from bbqrec_cli.progress import SILENT; "
        f"download({site.address!r} + '/f.bin', Path({str(tmp_path / 'f.bin')!r}), progress=SILENT)"
    )
    first = subprocess.Popen([sys.executable, "-c", code])
    part = tmp_path / "f.bin.part"
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < until:
        time.sleep(0.01)
    second = subprocess.Popen([sys.executable, "-c", code])
    first.kill()
    assert (first.wait(60), second.wait(60)) == (-9, 0)
    assert (tmp_path / "f.bin").read_bytes() == BODY
    assert left(tmp_path) == ["f.bin"]
    assert [each.get("Range") is None for each in site.asked] == [True, False], "the part was gone on with"


def test_what_was_cut_off_goes_on(site, fetch, tmp_path):
    site.says(ranges(stop=1000), ranges(stop=300_000), ranges())
    assert fetch(md5=MD5).read_bytes() == BODY
    assert [(each.get("Range"), each.get("If-Range")) for each in site.asked] == [
        (None, None), ("bytes=1000-", '"one"'), ("bytes=300000-", '"one"'),
    ]  # fmt: skip
    assert fetch.slept == [1, 1], "what brings something new starts the pauses again"


def test_the_next_command_goes_on(site, fetch, tmp_path):
    site.says(ranges(stop=1000), status(404))
    with pytest.raises(DownloadError, match="404"):
        fetch()
    assert left(tmp_path) == ["f.bin.part", "f.bin.part.json"]
    site.says(ranges())
    assert fetch().read_bytes() == BODY
    assert site.asked[-1]["Range"] == "bytes=1000-"


@pytest.mark.parametrize("other", [ranges(BODY[::-1], '"two"'), whole(BODY[::-1], '"two"')])
def test_a_part_of_another_version_is_not_continued(site, fetch, other):
    site.says(ranges(stop=1000), other)
    assert fetch().read_bytes() == BODY[::-1]


def test_a_server_that_continues_another_version_all_the_same(site, fetch):
    def mixed(handler: Handler) -> None:
        handler.head(
            206, Content_Length=10, Content_Range=f"bytes 1000-1009/{len(BODY)}", ETag='"two"'
        )  # fmt: skip
        handler.wfile.write(b"0123456789")

    site.says(ranges(stop=1000), mixed, ranges())
    assert fetch().read_bytes() == BODY
    assert [each.get("Range") for each in site.asked] == [None, "bytes=1000-", None]


def test_a_part_without_a_version_starts_anew(site, fetch):
    site.says(whole(BODY[:1000], etag="", length=len(BODY)), whole(etag=""))
    assert fetch().read_bytes() == BODY
    assert "Range" not in site.asked[1]


def test_range_is_ignored(site, fetch):
    site.says(ranges(stop=1000), whole())
    assert fetch().read_bytes() == BODY


def test_a_wrong_range_and_a_416_start_anew(site, fetch):
    def wrong(handler: Handler) -> None:
        handler.head(206, Content_Length=len(BODY), Content_Range=f"bytes 0-{len(BODY) - 1}/{len(BODY)}")
        handler.wfile.write(BODY)

    site.says(ranges(stop=1000), wrong, ranges(stop=1000), status(416), ranges())
    assert fetch().read_bytes() == BODY
    assert [each.get("Range") for each in site.asked] == [None, "bytes=1000-", None, "bytes=1000-", None]


def test_a_part_that_is_whole_already_is_only_checked(site, fetch, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(BODY)
    about = {"url": f"{site.address}/f.bin", "version": '"one"'}
    (tmp_path / "f.bin.part.json").write_text(json.dumps(about))
    site.says(ranges())
    assert fetch(md5=MD5).read_bytes() == BODY
    assert [each["Range"] for each in site.asked] == [f"bytes={len(BODY)}-"]


def test_what_a_server_says_of_a_part_that_is_whole_is_no_part_of_it(site, fetch, tmp_path):
    """A page, with most servers."""
    (tmp_path / "f.bin.part").write_bytes(BODY)
    about = {"url": f"{site.address}/f.bin", "version": '"one"'}
    (tmp_path / "f.bin.part.json").write_text(json.dumps(about))

    def says(handler: Handler) -> None:
        page = b"<html>416 Range Not Satisfiable</html>"
        handler.head(416, Content_Range=f"bytes */{len(BODY)}", Content_Length=len(page))
        handler.wfile.write(page)

    site.says(says)
    assert fetch(md5=MD5).read_bytes() == BODY
    assert len(site.asked) == 1


def test_a_part_of_another_address_is_not_used(site, fetch, tmp_path):
    (tmp_path / "f.bin.part").write_bytes(b"something else")
    (tmp_path / "f.bin.part.json").write_text('{"url": "http://elsewhere/f.bin", "version": "x"}')
    site.says(ranges())
    assert fetch().read_bytes() == BODY


def test_a_part_of_another_address_is_there_until_this_one_sends_something(site, fetch, tmp_path):
    """A typing error in --mirror costs nothing."""
    (tmp_path / "f.bin.part").write_bytes(b"something else")
    (tmp_path / "f.bin.part.json").write_text('{"url": "http://elsewhere/f.bin", "version": "x"}')
    site.says(*[status(503)] * 6)
    with pytest.raises(DownloadError) as caught:
        fetch()
    assert "keeps what has come" not in caught.value.message
    assert (tmp_path / "f.bin.part").read_bytes() == b"something else"
    assert "elsewhere" in (tmp_path / "f.bin.part.json").read_text()


def test_attempts_end_with_longer_and_longer_pauses(site, fetch, tmp_path):
    site.says(status(503))
    with pytest.raises(DownloadError, match=r"the server answers 503 .*brought nothing new") as caught:
        fetch()
    assert "--mirror" in caught.value.hint
    assert len(site.asked) == TRIES
    assert fetch.slept == [1, 2, 4, 8, 16]
    assert left(tmp_path) == []


def test_a_stall_is_given_up_and_continued(site, fetch):
    """The client asks again while the first answer still hangs."""
    again, order = threading.Event(), []

    def stalls(handler: Handler) -> None:
        handler.head(200, Content_Length=len(BODY), ETag='"one"')
        handler.wfile.write(BODY[:1000])
        handler.wfile.flush()
        again.wait(60)
        order.append("the stall ends")

    def goes_on(handler: Handler) -> None:
        order.append("asked again")
        again.set()
        ranges()(handler)

    site.says(stalls, goes_on)
    assert fetch().read_bytes() == BODY
    assert order[0] == "asked again"
    assert site.asked[1]["Range"] == "bytes=1000-"


def test_always_cut_off_at_the_same_place(site, fetch, tmp_path):
    """A server without ranges that announces more than it sends."""
    site.says(whole(BODY[:1000], length=len(BODY)))
    with pytest.raises(DownloadError, match=r"1,000 of 512,000 bytes have come.*f.bin.part keeps what has come"):
        fetch()
    assert not (tmp_path / "f.bin").exists()


def test_no_server(fetch, tmp_path, listener):
    with pytest.raises(DownloadError, match="no answer"):
        download("http://127.0.0.1:1/f", tmp_path / "f", progress=listener, sleep=lambda _: None)


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_what_will_not_change_is_not_tried_again(site, fetch, code):
    site.says(status(code))
    with pytest.raises(DownloadError, match=f"the server answers {code}"):
        fetch()
    assert len(site.asked) == 1


# Something else than the file


@pytest.mark.parametrize("name", ["f.zip", "f.gz", "f.b"])
def test_a_web_page_is_no_file(site, fetch, tmp_path, name):
    site.says(whole(b"<!DOCTYPE html><p>moved", kind="text/html; charset=utf-8"))
    with pytest.raises(DownloadError, match=r"the server sends a web page \(text/html\)"):
        fetch(name)
    assert left(tmp_path) == []


def test_a_web_page_does_not_cost_what_has_come(site, fetch, tmp_path):
    """As the page of a hotel's network that answers everything."""
    body = gzip.compress(bytes(np.random.default_rng(0).bytes(50_000)))
    site.says(ranges(body, stop=1000), whole(b"<html>Please sign in", kind="text/html"))
    with pytest.raises(DownloadError, match="a web page"):
        fetch("f.gz")
    assert (tmp_path / "f.gz.part").stat().st_size == 1000
    site.says(ranges(body))
    assert fetch("f.gz").read_bytes() == body
    assert site.asked[-1]["Range"] == "bytes=1000-"


def test_another_kind_of_file(site, fetch):
    site.says(whole(b"user,item\n"))
    with pytest.raises(DownloadError, match=r"something that is not zip .*starting with b'user,item"):
        fetch("f.zip")


def test_a_wrong_checksum_is_fetched_once_more_and_refused(site, fetch, tmp_path):
    site.says(whole(BODY[::-1]))
    with pytest.raises(DownloadError, match=rf"its MD5 is [0-9a-f]{{32}}, not the published {MD5}"):
        fetch(md5=MD5)
    assert (len(site.asked), left(tmp_path)) == (2, [])


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/ratings.dat", "1::2::3::4\n" * 1000)
    return stream.getvalue()


@pytest.mark.parametrize(("name", "body"), [("f.gz", gzip.compress(BODY)), ("f.zip", zipped())])
def test_a_length_that_is_too_small_is_found_by_the_structure(site, fetch, tmp_path, name, body):
    """The server announces, and sends, less than the file has."""
    site.says(whole(body[:-20]))
    with pytest.raises(DownloadError, match="what has come is not the file"):
        fetch(name)
    assert left(tmp_path) == []
    site.says(whole(body))
    assert fetch(name).read_bytes() == body


def test_without_a_length_the_structure_must_say_that_it_is_whole(site, fetch):
    def unbounded(body: bytes):
        def answer(handler: Handler) -> None:
            handler.head(200)
            handler.wfile.write(body)

        return answer

    site.says(unbounded(BODY))
    with pytest.raises(DownloadError, match="the server does not say how long the file is"):
        fetch("f.b")
    site.says(unbounded(b""))
    with pytest.raises(DownloadError, match="what has come is not the file: it is empty"):
        fetch("f.gz")
    site.says(unbounded(gzip.compress(BODY)))
    assert gzip.decompress(fetch("f.gz").read_bytes()) == BODY


def test_chunks(site, fetch):
    def chunked(cut: bool):
        def answer(handler: Handler) -> None:
            handler.protocol_version = "HTTP/1.1"
            handler.head(200, Transfer_Encoding="chunked", ETag='"one"', Connection="close")
            for start in range(0, len(BODY), 100_000):
                block = BODY[start : start + 100_000]
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
                if cut:
                    return
            handler.wfile.write(b"0\r\n\r\n")

        return answer

    site.says(chunked(True), chunked(False))
    assert fetch(md5=MD5).read_bytes() == BODY


# Redirects and addresses


def test_redirects_are_followed_with_the_range(site, fetch):
    site.says(ranges(stop=1000), status(302, Location="/other"), ranges())
    assert fetch().read_bytes() == BODY
    assert (site.asked[-1]["path"], site.asked[-1]["Range"]) == ("/other", "bytes=1000-")


@pytest.mark.parametrize("to", ["ftp://127.0.0.1/f", "file:///etc/hostname", "data:,x"])
def test_redirects_to_another_scheme_are_refused(site, fetch, tmp_path, to):
    site.says(status(302, Location=to))
    with pytest.raises(DownloadError):
        fetch()
    assert (len(site.asked), left(tmp_path)) == (1, [])


def test_redirects_in_a_circle_end(site, fetch):
    site.says(status(302, Location="/f.bin"))
    with pytest.raises(DownloadError, match="302"):
        fetch()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://x/y", "f.zip", "data:,x"])
def test_other_addresses_are_refused(tmp_path, listener, url):
    with pytest.raises(UsageError, match="http:// or https:// is needed"):
        download(url, tmp_path / "f", progress=listener)


@pytest.mark.parametrize("url", ["http://a b/f", "http://host:port/f", "http://[x/f", "http://é\n/f"])
def test_invalid_addresses_are_not_tried_again(tmp_path, listener, url):
    with pytest.raises(DownloadError, match="is no valid address"):
        download(url, tmp_path / "f", progress=listener, sleep=lambda _: pytest.fail("tried again"))


# What is there already


def test_a_file_that_is_there_is_kept_and_checked(fetch, site, tmp_path, listener):
    (tmp_path / "f.bin").write_bytes(BODY)
    assert fetch(md5=MD5) == tmp_path / "f.bin"
    assert (site.asked, listener.logged) == ([], ["f.bin is there already"])
    with pytest.raises(DataError, match="is not the published file"):
        fetch(md5="0" * 32)
    assert (tmp_path / "f.bin").read_bytes() == BODY


def test_ctrl_c_keeps_what_has_come(site, tmp_path, listener):
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    site.says(ranges(stop=200_000))
    with pytest.raises(InterruptedRunError, match=r"0.2 MB of f.bin are kept in f.bin.part"):
        download(f"{site.address}/f.bin", tmp_path / "f.bin", progress=listener, sleep=interrupt)
    assert (tmp_path / "f.bin.part").stat().st_size == 200_000


def test_ctrl_c_says_if_nothing_can_go_on(site, tmp_path, listener):
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    site.says(ranges(stop=200_000, etag='W/"weak"'))
    with pytest.raises(InterruptedRunError, match=r"the next attempt at f\.bin begins anew"):
        download(f"{site.address}/f.bin", tmp_path / "f.bin", progress=listener, sleep=interrupt)


def test_published_checksums(site):
    site.says(whole(f"MD5 (ml-latest.zip) = {MD5.upper()}\n".encode(), kind="text/plain"))
    assert published_md5(f"{site.address}/f.zip") == MD5
    assert site.asked[0]["path"] == "/f.zip.md5"
    site.says(status(404))
    assert published_md5(f"{site.address}/f.zip") == ""


# Pictures


def pictures(site, tmp_path, listener, addresses, **options):
    return download_pictures(
        addresses, tmp_path / "images", progress=listener, stall=0.3, sleep=lambda _: None, **{"threads": 3} | options
    )


def test_pictures_come_once_and_failures_are_counted(site, tmp_path, listener):
    def answer(handler: Handler) -> None:
        kinds = {"/a": JPEG, "/b": b"\x89PNG\r\n", "/page": b"<html>", "/gone": None, "/cut": JPEG, "/part": JPEG,
                 "/wav": b"RIFF\x24\0\0\0WAVEfmt "}  # fmt: skip
        body = kinds[handler.path]
        if body is None:
            handler.head(404, Content_Length=0)
        else:
            handler.head(
                206 if handler.path == "/part" else 200, Content_Length=len(body) + 5 * (handler.path == "/cut")
            )
            handler.wfile.write(body)

    site.says(answer)
    paths = {"B1": "/a", "B2": "/b", "B3": "/page", "B4": "/gone", "B5": "/cut", "../B6": "/a", "B8": "/part",
             "B9": "/wav", "长" * 60: "/a"}  # fmt: skip
    addresses = {item: site.address + path for item, path in paths.items()} | {"B7": "file:///etc/hostname"}
    assert pictures(site, tmp_path, listener, addresses) == 2
    assert left(tmp_path / "images") == ["B1.jpg", "B2.png"]
    assert (tmp_path / "images" / "B1.jpg").read_bytes() == JPEG
    assert left(tmp_path) == ["images"]
    assert listener.logged[-1].endswith("images: 2 pictures downloaded, 0 were there already")
    assert "8 of 10 pictures could not be downloaded and count as missing" in listener.warned[-1]
    asked = len(site.asked)
    assert pictures(site, tmp_path, listener, {"B1": addresses["B1"], "B2": addresses["B2"]}) == 0
    assert len(site.asked) == asked


def test_pictures_are_tried_again(site, tmp_path, listener):
    site.says(status(503), whole(JPEG))
    assert pictures(site, tmp_path, listener, {"B1": f"{site.address}/a"}, threads=1) == 1


def test_pictures_without_a_network_end_at_once(tmp_path, listener):
    addresses = {f"B{number}": "http://127.0.0.1:1/x" for number in range(500)}
    with pytest.raises(DownloadError, match="none of 500 pictures could be downloaded"):
        pictures(None, tmp_path, listener, addresses)
    assert left(tmp_path) == [], "an empty folder would be taken for that of the pictures"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "B7.jpg").write_bytes(JPEG)
    assert pictures(None, tmp_path, listener, addresses) == 0, "some came before"
    assert "499 of 499 pictures could not be downloaded and count as missing" in listener.warned[-1]
