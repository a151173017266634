"""Ctrl-C and SIGTERM, of which the first counts."""

from __future__ import annotations

import signal
import time
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 10.0
"""Seconds in which what the first one began to end is not disturbed; one that comes later counts again, for something
may hang, or a library may have swallowed the first."""

_heard = -PATIENCE


def listen() -> None:
    """From here on the first of them raises KeyboardInterrupt, and others soon after it do nothing."""
    global _heard
    _heard = -PATIENCE
    for number in SIGNALS:
        # In the background of a shell, Ctrl-C is not to be heard.
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _first)


def ignore() -> None:
    """From here on neither is heard: nothing is left to be ended."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _first(*_: Any) -> None:
    global _heard
    now = time.monotonic()
    if now - _heard >= PATIENCE:
        _heard = now
        raise KeyboardInterrupt
