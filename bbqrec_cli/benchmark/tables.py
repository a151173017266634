"""A benchmark's result as tables."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bbqrec_cli.pages.tables import NOT_KNOWN, Shown, Table, counted, make, of_all, plain, short

if TYPE_CHECKING:
    from bbqrec_cli.benchmark.results import Score
    from bbqrec_cli.benchmark.run import BenchmarkResult


def scores_table(result: BenchmarkResult, *, brief: bool = False) -> Table:
    """Systems × metrics: mean ± sd over seeds, the interval over users, the tests against the best other system.

    brief: without the intervals and the others' names, so that four metrics fit a terminal.
    """
    best = {name: max(each[name].mean for each in result.systems.values()) for name in result.metrics if result.systems}
    about = {cell["system"]: cell for cell in result.cells if cell["system"]}
    rows = []
    for system, scores in result.systems.items():
        shown = [Shown(score_lines(scores[name], brief), scores[name].mean == best[name]) for name in result.metrics]
        count, made = len(scores[result.metrics[0]].values), made_of(about[system])
        few = f"{count} of {len(result.seeds)} seeds" if count < len(result.seeds) else ""
        rows.append([named(system, few if brief else ", ".join(filter(None, (made, few)))), *shown])
    note = "± standard deviation over seeds; " if len(result.seeds) > 1 else ""
    note += "" if brief else "[95% bootstrap interval over users]; "
    note += "p of the paired t-test / of Wilcoxon's signed-rank test over users, against the best other system. "
    note += "The best of a column is bold."
    return make(f"{result.split.capitalize()} results", ("system", *map(metric_name, result.metrics)), rows, note=note)


def named(name: str, more: str) -> Shown:
    """A name, and more about it where that says more."""
    return Shown((name, more) if more not in ("", name) else (name,))


def made_of(cell: Mapping[str, Any]) -> str:
    """The model and the tokenizer of a cell."""
    return cell["model"] + (f" on {cell['tokenizer']}" if cell["tokenizer"] else "")


def metric_name(name: str) -> str:
    """'ndcg@10' -> 'NDCG@10'."""
    return name.replace("recall", "Recall").replace("ndcg", "NDCG")


def score_lines(score: Score, brief: bool) -> tuple[str, ...]:
    """Mean ± sd; the interval; the tests, where there is another system."""
    lines = [mean_sd(score)] + ([] if brief else [f"[{score.low:.4f}, {score.high:.4f}]"])
    if score.against and score.p_t is not None and score.p_wilcoxon is not None:
        tests = f"p {p_text(score.p_t)} / {p_text(score.p_wilcoxon)}"
        lines.append(tests if brief else f"{tests} vs {score.against}")
    return tuple(lines)


def mean_sd(score: Score) -> str:
    """'0.0543 ± 0.0012', or the mean alone for one seed."""
    return f"{score.mean:.4f}" + (f" ± {score.sd:.4f}" if score.sd is not None else "")


def p_text(p: float) -> str:
    """Three decimals without the 0 before them; '<.001' below."""
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def headline(result: BenchmarkResult) -> str:
    """The main outcome in a sentence, '' without a system."""
    if not result.systems:
        return ""
    name = result.metrics[-1]
    system = max(result.systems, key=lambda each: result.systems[each][name].mean)
    score = result.systems[system][name]
    said = f"Highest {result.split} {metric_name(name)}: {system}, {mean_sd(score)}"
    if not score.against:
        return f"{said}."
    other = result.systems[score.against][name]
    said += f"; next {score.against}, {mean_sd(other)}"
    return said + (f" (paired t-test: p {p_text(score.p_t)})." if score.p_t is not None else ".")


def tokenizers_table(result: BenchmarkResult, *, brief: bool = False) -> Table:
    """Levels, signals, codes and collisions; brief: without the last three columns, so that it fits a terminal."""
    columns: tuple[str, ...] = (
        "tokenizer", "seed", "levels", "signals", "codes", "distinct IDs", "colliding items", "before", "by depth",
        "seconds",
    )  # fmt: skip
    rows = [
        (
            named(row["tokenizer"], row["method"]), row["seed"], row["levels"], ", ".join(row["signals"]),
            row["codebook_size"], row["distinct"], of_all(row["colliding_items"], row["items"]),
            plain(row["colliding_before"]), " · ".join(map(plain, row["colliding_prefixes"])),
            seconds(row["seconds"], row["at_least"]),
        )
        for row in result.tokenizers
    ]  # fmt: skip
    note = "Items collide that have the same whole semantic ID."
    if brief:
        return make("Semantic IDs", columns[:-3], [row[:-3] for row in rows], note=note)
    if any(row["reported"] is not None for row in result.tokenizers):
        place = columns.index("before")
        columns = (*columns[:place], "in its paper", *columns[place:])
        rows = [
            (*row[:place], about["reported"], *row[place:]) for row, about in zip(rows, result.tokenizers, strict=True)
        ]
        note += " In its paper: the items in collisions that were reported for it."
    note += " Before: as they were quantised, before --on-collision told some apart."
    note += " By depth: the items that would collide if IDs ended after the first level, the second, and so on."
    return make("Semantic IDs", columns, rows, note=note)


def fitting_table(result: BenchmarkResult) -> Table:
    """What the tokenizers' last epoch reported; no row for those that were not trained."""
    columns = (
        "tokenizer", "seed", "epochs", "reconstruction", "information", "its lowest", "Recall@10 unquantised",
        "Recall@10 quantised", "lowest perplexity",
    )  # fmt: skip
    figures = ("reconstruction", "information", "lowest_information")
    recalls = ("recall_unquantised", "recall_quantised")
    rows = [
        (
            named(row["tokenizer"], row["method"]), row["seed"], row["epochs"], *(short(row[name]) for name in figures),
            *(NOT_KNOWN if row[name] is None else f"{row[name]:.4f}" for name in recalls),
            short(row["lowest_perplexity"]),
        )
        for row in result.tokenizers
        if row["epochs"]
    ]  # fmt: skip
    note = "Reconstruction: squared error summed over standardised features. Information: CLUB's estimate in nats. "
    note += "Recall: of the tokenizer's own sequence encoder, on validation, at the end of the warm-up and at the end. "
    note += "Perplexity: of the worst codebook; a codebook of N codes used evenly has N."
    return make("How the tokenizers were fitted", columns, rows, note=note)


