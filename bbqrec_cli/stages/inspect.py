"""inspect: what a file holds and what it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bbqrec_cli.config import StageConfig, option
from bbqrec_cli.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True)
class InspectConfig(StageConfig):
    """Options of `bbqrec inspect`."""

    without: ClassVar[frozenset[str]] = frozenset({"device", "force", "seed", "threads"})

    file: Path = option(help="Any bbqrec file.", role="input", positional=True, complete=".h5")


def run(config: InspectConfig, progress: Progress = SILENT) -> dict[str, Any]:
    """Kind, versions, configuration, parents and datasets of `config.file`.

    Raises:
        MissingFileError, BrokenFileError, WrongKindError, NewerVersionError.
    """
    from bbqrec_cli.hdf5 import describe

    return describe(config.file)
