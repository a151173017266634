"""Pictures of items by their addresses, several at a time, into a folder where each is named by its item's id."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event
from typing import Any

from bbqrec_cli.data.http import FIRST_PAUSE, STALL, PassingError, answer_of, blocks
from bbqrec_cli.data.sources.pictures import PICTURES
from bbqrec_cli.errors import DownloadError, InterruptedRunError, UsageError
from bbqrec_cli.progress import Progress

LARGEST = 20 * 2**20
"""Bytes; a longer answer is no picture of a product."""
TRIES = 3
_STARTS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}
_HOPELESS = 16
"""Pictures that all fail without any answer of a server before the others are not tried."""


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
    inside = folder.iterdir() if folder.is_dir() else ()
    there = {path.stem for path in inside if path.suffix.lower() in PICTURES}
    missing = {item: url for item, url in addresses.items() if item not in there}
    failed: dict[str, str] = {}
    answered = 0
    pool, stopped = ThreadPoolExecutor(threads), Event()
    try:
        waiting = {
            pool.submit(_picture, item, url, folder, stopped, stall=stall, pause=pause, sleep=sleep): item
            for item, url in missing.items()
        }
        with progress.task("pictures", len(missing)) as task:
            for done in as_completed(waiting):
                reached, why = done.result()
                answered += reached
                if why:
                    failed[waiting[done]] = why
                if not answered and len(failed) >= _HOPELESS:
                    failed |= dict.fromkeys(missing.keys() - failed.keys(), "not tried")
                    break
                task.advance(1, failed=len(failed))
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; the pictures that have come are in {folder}", "the same command fetches the others"
        ) from None
    finally:
        stopped.set()
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
    if first and not answered and len(missing) == len(addresses):
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
    item: str, url: str, folder: Path, stopped: Event, *, stall: float, pause: float, sleep: Callable[[float], None]
) -> tuple[bool, str]:
    """Whether a server answered, and why the picture of one item did not come ('' if it did)."""
    if not _plain_name(item):
        return True, "its id cannot be the name of a file"
    answered, why = False, ""
    for attempt in range(TRIES):
        if stopped.is_set():
            break
        if attempt:
            sleep(pause * 2 ** (attempt - 1))
        try:
            with answer_of(url, {}, stall) as answer:
                if answer.status != 200:
                    return True, f"the server answers {answer.status}"
                body = _body(answer)
        except PassingError as error:
            answered, why = error.answered, str(error)
            continue
        except (DownloadError, UsageError) as error:
            return True, error.message
        suffix = next((suffix for start, suffix in _STARTS.items() if body.startswith(start)), "")
        if not suffix or (suffix == ".webp" and body[8:12] != b"WEBP"):
            return True, f"the server sends no picture ({answer.headers.get_content_type()})"
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{item}.part"
        part.write_bytes(body)
        part.replace(folder / f"{item}{suffix}")
        return True, ""
    return answered, why


def _body(answer: Any) -> bytes:
    """A short answer as a whole. Raises: PassingError: it is cut off; DownloadError: it is longer than any picture."""
    found = bytearray()
    for block in blocks(answer):
        found += block
        if len(found) > LARGEST:
            raise DownloadError(f"more than {LARGEST / 2**20:.0f} MB")
    length = answer.headers.get("Content-Length", "")
    if length.isdecimal() and len(found) != int(length):
        raise PassingError(f"{len(found):,} of {length} bytes have come")
    return bytes(found)


def _plain_name(item: str) -> bool:
    """Whether an id is a file's name on every system and stays in its folder."""
    return bool(re.fullmatch(r"[\w-][\w. -]*", item)) and len(item.encode()) <= 150