def seeds_table(result: BenchmarkResult) -> Table:
    """A row a tokenizer: the figures of its seeds as mean ± standard deviation; no row for fewer than two seeds."""
    columns = (
        "tokenizer", "seeds", "colliding items", "before", "codes in use", "Recall@10 unquantised",
        "Recall@10 quantised", "lowest perplexity",
    )  # fmt: skip
    figures = (
        ("colliding_items", ".1f"), ("colliding_before", ".1f"), ("usage", ".1f"), ("recall_unquantised", ".4f"),
        ("recall_quantised", ".4f"), ("lowest_perplexity", ".1f"),
    )  # fmt: skip
    of: dict[str, list[dict[str, Any]]] = {}
    for row in result.tokenizers:
        of.setdefault(row["tokenizer"], []).append(row)
    rows = [
        (
            named(name, seeds[0]["method"]),
            len(seeds),
            *(spread([each[key] for each in seeds], form) for key, form in figures),
        )
        for name, seeds in of.items()
        if len(seeds) > 1
    ]
    return make("Semantic IDs over seeds", columns, rows, note="Codes in use: the mean over signals and levels.")


def spread(values: Sequence[float | None], form: str) -> str:
    """Mean ± standard deviation of what is known of all, else NOT_KNOWN."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return NOT_KNOWN
    return f"{statistics.mean(known):{form}} ± {statistics.stdev(known):{form}}"


def costs_table(result: BenchmarkResult) -> Table:
    """Seconds a stage, epochs and milliseconds a user, cell by cell; what cells share was run once."""
    columns = ("cell", "tokenize, s", "train, s", "best epoch", "evaluate, s", "ms a user")
    rows = [
        (
            cell["name"], *(stage_seconds(cell, stage) for stage in ("tokenize", "train")),
            f"{cell['best_epoch']} of {cell['epochs']}" if cell["epochs"] else "", stage_seconds(cell, "evaluate"),
            per_user(cell["milliseconds_per_user"]) if cell["system"] else "",
        )
        for cell in result.of("done")
    ]  # fmt: skip
    shared = [f"{stage} {stage_seconds(result.cells[0], stage)} s" for stage in ("prepare", "embed")
              if stage in result.cells[0]["seconds"]]  # fmt: skip
    notes = [f"For all cells together: {', '.join(shared)}." if shared else ""]
    notes.append("A tokenizer that several cells share was fitted once a seed. ms a user: ranking alone.")
    if any(cell["at_least"] for cell in result.cells):
        notes.append("≥: a run that was killed spent more, and could not write down how much.")
    return make("Costs", columns, rows, note=" ".join(filter(None, notes)))


def stage_seconds(cell: Mapping[str, Any], stage: str) -> str:
    """A stage's seconds, '' where the cell has no such stage."""
    return seconds(cell["seconds"][stage], stage in cell["at_least"]) if stage in cell["seconds"] else ""


