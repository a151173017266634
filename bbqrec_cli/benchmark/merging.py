"""Work folders of several machines as one: outputs and records, the first one's where several have the same."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.benchmark.results import content_of
from bbqrec_cli.errors import BBQRecError, DataError, UsageError
from bbqrec_cli.hdf5 import read_catalogue, read_codes, read_metrics, read_record
from bbqrec_cli.locks import locked
from bbqrec_cli.outputs import replacing
from bbqrec_cli.pages.tables import Table, counted, make
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.tuning.one import best_options

KEPT = ("dataset", "tokens", "metrics", "tuning")
"""Kinds of outputs that are taken over: what tables are made of. Features and models are large."""
OUTPUT = re.compile(rf".+-[0-9a-f]{{16}}\.({'|'.join(KEPT)})\.h5")


@dataclass(frozen=True)
class Merged:
    """What `bbqrec benchmark merge --json` prints. taken: folder -> files that came from it; conflicts: outputs of the
    same step that are not the same, with the folder whose own was left out."""

    output: Path
    taken: dict[str, int]
    conflicts: list[dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"output": str(self.output), "taken": self.taken, "conflicts": self.conflicts}

    def tables(self) -> list[Table]:
        """The conflicts."""
        rows = [(each["file"], each["kept"], each["left_out"]) for each in self.conflicts]
        note = "Results of one step that differ. Those of the first folder count."
        return [make("Conflicts", ("file", "kept, of", "left out, of"), rows, left=3, note=note)]

    def said(self) -> str:
        """What came from where."""
        came = ", ".join(f"{counted(number, 'file')} of {name}" for name, number in self.taken.items())
        return f"{self.output}: {came}; {counted(len(self.conflicts), 'conflict')}. Models were not copied."


def merge(folders: Sequence[Path], output: Path | None, progress: Progress = SILENT) -> Merged:
    """Copy outputs and records of `folders` to the folder `output`, which may have some already; those count first.

    Raises:
        UsageError: no folder, or no output; DataError: a folder that is no work folder, or of other data under the same
            name; the errors of writing files.
    """
    if not folders or output is None:
        raise UsageError("merge needs work folders and -o", "bbqrec benchmark merge A B -o C")
    for folder in folders:
        if not any(folder.glob("*.record")):
            raise DataError(f"{folder}: no work folder: there is no record of a step in it")
    output.mkdir(parents=True, exist_ok=True)
    taken, conflicts, origin = dict.fromkeys(map(str, folders), 0), list[dict[str, str]](), dict[str, str]()
    with locked(output):
        check_data([output, *folders])
        for folder in folders:
            if folder.resolve() == output.resolve():
                continue
            for path in sorted(each for each in folder.iterdir() if OUTPUT.fullmatch(each.name)):
                if not (output / path.name).exists():
                    copy(path, output)
                    origin[path.name] = str(folder)
                    taken[str(folder)] += 1
                elif differ(output / path.name, path):
                    kept = origin.get(path.name, str(output))
                    conflicts.append({"file": path.name, "kept": kept, "left_out": str(folder)})
                    progress.warn(f"{path.name}: that of {kept} and that of {folder} differ; the first one is kept")
            for path in sorted(folder.glob("*.record")):
                own = output / path.name
                made_there = origin.get(path.name.removesuffix(".record")) == str(folder)
                if not own.exists() or made_there or (status(own) != "done" and status(path) == "done"):
                    copy(path, output)
                    taken[str(folder)] += 1
        conflicts += follow(output, folders, origin, progress)
    return Merged(output, taken, conflicts)


def check_data(folders: Sequence[Path]) -> None:
    """Raises: DataError: two folders have dataset files of one name that hold other interactions, so that nothing that
    follows from them goes together. A download's name says what was asked for, not what came."""
    first, content = dict[str, Path](), cache(lambda path: content_of(read_catalogue(path)))
    for path in (each for folder in folders for each in sorted(folder.glob("*.dataset.h5"))):
        earlier = first.setdefault(path.name, path)
        if earlier != path and content(earlier) != content(path):
            raise DataError(
                f"{earlier} and {path} hold other interactions: the folders are of other data",
                "run the suite again in one of them, with the files of the other",
            )


def follow(
    output: Path, folders: Sequence[Path], origin: Mapping[str, str], progress: Progress
) -> list[dict[str, str]]:
    """Give the metrics in `output` the records of the trainings that they are of, from the folder that they came from:
    `origin`, by name, `output` itself where that has none. Returns the trainings of which there are two; that of the
    first folder counts."""
    conflicts, first = list[dict[str, str]](), dict[str, str]()
    places = [str(output), *map(str, folders)]
    every = sorted(output.glob("*.metrics.h5"))
    for metrics in sorted(every, key=lambda path: places.index(origin.get(path.name, str(output)))):
        folder = origin.get(metrics.name, str(output))
        for path in trainings(Path(folder), metrics.name):
            kept = first.setdefault(path.name, folder)
            if kept != folder and settings(Path(kept) / path.name) != settings(path):
                conflicts.append({"file": path.name.removesuffix(".record"), "kept": kept, "left_out": folder})
                progress.warn(
                    f"{metrics.name}, of {folder}, is of a model with other settings than that of {kept}, whose record "
                    "is kept; delete it"
                )
            elif kept == folder and settings(output / path.name) != settings(path):
                copy(path, output)
    return conflicts


def trainings(folder: Path, metrics: str) -> list[Path]:
    """The records in `folder` of the models that metrics there are of."""
    inputs = record_of(folder / f"{metrics}.record").get("inputs", {})
    keys = [key for option in ("model", "unite") for key in inputs.get(option, ())]
    return [path for key in keys for path in folder.glob(f"*-{key[:16]}.model.h5.record")]


def settings(record: Path) -> Any:
    """The best settings of trials that a training ran with, None where its record can not be read."""
    return record_of(record).get("settings")


def copy(path: Path, folder: Path) -> None:
    """Whole or not at all."""
    target = folder / path.name
    with replacing(target) as partial:
        shutil.copyfile(path, partial)


def status(path: Path) -> str:
    """What became of the step of a record, '' where it can not be read."""
    return str(record_of(path).get("status", ""))


def record_of(path: Path) -> Mapping[str, Any]:
    """A step's record, {} where it can not be read."""
    try:
        return read_record(path)
    except BBQRecError:
        return {}


def differ(one: Path, other: Path) -> bool:
    """Whether two outputs of the same step say something else: ranks, codes or best settings. (Times differ always.)"""
    if one.name.endswith(".metrics.h5"):
        a, b = read_metrics(one), read_metrics(other)
        return a.user_ids != b.user_ids or not np.array_equal(a.ranks, b.ranks)
    if one.name.endswith(".tokens.h5"):
        return not np.array_equal(read_codes(one)[1].codes, read_codes(other)[1].codes)
    if one.name.endswith(".tuning.h5"):
        return best_options(one) != best_options(other)
    return False
