"""The work folders that this user has run suites in, so that estimates know what was measured in other places."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bbqrec_cli.errors import BBQRecError
from bbqrec_cli.hdf5 import describe, read_benchmark, read_record

MOST = 100
"""Folders that are remembered."""
SUMMARY = "benchmark.h5"
"""The file of the results in a work folder."""


def list_file() -> Path:
    """The list: a path a line, the latest run last. Where the system keeps what programs remember of a user."""
    home = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".local" / "state"
    return Path(home) / "bbqrec" / "benchmarks.txt"


def known() -> list[Path]:
    """The folders of the list that are still there, the latest first."""
    try:
        lines = list_file().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError, RuntimeError):  # there may be no home
        return []
    return [path for line in reversed(lines) if (path := Path(line)).is_dir()]


def remember(folder: Path) -> None:
    """Put a folder at the end of the list. Where the list can not be written, nothing is remembered."""
    folder = folder.resolve()
    latest = [folder, *(each for each in known() if each != folder)][:MOST]
    try:
        list_file().parent.mkdir(parents=True, exist_ok=True)
        list_file().write_text("".join(f"{each}\n" for each in reversed(latest)), encoding="utf-8")
    except (OSError, ValueError, RuntimeError):
        return


def folders(own: Path) -> list[Path]:
    """Those that are known, the last one first, a work folder and those beside it, each once."""
    beside = sorted(path.parent for path in own.parent.glob(f"benchmark-*/{SUMMARY}"))
    near = {each.resolve(): each for each in (own, *beside)}
    found = {each.resolve(): each for each in known()}
    return list((found | near).values())


def records_in(folder: Path) -> list[dict[str, Any]]:
    """The records that its summary holds, those beside the outputs where there is no summary yet."""
    try:
        return list(read_benchmark(folder / SUMMARY)["steps"].values())
    except (BBQRecError, KeyError):
        return own_records(folder)


def own_records(folder: Path) -> list[dict[str, Any]]:
    """The records that lie in a folder, as far as they can be read."""
    found = []
    for path in sorted(folder.glob("*.record")):
        try:
            found.append(read_record(path))
        except BBQRecError:  # no estimate, and the run itself will say so
            continue
    return found


def last_run(suite: str, places: list[Path]) -> tuple[Path, Mapping[str, Any], list[dict[str, Any]]] | None:
    """Of the first of the folders in which a suite of that name was summed up: folder, results and records."""
    for folder in places:
        try:
            if describe(folder / SUMMARY)["config"].get("name") == suite:
                state = read_benchmark(folder / SUMMARY)
                return folder, state["results"], list(state["steps"].values())
        except (BBQRecError, KeyError):
            continue
    return None
