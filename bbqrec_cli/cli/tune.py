from __future__ import annotations

import shlex
from collections.abc import Sequence

import typer

from bbqrec_cli.cli.console import Console, rich_table
from bbqrec_cli.cli.options import command
from bbqrec_cli.plugins import plugin_flags
from bbqrec_cli.tuning.run import TuneConfig, run


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "tune", TuneConfig, arguments=arguments)
    def tune(config: TuneConfig, console: Console) -> None:
        from bbqrec_cli.tuning import report

        if config.show_space:
            found = {system.name: system.to_json() for system in config.systems}
            console.result({"systems": found}, rich_table(report.space_table(config.systems)))
            return
        result = run(config, console)
        where = f"{result.output}: {len(result.trials)} trials" + (f"; page: {result.report}" if result.report else "")
        words = ["bbqrec", "train", *plugin_flags(), str(config.input), "--recipe"]
        several = len(result.recipes) > 1  # which would all be model.h5
        recipes = [
            shlex.join([*words, str(path), *(["-o", f"{path.stem}.h5"] if several else [])])
            for path in result.recipes.values()
        ]
        console.result(result.to_json(), rich_table(report.best_table(result, brief=True)), *recipes, where)
        result.check()
