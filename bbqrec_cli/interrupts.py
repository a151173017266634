"""Ctrl-C and SIGTERM, of which the first counts."""

from __future__ import annotations

import signal
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def listen() -> None:
    """From here on the first of them raises KeyboardInterrupt; more of them do not disturb what ends a run."""
    for number in SIGNALS:
        # In the background of a shell, Ctrl-C is not to be heard.
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _first)


def ignore() -> None:
    """From here on neither is heard."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _first(*_: Any) -> None:
    ignore()
    raise KeyboardInterrupt