def seconds(value: float | None, at_least: bool = False) -> str:
    """Seconds, to a tenth where they are few."""
    if value is None:
        return NOT_KNOWN
    return ("≥ " if at_least else "") + (f"{value:.1f}" if value < 100 else f"{value:,.0f}")


def per_user(milliseconds: float | None) -> str:
    """Milliseconds with three digits."""
    return NOT_KNOWN if milliseconds is None else f"{milliseconds:.3g}"


def undone_table(result: BenchmarkResult) -> Table:
    """The cells that failed, and those that the time budget left over."""
    rows = [(cell["name"], cell["status"], cell["error"] or "the time was over") for cell in result.cells
            if cell["status"] != "done"]  # fmt: skip
    return make("Not done", ("cell", "what", "why"), rows, left=3)


def data_table(result: BenchmarkResult) -> Table:
    """Counts and checksums."""
    data = result.data
    if not data:
        return make("Data", ("what", "value"), [], left=2)
    counts = [(name, data[name]) for name in ("users", "items", "interactions")]
    rows = [("source", data["source"]), *counts, ("items a user, on average", f"{data['average_length']:.2f}")]
    rows += [(f"SHA-256 of {name}", digest) for name, digest in data["checksums"].items()]
    rows.append(("SHA-256 of ids and sequences", data["content"]))
    return make("Data", ("what", "value"), rows, left=2)


def provenance_table(result: BenchmarkResult) -> Table:
    """Version, commit, machine and times; where the steps differ in one of them, each with its number of steps."""
    about = result.provenance
    rows: list[Sequence[Any]] = [(name, several(about["runs"], tell)) for name, tell in ORIGIN.items() if about["runs"]]
    rows.append(("steps", sum(run["steps"] for run in about["runs"]) + about["unrecorded_steps"]))
    if about["unrecorded_steps"]:
        rows.append(("steps whose making is not recorded", about["unrecorded_steps"]))
    rows.append(("time spent, all steps", f"{seconds(about['seconds'])} s"))
    if about["first"]:
        rows.append(("computed", about["first"] if about["first"] == about["last"] else
                     f"{about['first']} to {about['last']}"))  # fmt: skip
    rows.append(("page made", about["made"]))
    return make("Where the numbers come from", ("what", "value"), rows, left=2)


ORIGIN: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "bbqrec": lambda run: run["bbqrec"],
    "commit": lambda run: run["commit"] or "not known",
    "processor": lambda run: f"{run['processor']}, {run['cores']} cores",
    "threads used": lambda run: str(run["threads"]),
    "device": lambda run: run["device"],
    "system": lambda run: f"{run['system']}, Python {run['python']}",
    "packages": lambda run: ", ".join(f"{name} {version}" for name, version in run["packages"].items()),
}
"""What the page says of where a step ran."""


def several(runs: Sequence[Mapping[str, Any]], tell: Callable[[Mapping[str, Any]], str]) -> Shown:
    """What is told of the runs: once if it is the same for all, else each with its steps, most steps first."""
    steps: dict[str, int] = {}
    for run in runs:
        steps[tell(run)] = steps.get(tell(run), 0) + run["steps"]
    if len(steps) == 1:
        return Shown(tuple(steps))
    return Shown(
        tuple(f"{said} ({counted(n, 'step')})" for said, n in sorted(steps.items(), key=lambda each: -each[1]))
    )
