"""benchmark: a suite -> its cells, the tables and the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bbqrec_cli.benchmark.executors import NAMES
from bbqrec_cli.config import StageConfig, option
from bbqrec_cli.errors import UsageError
from bbqrec_cli.origin import command_line
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from bbqrec_cli.benchmark.merging import Merged
    from bbqrec_cli.benchmark.planning import Listing, Plan
    from bbqrec_cli.benchmark.result import BenchmarkResult
    from bbqrec_cli.benchmark.runner import Outcome, Runner
    from bbqrec_cli.benchmark.suite import Suite

MERGE = "merge"
"""In the place of a suite: put work folders together."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(StageConfig):
    """Options of `bbqrec benchmark`."""

    suite: str = option(
        "", "A suite file (TOML), or the name of a built-in suite such as demo; merge: see FOLDERS.", role="input",
        positional=True, hub=True, complete="suites",
    )  # fmt: skip
    folders: tuple[str, ...] = option(
        (), "After merge: work folders of several machines, to be one in -o.", role="runtime", positional=True
    )
    list: bool = option(False, "Show the built-in suites, what they need and how long they took here.", role="runtime")
    dry_run: bool = option(
        False, "Run nothing; show what would run, and how long it may take by earlier runs here.", role="runtime"
    )
    data: tuple[str, ...] = option(
        (), "A data set in the place of the suite's own: NAME=FILE.h5 (dataset, features, tokens) or "
        "NAME=SOURCE:PATH (raw, see prepare). May be repeated.", role="input", repeatable=True, hub=True,
    )  # fmt: skip
    output: Path | None = option(None, "Work folder; by default benchmark-NAME.", role="output", short="-o")
    train_minutes: float = option(
        0.0, "Minutes with whose epoch a system's training ends, where the suite sets none; 0: no limit.", minimum=0
    )
    time_budget: str = option(
        "", "Start no cell after this time, such as 2h, 90m, 120s or 90 (minutes); small tables come first then.",
        role="runtime",
    )  # fmt: skip
    report: Path | None = option(
        None, "Write a page: .html (self-contained, with plots), or the tables as .md, .tex or .csv.", role="output"
    )
    seed: int = option(0, "Added to every seed of the suite.", minimum=0)
    force: bool = option(False, "Overwrite an existing page. Steps that are done are never run again.", role="output")
    jobs: int | None = option(
        None, "Steps at the same time, each in a process of its own. [default: 1; with --executor processes one per "
        "GPU, on Ray as many as there is room for]", role="runtime", minimum=1,
    )  # fmt: skip
    executor: str = option(
        "", "Who runs the steps: local (this process), processes or ray (see --ray-address). [default: local, with "
        "--jobs processes]", role="runtime", choices=NAMES,
    )  # fmt: skip
    ray_address: str = option(
        "", "A Ray cluster, as HOST:PORT or auto. [default: one on this machine, for the run]", role="runtime"
    )


def run(config: BenchmarkConfig, progress: Progress = SILENT) -> BenchmarkResult | Plan | Listing | Merged:
    """What the options ask for: a suite's run, what it would do, the built-in suites, or work folders as one.

    Raises: the errors of `run_suite`, `merge` and `load_suite`.
    """
    from bbqrec_cli.benchmark.merging import merge
    from bbqrec_cli.benchmark.planning import listing, plan

    if config.report and (config.list or config.dry_run or config.suite == MERGE):
        raise UsageError("--report is for a suite's run", "bbqrec benchmark SUITE -o FOLDER --report PAGE")
    if config.list:
        return listing()
    if config.suite == MERGE:
        return merge([Path(each) for each in config.folders], config.output, progress)
    if config.folders:
        raise UsageError(f"{config.folders[0]!r} after the suite: one suite is run", "bbqrec benchmark merge A B -o C")
    if not config.suite:
        raise UsageError("a suite is needed", "bbqrec benchmark --list")
    if not config.dry_run:
        return run_suite(config, progress)
    from bbqrec_cli.benchmark.graph import Machine, make_graph
    from bbqrec_cli.benchmark.suite import load_suite

    suite = load_suite(config.suite, data=config.data, train_minutes=config.train_minutes)
    folder = config.output or Path(f"benchmark-{suite.name}")
    machine = Machine(folder=folder, device=config.device, threads=config.threads)
    return plan(suite, make_graph(suite, machine, seed=config.seed), folder)


