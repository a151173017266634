"""benchmark: a suite -> its cells, the table and the page."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import StageConfig, option
from bbqrec_cli.errors import DataError
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from bbqrec_cli.benchmark.results import Score
    from bbqrec_cli.benchmark.runner import Outcome, Runner, Stages
    from bbqrec_cli.benchmark.suite import Suite


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(StageConfig):
    """Options of `bbqrec benchmark`."""

    suite: str = option(help="A suite file (TOML), or the built-in suite demo.", positional=True)
    output: Path | None = option(None, "Work folder; by default benchmark-NAME.", short="-o")
    time_budget: float = option(0.0, "Start no cell after so many minutes; 0: no limit.", minimum=0)
    report: Path | None = option(None, "Write a page: .html (self-contained, with plots) or .md (tables only).")
    seed: int = option(0, "Added to every seed of the suite.", minimum=0)
    force: bool = option(False, "Overwrite an existing page. Steps that are done are never run again.", role="output")


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """What `bbqrec benchmark --json` prints.

    systems: system -> metric -> its Score; cells, tokenizers, data, provenance: see `benchmark.results`; histories:
    (system, seed) -> epochs and their validation NDCG@10, for the page only, as is text, the suite's own.
    """

    suite: str
    output: Path
    report: Path | None
    split: str
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    data: dict[str, Any]
    systems: dict[str, dict[str, Score]]
    cells: list[dict[str, Any]]
    tokenizers: list[dict[str, Any]]
    provenance: dict[str, Any]
    command: str
    text: str
    histories: dict[tuple[str, int], list[tuple[int, float]]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        report = str(self.report) if self.report else None
        own = {"output": str(self.output), "report": report, "metrics": list(self.metrics), "seeds": list(self.seeds)}
        values = dataclasses.asdict(self) | own | {"failed": len(self.of("failed")), "left": len(self.of("left"))}
        return {name: value for name, value in values.items() if name not in ("text", "histories")}

    def of(self, status: str) -> list[dict[str, Any]]:
        """The cells of a status: done, failed or left."""
        return [cell for cell in self.cells if cell["status"] == status]

    def check(self) -> None:
        """Raises: DataError: a cell failed."""
        if failed := self.of("failed"):
            what = f"{len(failed)} of {len(self.cells)} cells failed"
            raise DataError(
                f"{what}, the first is {failed[0]['name']}: {failed[0]['error']}",
                "mend it and give the same command again: what is done stays done",
            )


def run(config: BenchmarkConfig, progress: Progress = SILENT, stages: Stages | None = None) -> BenchmarkResult:
    """Run what is not done yet, then put all cells together. `stages` replaces the real ones in tests.

    Raises:
        UsageError, MissingFileError: the suite does not fit; the errors of reading and writing files.
        DataError: another run is at work in the folder.
        InterruptedRunError: interrupted; the same command goes on.
    """
    from bbqrec_cli.benchmark.lock import locked
    from bbqrec_cli.benchmark.plan import Machine, make_plan
    from bbqrec_cli.benchmark.runner import Runner, real_stages
    from bbqrec_cli.benchmark.suite import load_suite
    from bbqrec_cli.origin import origin
    from bbqrec_cli.pages.page import check_page

    suite = load_suite(config.suite)
    if config.report:
        check_page(config.report, force=config.force)
    folder = config.output or Path(f"benchmark-{suite.name}")
    make_folder(folder)
    with locked(folder):
        machine = Machine(folder=folder, device=config.device, threads=config.threads)
        cells = make_plan(suite, machine, seed=config.seed)
        runner = Runner(
            folder=folder, suite={"name": suite.name, "suite": suite.text, "seed": config.seed},
            stages=stages or real_stages(), minutes=config.time_budget, progress=progress,
            origin=origin(config.device, config.threads),
        )  # fmt: skip
        return summarise(config, suite, runner, runner.run(cells))


def summarise(config: BenchmarkConfig, suite: Suite, runner: Runner, outcomes: list[Outcome]) -> BenchmarkResult:
    """The result of all cells; written to benchmark.h5 and the page."""
    from bbqrec_cli.benchmark import results
    from bbqrec_cli.benchmark.report import write_report

    cells = [outcome.cell for outcome in outcomes]
    loaded = results.load_metrics(outcomes)
    metrics = {system.name: loaded[system.name] for system in suite.systems if system.name in loaded}
    names = tuple(f"{name}@{k}" for name in ("recall", "ndcg") for k in suite.evaluate.k)
    result = BenchmarkResult(
        suite=suite.name, output=runner.folder, report=config.report, split=suite.evaluate.split,
        seeds=tuple(config.seed + seed for seed in suite.seeds), metrics=names, data=results.about_data(cells, suite),
        systems=results.scores(metrics, names),
        cells=[results.about_cell(outcome, runner.records) for outcome in outcomes],
        tokenizers=results.about_tokenizers(cells, runner.records, suite),
        provenance=results.provenance(cells, runner.records), command=command_of(config), text=suite.text,
        histories=results.histories(cells),
    )  # fmt: skip
    every = [(f"{system}, seed {seed}", each) for system, seeds in metrics.items() for seed, each in seeds.items()]
    users = every[0][1].user_ids if every else []
    runner.save(result.to_json(), {name: each.ranks for name, each in every}, users)
    if config.report:
        write_report(config.report, result, force=config.force)
    return result


def command_of(config: BenchmarkConfig) -> str:
    """The command that makes the page again, less what does not change it."""
    words = ["bbqrec", "benchmark", config.suite]
    words += ["--seed", str(config.seed)] if config.seed else []
    words += ["--report", str(config.report)] if config.report else []
    return shlex.join(words)


def make_folder(folder: Path) -> None:
    """Raises: DataError: it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made the work folder: {error.strerror}", "give -o elsewhere") from None
