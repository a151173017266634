"""benchmark speed: contests -> times, ratios and peaks of memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.speed.contest import Entrant, FailedError, Process, hold, peer_environment
from bbqrec_cli.benchmark.speed.contests import OFFLINE, PEERS, ROUNDS, SIZES, Contest, Given, contests, models
from bbqrec_cli.benchmark.speed.result import SpeedConfig, SpeedResult
from bbqrec_cli.config import did_you_mean
from bbqrec_cli.errors import DataError, LackingError, UsageError
from bbqrec_cli.progress import SILENT, Progress

ELSEWHERE = "pip install recbole in an environment of its own, and --peer-python its Python"


def run(config: SpeedConfig, progress: Progress = SILENT, *, commands: tuple[str, ...] = ()) -> SpeedResult:
    """Measure what is asked for. Nothing is kept but the page.

    Args:
        commands: those of bbqrec, whose start is measured.

    Raises:
        UsageError: an unknown name; MissingFileError, WrongKindError, …: the data, or a page that is there already.
        LackingError: --peer-python does not run; DataError: the data cannot be trained on.
    """
    from bbqrec_cli.benchmark.speed.report import write_report
    from bbqrec_cli.hdf5 import open_file
    from bbqrec_cli.pages.page import check_page

    began, size = time.perf_counter(), SIZES[config.size]
    given = trained(config.model) if config.model else None
    asked = chosen(contests(size, commands, given), config.only)
    if config.tokens:
        with open_file(config.tokens, "tokens"):
            pass
    if config.report:
        check_page(config.report, force=config.force)
    versions = peers(config.peer_python)
    with tempfile.TemporaryDirectory(prefix="bbqrec-speed-") as name:
        folder = Path(name)
        job = {**size, "folder": str(folder), "threads": config.threads, "seed": config.seed}
        progress.log("making the data, and training what is decoded")
        about, held = made(config, asked, given, job), []
        if given:
            normalisation = given.settings["normalisation"]
            about["decoded"] = {"model": given.name, "epochs": given.epochs, "normalisation": normalisation}
        for number, contest in enumerate(asked, start=1):
            progress.log(f"{number}/{len(asked)} {contest.name}: {', '.join(each.name for each in contest.entrants)}")
            lacking = {each.name: why for each in contest.entrants if (why := lack(each, versions))}
            measured = hold(
                contest.entrants, job, folder / contest.name, rounds=ROUNDS[config.size], lacking=lacking,
                peer_python=found_python(config.peer_python) if config.peer_python else "",
            )  # fmt: skip
            for each in measured:
                if each.lacks:
                    progress.warn(f"{contest.name}: {each.entrant.name} is left out: {each.lacks}")
            held.append((contest, measured))
    from bbqrec_cli.origin import origin

    result = SpeedResult(
        config=config, held=held, about=about, sizes=size, versions=versions, machine=origin("cpu", config.threads),
        seconds=time.perf_counter() - began,
    )  # fmt: skip
    if config.report:
        write_report(config.report, result, force=config.force)
    return result


def chosen(there: Mapping[str, Contest], only: Sequence[str]) -> list[Contest]:
    """The contests of these names, all if there is none. Raises: UsageError."""
    for name in only:
        if name not in there:
            hint = f"there are {', '.join(there)}"
            raise UsageError(f"--only: {name!r} is not measured{did_you_mean(name, there)}", hint)
    return [each for name, each in there.items() if not only or name in only]


def trained(path: Path) -> Given:
    """The generator of a model file. Raises: DataError: it is another model; the errors of `open_file`."""
    from bbqrec_cli.hdf5 import open_file

    with open_file(path, "model") as file:
        name, settings, history = file.attribute("model"), file.attribute("settings"), file.attribute("history")
    if "decoder_layers" not in settings:
        raise DataError(f"{path}: the model {name} decodes no semantic IDs", "give one that does, such as bbqrec")
    return Given(path=str(path.resolve()), name=name, settings=settings, epochs=len(history))


def made(config: SpeedConfig, asked: Sequence[Contest], given: Given | None, job: Mapping[str, Any]) -> dict[str, Any]:
    """Write the data into the folder, and what is decoded; what the data are. In a process of its own, so that this one
    stays small: its memory would count as that of the processes that it starts. Raises: DataError."""
    wanted = {each.job.get("model") for contest in asked for each in contest.entrants if "beam" in each.job}
    decoded = [each for each in models(SIZES[config.size], given) if each["name"] in wanted]
    path = config.tokens or config.model
    data = str(path.resolve()) if path else ""
    entrant = Entrant(name="data", measure="data:make", job={"data": data, "models": decoded, "warm": False})
    folder = Path(job["folder"], "messages")
    folder.mkdir()
    try:
        with Process(entrant, job, folder) as process:
            about: dict[str, Any] = process.ask()["about"]
            return about
    except FailedError as error:
        where = f"{path}: " if path else ""
        raise DataError(f"{where}nothing can be measured: {error}", "bbqrec inspect shows a file") from None


def found_python(python: Path) -> str:
    """Where it is, a bare name in PATH."""
    return shutil.which(python) or os.path.abspath(python)


def peers(python: Path | None) -> dict[str, str]:
    """Package -> version of what is installed here, and of RecBole there. Raises: LackingError: there is no Python."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in PEERS.values():
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if python is not None:
        words = [str(python), "-c", "from importlib.metadata import version; print(version('recbole'))"]
        try:
            said = subprocess.run(words, check=True, capture_output=True, text=True, env=peer_environment())
        except (OSError, subprocess.CalledProcessError):
            hint = "give the Python of an environment in which `pip install recbole` was done"
            raise LackingError(f"--peer-python {python}: there is no Python with RecBole", hint) from None
        found["recbole"] = said.stdout.strip()
    return found


def lack(entrant: Entrant, versions: Mapping[str, str]) -> str:
    """Why an entrant cannot run; '' if it can."""
    need = entrant.needs
    if need == "recbole" and need not in versions:
        return f"RecBole is not installed: {ELSEWHERE}"
    if not need or need in versions or (not entrant.elsewhere and find_spec(need)):
        return ""
    extra = {"faiss": "cpu", OFFLINE: "offline-text"}.get(need, "peers")
    return f"{PEERS.get(need, need)} is not installed: pip install 'bbqrec[{extra}]'"
