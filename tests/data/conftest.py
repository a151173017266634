from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Listener


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
