"""The sources: name -> options (`options/`) and reader, imported only when asked for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import from_mapping
from bbqrec_cli.registry import Registry

if TYPE_CHECKING:
    from bbqrec_cli.data.sources.base import Source
    from bbqrec_cli.progress import Progress


def _advice(name: str) -> str:
    """For an unknown source: the command for it, if it is a file or a folder."""
    path = Path(name)
    if not path.exists():
        return "--help describes each"
    names = [each.name for each in path.iterdir()] if path.is_dir() else [path.name]
    ends = {
        "s3rec": ("sequences.txt", "sequences.txt.gz"), "letter": (".inter.json",), "recbole": (".inter",),
        "huggingface": ("dataset_dict.json", "state.json", ".parquet", ".arrow"),
    }  # fmt: skip
    fitting = (source for source, those in ends.items() if any(each.endswith(those) for each in names))
    amazon = any(each.startswith("reviews_") for each in names)
    source = next(fitting, "amazon" if amazon else "table")
    return f"bbqrec prepare {source} {shlex.quote(name)}"


SOURCES = Registry("bbqrec_cli.data.sources.options", option="SOURCE", default="demo", advise=_advice)


def source_options(name: str, options: Mapping[str, Any]) -> Any:
    """The checked options of a source.

    Raises:
        UsageError: an unknown source, or an option that it does not have.
    """
    return from_mapping(SOURCES.config(name), options, where=f"prepare {name}")


def open_source(name: str, paths: list[Path], options: Any, *, seed: int, progress: Progress) -> Source:
    """The source called `name`, over `paths`.

    Raises:
        UsageError: paths that make no sense to it.
        MissingFileError: a path that does not exist.
    """
    return SOURCES.implementation(name)(paths, options, seed=seed, progress=progress)
