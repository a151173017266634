"""benchmark: a suite -> its cells, the table and the page."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bbqrec_cli.config import StageConfig, option
from bbqrec_cli.errors import DataError
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from bbqrec_cli.benchmark.results import Score
    from bbqrec_cli.benchmark.runner import Stages


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(StageConfig):
    """Options of `bbqrec benchmark`."""

    suite: str = option(help="A suite file (TOML), or the built-in suite demo.", positional=True)
    output: Path | None = option(None, "Work folder; by default benchmark-NAME.", short="-o")
    time_budget: float = option(0.0, "Start no cell after so many minutes; 0: no limit.", minimum=0)
    report: Path | None = option(None, "Write a self-contained HTML page.")
    seed: int = option(0, "Added to every seed of the suite.", minimum=0)
    force: bool = option(False, "Overwrite an existing page. Cells that are done are never run again.", stored=False)


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """What `bbqrec benchmark --json` prints."""

    suite: str
    output: Path
    report: Path | None
    split: str
    metrics: tuple[str, ...]
    data: dict[str, Any]
    systems: dict[str, dict[str, Score]]
    cells: list[dict[str, Any]]
    tokenizers: list[dict[str, Any]]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        report = str(self.report) if self.report else None
        own = {"output": str(self.output), "report": report, "metrics": list(self.metrics)}
        return dataclasses.asdict(self) | own | {"failed": len(self.of("failed")), "left": len(self.of("left"))}

    def of(self, status: str) -> list[dict[str, Any]]:
        """The cells of a status: done, failed or left."""
        return [cell for cell in self.cells if cell["status"] == status]

    def check(self) -> None:
        """Raises: DataError: a cell failed."""
        if failed := self.of("failed"):
            first = failed[0]
            raise DataError(
                f"{len(failed)} of {len(self.cells)} cells failed, the first is {first['system']}, seed {first['seed']}: "
                f"{first['error']}",
                "mend it and give the same command again: what is done stays done",
            )


def run(config: BenchmarkConfig, progress: Progress = SILENT, stages: Stages | None = None) -> BenchmarkResult:
    """Run what is not done yet, then put all cells together. `stages` replaces the real ones in tests.

    Raises:
        UsageError, MissingFileError: the suite does not fit; the errors of reading and writing files.
        InterruptedRunError: interrupted; the same command goes on.
    """
    from bbqrec_cli.benchmark.plan import Machine, make_plan
    from bbqrec_cli.benchmark.runner import Runner, real_stages
    from bbqrec_cli.benchmark.suite import load_suite
    from bbqrec_cli.hdf5 import check_output

    suite = load_suite(config.suite)
    if config.report:
        check_output(config.report, force=config.force)
    folder = config.output or Path(f"benchmark-{suite.name}")
    make_folder(folder)
    machine = Machine(folder=folder, device=config.device, threads=config.threads)
    cells = make_plan(suite, machine, seed=config.seed)
    runner = Runner(
        folder=folder, suite={"name": suite.name, "suite": suite.text, "seed": config.seed},
        stages=stages or real_stages(), minutes=config.time_budget, progress=progress,
    )  # fmt: skip
    outcomes = runner.run(cells)
    return summarise(config, suite, runner, outcomes)


def summarise(config: BenchmarkConfig, suite: Any, runner: Any, outcomes: list[Any]) -> BenchmarkResult:
    """The result of all cells; written to benchmark.h5 and the page."""
    from bbqrec_cli.benchmark import results
    from bbqrec_cli.benchmark.report import write_report

    cells = [outcome.cell for outcome in outcomes]
    metrics = results.load_metrics(outcomes)
    names = tuple(f"{name}@{k}" for name in ("recall", "ndcg") for k in suite.evaluate.k)
    about = results.provenance(config.device) | {"finished": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    keys = {step.key for cell in cells for step in cell.steps}
    about["seconds"] = sum(runner.records[key]["seconds"] for key in keys if key in runner.records)
    result = BenchmarkResult(
        suite=suite.name, output=runner.folder, report=config.report, split=suite.evaluate.split, metrics=names,
        data=results.about_data(cells[0], suite), systems=results.scores(metrics, names),
        cells=[results.about_cell(outcome, runner.records) for outcome in outcomes],
        tokenizers=results.about_tokenizers(cells, runner.records), provenance=about,
    )  # fmt: skip
    ranks = {f"{system}, seed {seed}": m.ranks for system, seeds in metrics.items() for seed, m in seeds.items()}
    runner.save(result.to_json(), ranks)
    if config.report:
        write_report(config.report, result, suite=suite.text, histories=results.histories(cells), force=config.force)
    return result


def make_folder(folder: Path) -> None:
    """Raises: DataError: it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made the work folder: {error.strerror}", "give -o elsewhere") from None
