"""The most memory that a step had, in MB (10^6 bytes)."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def begin() -> None:
    """Count from now on, where the system can."""
    with suppress(OSError):  # not Linux, or not allowed: then the peak is the process's own
        Path("/proc/self/clear_refs").write_text("5")
    if cuda := _cuda():
        cuda.reset_peak_memory_stats()


def peak() -> dict[str, float]:
    """peak_memory_mb, resident memory, and peak_gpu_memory_mb, what torch allocated; what is not known is left out."""
    found = {}
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        found["peak_memory_mb"] = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    if cuda := _cuda():
        found["peak_gpu_memory_mb"] = cuda.max_memory_allocated() / 1e6
    return found


def _cuda() -> Any:
    """torch.cuda, if this process uses it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
