"""The options of `bbqrec benchmark speed`, and what it comes to."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bbqrec_cli.benchmark.speed.contest import Measured
from bbqrec_cli.benchmark.speed.contests import SIZES, Contest
from bbqrec_cli.benchmark.speed.ratios import Spread, per_unit, ratio
from bbqrec_cli.config import StageConfig, option
from bbqrec_cli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SpeedConfig(StageConfig):
    """Options of `bbqrec benchmark speed`."""

    only_if: ClassVar[Mapping[str, str]] = {"suite": "speed"}
    alone: ClassVar[str] = "benchmark speed is no suite"
    without: ClassVar[frozenset[str]] = frozenset({"device"})

    suite: str = option(help="speed: measure the speed of every part.", positional=True, complete="suites")
    size: str = option("small", "speed: how much is measured; full takes about ten minutes.", choices=tuple(SIZES))
    only: tuple[str, ...] = option((), "speed: the names of what is measured, such as train,decode. [default: all]")
    tokens: Path | None = option(
        None, "speed: the tokens file to train and decode on. [default: a synthetic catalogue]", role="input",
        complete=".h5",
    )  # fmt: skip
    model: Path | None = option(
        None, "speed: the trained generator to decode, with its data. [default: some are trained for a few epochs]",
        role="input", complete=".h5",
    )  # fmt: skip
    peer_python: Path | None = option(
        None, "speed: Python of an environment with RecBole, which wants other versions of packages.", role="runtime"
    )
    report: Path | None = option(
        None, "Write a page: .html (self-contained, with plots), or the tables as .md, .tex or .csv.", role="output"
    )

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu"):
            raise UsageError(f"--device {self.device}: benchmark speed measures on the CPU", "leave it out")
        if self.tokens and self.model:
            raise UsageError("--tokens and --model: a model file has IDs of its own", "leave one out")


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
        """The keys that docs/performance.md names."""
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
        words += ["--tokens", config.tokens.name] if config.tokens else []
        words += ["--model", config.model.name] if config.model else []
        words += ["--threads", str(config.threads)] if config.threads else []
        words += ["--seed", str(config.seed)] if config.seed else []
        words += ["--peer-python", "PYTHON"] if config.peer_python else []
        return shlex.join(words + (["--report", config.report.name] if config.report else []))


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
