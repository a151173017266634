"""Name -> source, imported only when asked for. A new raw format is one file beside this one and one line here."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bbqrec_cli.config import flag, nearest
from bbqrec_cli.errors import UsageError

if TYPE_CHECKING:
    from bbqrec_cli.data.sources.base import Options, Source
    from bbqrec_cli.progress import Progress

SOURCES = {
    "demo": ("Demo", "a shop that bbqrec makes itself, with texts and pictures"),
    "s3rec": ("S3Rec", "lines of `user item item …`, with an optional items.json"),
    "table": ("Table", "CSV or TSV of user, item, timestamp; items as CSV, TSV or JSON"),
    "amazon": ("Amazon", "the 2014 Amazon release: reviews, metadata, visual features"),
}
"""name -> (class in the module of that name, what it reads)."""


def open_source(name: str, paths: list[Path], options: Options, progress: Progress) -> Source:
    """The source called `name`, over `paths`.

    Raises:
        UsageError: an unknown source, with the nearest known one; options or paths that make no sense to it.
        MissingFileError: a path that does not exist.
    """
    if name not in SOURCES:
        known = "; ".join(f"{key} ({about})" for key, (_, about) in SOURCES.items())
        raise UsageError(f"unknown source {name!r}{nearest(name, SOURCES)}", f"one of: {known}")
    source = getattr(import_module(f"bbqrec_cli.data.sources.{name}"), SOURCES[name][0])
    for f in dataclasses.fields(options):
        if f.name not in (*source.takes, "seed") and getattr(options, f.name) != f.default:
            takes = ", ".join(map(flag, source.takes))
            raise UsageError(f"prepare {name} makes no use of {flag(f.name)}", f"leave it out; {name} takes {takes}")
    return source(paths, options, progress)
