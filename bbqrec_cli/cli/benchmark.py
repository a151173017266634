from __future__ import annotations

from collections.abc import Sequence

import typer

from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.benchmark.speed import run as speed
from bbqrec_cli.cli.console import Console, rich_table
from bbqrec_cli.cli.options import COMMANDS, command


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "benchmark", speed.SpeedConfig, BenchmarkConfig, arguments=arguments)
    def benchmark(config: BenchmarkConfig | speed.SpeedConfig, console: Console) -> None:
        if isinstance(config, speed.SpeedConfig):
            measure_speed(config, console)
            return
        from bbqrec_cli.benchmark import scores, tables
        from bbqrec_cli.benchmark.claims import claims_table, summed_up
        from bbqrec_cli.benchmark.costs import costs_table
        from bbqrec_cli.benchmark.result import BenchmarkResult

        result = run(config, console)
        if not isinstance(result, BenchmarkResult):
            shown = [rich_table(table) for table in result.tables() if table.rows]
            console.result(result.to_json(), *shown, result.said())
            return
        usual = [] if result.asked else [tables.tokenizers_table(result, brief=True), costs_table(result, brief=True)]
        made = [*scores.tables_of(result, brief=True), claims_table(result), *usual, tables.undone_table(result)]
        shown = [rich_table(table) for table in made if table.rows]
        where = f"{result.output}: {len(result.of('done'))} of {len(result.cells)} cells are done"
        where += f"; page: {result.report}" if result.report else ""
        console.result(result.to_json(), *shown, *filter(None, (scores.headline(result), summed_up(result))), where)
        result.check()


def measure_speed(config: speed.SpeedConfig, console: Console) -> None:
    from bbqrec_cli.benchmark.speed.report import tables

    result = speed.run(config, console, commands=tuple(COMMANDS))
    page = f"page: {config.report}" if config.report else ""
    console.result(result.to_json(), *map(rich_table, tables(result)), *filter(None, [page]))
