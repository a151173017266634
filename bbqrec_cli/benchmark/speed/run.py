"""benchmark speed: contests -> times, ratios and peaks of memory."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from bbqrec_cli.benchmark.speed.contest import Entrant, FailedError, Measured, Process, hold
from bbqrec_cli.benchmark.speed.contests import OFFLINE, PEERS, ROUNDS, SIZES, Contest, contests, models
from bbqrec_cli.benchmark.speed.ratios import Spread, per_unit, ratio
from bbqrec_cli.config import StageConfig, did_you_mean, option
from bbqrec_cli.errors import DataError, LackingError, UsageError
from bbqrec_cli.progress import SILENT, Progress

ELSEWHERE = "pip install recbole in an environment of its own, and --peer-python its Python"


@dataclass(frozen=True, kw_only=True)
class SpeedConfig(StageConfig):
    """Options of `bbqrec benchmark speed`."""

    only_if: ClassVar[Mapping[str, str]] = {"suite": "speed"}
    alone: ClassVar[str] = "benchmark speed is no suite"
    without: ClassVar[frozenset[str]] = frozenset({"device"})

    suite: str = option(help="speed: measure the speed of every part.", positional=True, complete="suites")
    size: str = option("small", "speed: how much is measured; full takes about ten minutes.", choices=tuple(SIZES))
    only: tuple[str, ...] = option((), "speed: the names of what is measured, such as train,decode. [default: all]")
    data: Path | None = option(
        None, "speed: tokens file to train and decode on. [default: a synthetic catalogue]", role="input",
        complete=".h5",
    )  # fmt: skip
    peer_python: Path | None = option(
        None, "speed: Python of an environment with RecBole, which wants other versions of packages.", role="runtime"
    )
    report: Path | None = option(
        None, "Write a page: .html (self-contained, with plots) or .md (tables only).", role="output"
    )

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu"):
            raise UsageError(f"--device {self.device}: benchmark speed measures on the CPU", "leave it out")


@dataclass(frozen=True, kw_only=True)
class SpeedResult:
    """What `bbqrec benchmark speed --json` prints. about: of the data; versions: of the peers; sizes: see `SIZES`."""

    config: SpeedConfig
    held: Sequence[tuple[Contest, Sequence[Measured]]]
    about: Mapping[str, Any]
    sizes: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        return {
            "size": self.config.size, "threads": self.config.threads, "data": dict(self.about),
            "sizes": dict(self.sizes), "versions": dict(self.versions), "machine": dict(self.machine),
            "seconds": self.seconds,
            "measured": [{"name": contest.name, "unit": contest.unit, "entrants": [
                described(each, first_of(made)) for each in made]} for contest, made in self.held],
        }  # fmt: skip

    @property
    def command(self) -> str:
        """The command that makes the page again."""
        config, words = self.config, ["bbqrec", "benchmark", "speed", "--size", self.config.size]
        words += ["--only", ",".join(config.only)] if config.only else []
        words += ["--data", config.data.name] if config.data else []
        words += ["--threads", str(config.threads)] if config.threads else []
        words += ["--seed", str(config.seed)] if config.seed else []
        words += ["--peer-python", "PYTHON"] if config.peer_python else []
        return shlex.join(words + (["--report", config.report.name] if config.report else []))


def run(config: SpeedConfig, progress: Progress = SILENT, *, commands: tuple[str, ...] = ()) -> SpeedResult:
    """Measure what is asked for. Nothing is kept but the page.

    Args:
        commands: those of bbqrec, whose start is measured.

    Raises:
        UsageError: an unknown name; MissingFileError, WrongKindError, …: the data, or a page that is there already.
        LackingError: --peer-python does not run; DataError: the data cannot be trained on.
    """
    from bbqrec_cli.benchmark.speed.report import write_report
    from bbqrec_cli.pages.page import check_page

    began, size = time.perf_counter(), SIZES[config.size]
    asked = chosen(contests(size, commands), config.only)
    if config.report:
        check_page(config.report, force=config.force)
    if config.data:
        from bbqrec_cli.hdf5 import open_file

        with open_file(config.data, "tokens"):
            pass
    versions = peers(config.peer_python)
    with tempfile.TemporaryDirectory(prefix="bbqrec-speed-") as name:
        folder = Path(name)
        job = {**size, "folder": str(folder), "threads": config.threads, "seed": config.seed}
        progress.log("making the data, and training what is decoded")
        about, held = made(config, asked, job), []
        for number, contest in enumerate(asked, start=1):
            progress.log(f"{number}/{len(asked)} {contest.name}: {', '.join(each.name for each in contest.entrants)}")
            lacking = {each.name: why for each in contest.entrants if (why := lack(each, versions))}
            measured = hold(
                contest.entrants, job, folder / contest.name, rounds=ROUNDS[config.size], lacking=lacking,
                peer_python=str(config.peer_python or ""),
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


def made(config: SpeedConfig, asked: Sequence[Contest], job: Mapping[str, Any]) -> dict[str, Any]:
    """Write the data into the folder, and what is decoded; what the data are. In a process of its own, so that this one
    stays small: its memory would count as that of the processes that it starts. Raises: DataError."""
    wanted = {each.job.get("model") for contest in asked for each in contest.entrants if "beam" in each.job}
    trained = [each for each in models(SIZES[config.size]) if each["name"] in wanted]
    data = str(config.data.resolve()) if config.data else ""
    entrant = Entrant(name="data", measure="data:make", job={"data": data, "models": trained, "warm": False})
    folder = Path(job["folder"], "messages")
    folder.mkdir()
    try:
        with Process(entrant, job, folder) as process:
            about: dict[str, Any] = process.ask()["about"]
            return about
    except FailedError as error:
        where = f"{config.data}: " if config.data else ""
        raise DataError(f"{where}nothing can be measured: {error.message}", "bbqrec inspect shows a file") from None


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
            said = subprocess.run(words, check=True, capture_output=True, text=True)
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


def first_of(made: Sequence[Measured]) -> Measured | None:
    """The entrant that ratios are to: the first that was measured, None if it is not the contest's first."""
    return made[0] if made and made[0].rounds else None


def described(each: Measured, first: Measured | None) -> dict[str, Any]:
    """An entrant's numbers: seconds per unit and the ratio to the first one (median, lowest, highest), seconds of an
    epoch, peak of memory in bytes; or why there are none."""
    if not each.rounds:
        return {"name": each.entrant.name, "lacks": each.lacks}
    own = Spread.of(per_unit(each.rounds))
    of_first = ratio(each.rounds, first.rounds) if first else None
    return {
        "name": each.entrant.name, "seconds_per_unit": listed(own), "ratio": listed(of_first) if of_first else None,
        "epoch_seconds": own.median * each.whole if each.whole else None, "peak_bytes": each.peak or None,
        "rounds": len(each.rounds),
    }  # fmt: skip


def listed(spread: Spread) -> list[float]:
    """Median, lowest, highest."""
    return [spread.median, spread.low, spread.high]
