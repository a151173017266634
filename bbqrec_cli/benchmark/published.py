"""What others report: published.toml, and which of it may stand beside a data set."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.layouts import COLUMNS, UNSEEN, Published
from bbqrec_cli.config import load_toml

FILE = Path(__file__).with_name("published.toml")
PAPER = "bbqrec"
"""The source whose numbers are the paper's own."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A data set as those who report numbers for it have it."""

    users: int
    items: int
    interactions: int


@cache
def known_data() -> Mapping[str, Counts]:
    """Name -> its counts, of every data set with published numbers."""
    return {name: Counts(**counts) for name, counts in _values()["data"].items()}


def numbers(name: str, data: str, metrics: Collection[str], protocols: Collection[bool]) -> Iterator[Published]:
    """What is reported for a data set.

    Args:
        name: of the published data set; data: what the suite calls it.
        metrics: of the suite; protocols: see `Suite.exclude_seen`. Of two, numbers with seen items left out belong
            to the metrics that end with UNSEEN; of one, those of the other protocol are left out.
    """
    values = _values()
    for each in values["published"]:
        seen, found = each["exclude_seen"], each["data"].get(name, {})
        if seen in (True, False) and seen not in protocols:
            continue
        unseen = UNSEEN if seen is True and len(protocols) > 1 else ""
        placed = {key if key in COLUMNS else key + unseen: value for key, value in found.items()}
        kept = {key: value for key, value in placed.items() if key in COLUMNS or key in metrics}
        if kept:
            source = ", ".join(filter(None, (values["sources"][each["source"]], each.get("place", ""))))
            yield Published(
                system=each["system"], data=data, metrics=kept, source=source, exclude_seen=seen, book=True,
                paper=each["source"] == PAPER,
            )  # fmt: skip


@cache
def _values() -> dict[str, Any]:
    return load_toml(FILE, "published numbers")[0]
