"""The sources: name -> options (`options/`) and reader, imported only when asked for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import from_mapping
from bbqrec_cli.registry import Registry

if TYPE_CHECKING:
    from bbqrec_cli.data.sources.base import Source
    from bbqrec_cli.progress import Progress


def published_source(path: Path) -> str | None:
    """The source that reads a published set's file or folder, told by the names in it; None for others.

    Options say it in `own_files`: regular expressions of names of files that only their source reads. Of several with
    a space between, each needs a file.
    """
    names = [each.name for each in path.iterdir()] if path.is_dir() else [path.name]
    for source in SOURCES:
        for forms in map(str.split, vars(SOURCES.config(source)).get("own_files", ())):
            if all(any(re.fullmatch(form, name) for name in names) for form in forms):
                return source
    return None


def _other_source(path: Path) -> str | None:
    """The source for files that `table` may read, too."""
    if path.is_file():
        return "recbole" if path.name.endswith(".inter") else None
    ends = {
        "table": ("interactions.parquet", "interactions.arrow"),
        "recbole": (".inter",),
        "huggingface": ("dataset_dict.json", "state.json", ".parquet", ".arrow"),
    }
    names = [each.name for each in path.iterdir()]
    return next((name for name, those in ends.items() if any(each.endswith(those) for each in names)), None)


def _advice(name: str) -> str:
    """For an unknown source: the command for it, if it is a file or a folder."""
    path = Path(name)
    if not path.exists():
        return "--help describes each"
    return f"bbqrec prepare {published_source(path) or _other_source(path) or 'table'} {shlex.quote(name)}"


SOURCES = Registry(
    "bbqrec_cli.data.sources.options", option="SOURCE", default="demo", advise=_advice, group="bbqrec.sources"
)


def source_options(name: str, options: Mapping[str, Any]) -> Any:
    """The checked options of a source.

    Raises:
        UsageError: an unknown source, or an option that it does not have.
    """
    return from_mapping(SOURCES.config(name), options, where=f"prepare {name}")


def fetched(name: str, paths: list[Path], options: Any, progress: Progress) -> list[Path]:
    """The paths to read, after what the options ask to download; the same ones where the source downloads nothing.

    Raises:
        UsageError, DataError, DownloadError: see `data.download.download`.
    """
    fetch = getattr(SOURCES.implementation(name), "fetch", None)
    return paths if fetch is None else fetch(paths, options, progress)


def open_source(name: str, paths: list[Path], options: Any, *, seed: int, progress: Progress) -> Source:
    """The source called `name`, over `paths`.

    Raises:
        UsageError: paths that make no sense to it.
        MissingFileError: a path that does not exist.
    """
    return SOURCES.implementation(name)(paths, options, seed=seed, progress=progress)
