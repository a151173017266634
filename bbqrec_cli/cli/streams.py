"""What stdout and stderr can write."""

from __future__ import annotations

import io
import os
import sys
from typing import Any


def fit_streams() -> None:
    """Characters that stdout or stderr cannot write become question marks, in place of an error. What is closed
    (`2>&-`) is open to nowhere, so that no file gets its number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not writes_all(stream):
            stream.reconfigure(errors="replace")


def writes_all(stream: Any) -> bool:
    """Whether a stream writes every character."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")