def run_suite(config: BenchmarkConfig, progress: Progress = SILENT) -> BenchmarkResult:
    """Run what is not done yet, then put all cells together.

    Raises:
        UsageError, MissingFileError: the suite does not fit; the errors of reading and writing files.
        DataError: another run is at work in the folder.
        LackingError: the device or the executor is not there.
        InterruptedRunError: interrupted; the same command goes on.
    """
    from bbqrec_cli.benchmark.executors import make_executor
    from bbqrec_cli.benchmark.graph import Machine, make_graph
    from bbqrec_cli.benchmark.known import remember
    from bbqrec_cli.benchmark.planning import Estimates, earlier, minutes_of, small_tables_first
    from bbqrec_cli.benchmark.runner import Runner
    from bbqrec_cli.benchmark.suite import load_suite
    from bbqrec_cli.locks import locked
    from bbqrec_cli.outputs import make_folder
    from bbqrec_cli.pages.page import check_page
    from bbqrec_cli.tuning.study import import_optuna

    minutes = minutes_of(config.time_budget)
    suite = load_suite(config.suite, data=config.data, train_minutes=config.train_minutes)
    if config.report:
        check_page(config.report, force=config.force)
    if any(each.tuning for each in suite.systems):
        import_optuna()
    folder = config.output or Path(f"benchmark-{suite.name}")
    make_folder(folder)
    remember(folder)
    with locked(folder), make_executor(
        config.executor, progress, jobs=config.jobs or 0, device=config.device, threads=config.threads,
        address=config.ray_address,
    ) as executor:  # fmt: skip
        machine = Machine(folder=folder, device=config.device, threads=executor.threads, gpus=executor.gpus > 0)
        graph = make_graph(suite, machine, seed=config.seed)
        runner = Runner(
            graph=small_tables_first(graph, suite) if minutes else graph, executor=executor, minutes=minutes,
            progress=progress, estimates=Estimates.of(earlier(folder)), jobs=config.jobs or 1,
        )  # fmt: skip
        return summarise(config, suite, folder, runner, runner.run())


def summarise(
    config: BenchmarkConfig, suite: Suite, folder: Path, runner: Runner, outcomes: Sequence[Outcome]
) -> BenchmarkResult:
    """The result of all cells; written to benchmark.h5 and the page."""
    from bbqrec_cli.benchmark import results
    from bbqrec_cli.benchmark.curves import of_cells
    from bbqrec_cli.benchmark.examples import side_by_side
    from bbqrec_cli.benchmark.known import SUMMARY
    from bbqrec_cli.benchmark.planning import LIMITED
    from bbqrec_cli.benchmark.report import write_report
    from bbqrec_cli.benchmark.result import BenchmarkResult
    from bbqrec_cli.benchmark.slicing import slices_of
    from bbqrec_cli.benchmark.tunings import tunings
    from bbqrec_cli.hdf5 import write_benchmark

    cells, records = runner.graph.cells, runner.records()
    outcomes = results.whole(outcomes, records)
    loaded = results.load_metrics(suite, outcomes)
    about_data = {data.name: results.about_data(cells, data, suite.split) for data in suite.data}
    published, notes = results.fitting(suite, about_data)
    if config.train_minutes:
        notes.append(f"{LIMITED}{config.train_minutes:g}.")
    result = BenchmarkResult(
        suite=suite.name, output=folder, report=config.report, split=suite.split,
        seeds=tuple(config.seed + seed for seed in suite.seeds), metrics=suite.metrics,
        data=about_data, notes=tuple(notes),
        systems={name: results.scores(metrics, suite.metrics) for name, metrics in loaded.items()},
        cells=[results.about_cell(outcome, records) for outcome in outcomes],
        tokenizers=results.about_tokenizers(cells, records, suite), published=published,
        provenance=results.provenance(runner.graph, records), command=command_line("benchmark", config),
        text=suite.text, layouts=results.tables(suite, loaded), asked=bool(suite.layouts),
        curves=of_cells(cells, records, "train"), fits=of_cells(cells, records, "tokenize"),
        tunings={data.name: found for data in suite.data if (found := tunings(cells, data.name))},
    )  # fmt: skip
    state = {"data": results.ranks(loaded), "steps": records, "results": result.to_json()}
    about = {"name": suite.name, "suite": suite.text, "seed": config.seed}
    write_benchmark(folder / SUMMARY, state, config=about)
    if config.report:
        slices, examples = slices_of(suite, cells, loaded), side_by_side(suite, cells, loaded)
        whole = dataclasses.replace(result, slices=tuple(slices), examples=tuple(examples))
        write_report(config.report, whole, force=config.force)
    return result
