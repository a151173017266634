"""What systems and tokenizers take: time and memory, over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bbqrec_cli.benchmark.result import BenchmarkResult
from bbqrec_cli.benchmark.scores import named, value_at
from bbqrec_cli.pages.page import Section
from bbqrec_cli.pages.tables import NOT_KNOWN, Table, make, seconds, short

TITLE = "Time and memory"
PLOTTED = {
    "train, s": "seconds/train", "ms per user": "milliseconds_per_user", "train, peak MB": "memory/train",
    "train, GPU peak MB": "gpu_memory/train",
}  # fmt: skip
"""A panel's title -> where a cell has its values."""


def costs_section(result: BenchmarkResult, *, plots: bool) -> Section:
    """The table, and bars for each data set."""
    from bbqrec_cli.benchmark.plots import cost_bars

    made = ""
    for data in result.data if plots else ():
        means = {kind: over_seeds(result, data, key) for kind, key in PLOTTED.items()}
        if filled := {kind: values for kind, values in means.items() if values}:
            made += cost_bars(filled, data)
    caption = "The longest training first. Means over seeds, of memory the most." if made else ""
    return Section(table=costs_table(result), plot=made, caption=caption)


def over_seeds(result: BenchmarkResult, data: str, key: str) -> dict[str, float]:
    """System -> the mean over its seeds of what its cells have under a key, of memory the most; where it is not 0."""
    found = {}
    for (name, of), cells in rows_of(result).items():
        values = [value for cell in cells if (value := value_at(cell, key))]
        if of == data and cells[0]["system"] and values:
            found[name] = max(values) if "memory" in key else statistics.mean(values)
    return found


def rows_of(result: BenchmarkResult) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(system, or tokenizer without one; data set) -> its cells that are done, one a seed."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in result.of("done"):
        found.setdefault((cell["system"] or cell["tokenizer"], cell["data"]), []).append(cell)
    return found


def costs_table(result: BenchmarkResult, *, brief: bool = False) -> Table:
    """A row a system: seconds of each stage, epochs, memory, milliseconds per user. brief: means without ±."""
    columns = ("system", "tokenize, s", "train, s", "best epoch", "train, peak MB", "evaluate, s", "ms per user")
    rows = [
        (
            named(name, data), *(stage_seconds(cells, stage, brief) for stage in ("tokenize", "train")), epochs(cells),
            memory(cells), stage_seconds(cells, "evaluate", brief), per_user(cells, brief),
        )
        for (name, data), cells in rows_of(result).items()
    ]  # fmt: skip
    return make(TITLE, columns, rows, note=" ".join(filter(None, notes(result))))


def notes(result: BenchmarkResult) -> list[str]:
    """What the figures are of."""
    first = {(cell["data"], stage): cell for cell in reversed(result.cells) for stage in cell["seconds"]}
    shared = [f"{' '.join(filter(None, (stage, data)))} {stage_seconds([first[data, stage]], stage, True)} s"
              for data in dict.fromkeys(cell["data"] for cell in result.cells) for stage in ("prepare", "embed")
              if (data, stage) in first]  # fmt: skip
    several = len({(run["processor"], run["threads"], run["device"]) for run in result.provenance["runs"]}) > 1
    over = "Means over seeds. " if len(result.seeds) > 1 else ""
    return [
        f"{over}A tokenizer that several systems share was fitted once per seed. ms per user, or "
        "per target of users who have several: ranking alone; of both protocols, with seen items kept, as is evaluate. "
        "Peak MB: of the process, with what steps before left there; with --jobs each step has a process of its own.",
        f"For all systems together: {', '.join(shared)}." if shared else "",
        "≥: a run that was killed spent more, and could not write down how much."
        if any(cell["at_least"] for cell in result.cells) else "",
        "Steps ran on several machines or with several numbers of threads: their times do not compare."
        if several else "",
    ]  # fmt: skip


def stage_seconds(cells: Sequence[Mapping[str, Any]], stage: str, brief: bool) -> str:
    """A stage's seconds over the seeds, '' where the cells have no such stage."""
    values = [cell["seconds"][stage] for cell in cells if stage in cell["seconds"]]
    if not values:
        return ""
    if None in values:
        return NOT_KNOWN
    least = any(stage in cell["at_least"] for cell in cells)
    more = "" if brief or len(values) < 2 else f" ± {seconds(statistics.stdev(values))}"
    return seconds(statistics.mean(values), least) + more


def epochs(cells: Sequence[Mapping[str, Any]]) -> str:
    """'3 of 10' or, where seeds differ, '3–5 of 8–10'; '' where nothing is trained by epochs."""
    best, all_of = ([cell[key] for cell in cells if cell["epochs"]] for key in ("best_epoch", "epochs"))
    return f"{between(best)} of {between(all_of)}" if best else ""


def between(values: Sequence[int]) -> str:
    """'3' or '3–5'."""
    return "–".join(map(str, dict.fromkeys((min(values), max(values)))))


def memory(cells: Sequence[Mapping[str, Any]]) -> str:
    """The most memory that a training of them had, and of the GPU, in MB."""
    every = [[value for cell in cells if (value := cell[of].get("train")) is not None]
             for of in ("memory", "gpu_memory")]  # fmt: skip
    known = [f"{max(values):,.0f}" for values in every if values]
    return " + GPU ".join(known) if known else "" if not cells[0]["system"] else NOT_KNOWN


def per_user(cells: Sequence[Mapping[str, Any]], brief: bool) -> str:
    """Milliseconds with three digits, '' for a tokenizer alone."""
    if not cells[0]["system"]:
        return ""
    values = [cell["milliseconds_per_user"] for cell in cells]
    if None in values:
        return NOT_KNOWN
    mean = short(statistics.mean(values))
    digits = len(mean.partition(".")[2])
    return mean if brief or len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"
