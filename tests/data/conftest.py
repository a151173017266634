from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Listener:
    """Keeps what a source says."""

    def __init__(self) -> None:
        self.logged: list[str] = []
        self.warned: list[str] = []
        self.steps = 0

    def log(self, message: str) -> None:
        self.logged.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Listener]:
        yield self

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        self.steps += steps


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """`put("a/b.csv.gz", text)` writes a file under tmp_path, gzipped where its name says so."""

    def made(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return made
