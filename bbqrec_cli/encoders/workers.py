"""What an encoder prepares, done ahead by worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from bbqrec_cli.device import cores
from bbqrec_cli.encoders.base import Prepared
from bbqrec_cli.errors import LackingError

FEW = 2000
"""Pictures up to which starting workers takes longer than they save."""
MOST = 8
AHEAD = 2
"""Batches that a worker has before it: what is prepared must not fill the memory."""

Prepare = Callable[[Sequence[Any]], Prepared]


def sensible_workers(pictures: int, threads: int) -> int:
    """Workers for so many pictures. threads: CPU threads that the user allows; 0: all there are."""
    allowed = min(MOST, threads or cores())
    return allowed if pictures > FEW and allowed > 1 else 0


@contextmanager
def prepared_ahead(prepare: Prepare, batches: Iterable[Sequence[Any]], workers: int) -> Iterator[Iterator[Prepared]]:
    """The prepared batches in their order. workers: processes that prepare them; 0: this one.

    Workers are new processes (spawn), not copies of this one, which holds threads of torch; they get batches, never the
    whole of the inputs.

    Raises:
        LackingError: a worker died.
    """
    if not workers:
        yield map(prepare, batches)
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(prepare,)
    )
    try:
        yield _in_order(pool, batches, AHEAD * workers)
    except BrokenProcessPool as error:
        raise LackingError(
            "a worker process that reads pictures has died, perhaps for lack of memory", "--workers 0 works without"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, batches: Iterable[Sequence[Any]], most: int) -> Iterator[Prepared]:
    running: deque[Future[Prepared]] = deque()
    for batch in batches:
        with _unheard():
            running.append(pool.submit(_work, batch))
        if len(running) > most:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


@contextmanager
def _unheard() -> Iterator[None]:
    """Workers that start meanwhile never hear of Ctrl-C and SIGTERM; the main process answers them, a moment later."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_prepare: Prepare
"""In a worker: what it does."""


def _begin(prepare: Prepare) -> None:
    global _prepare
    _prepare = prepare
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A main process that is killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(batch: Sequence[Any]) -> Prepared:
    return _prepare(batch)
