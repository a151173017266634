"""What a page has beside the tables of systems: semantic IDs, costs, data, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bbqrec_cli.benchmark.result import BenchmarkResult
from bbqrec_cli.benchmark.scores import named, spread
from bbqrec_cli.pages.tables import NOT_KNOWN, Shown, Table, make, of_all, plain, seconds, short
from bbqrec_cli.records import LAST


def of_method(row: Mapping[str, Any]) -> Shown:
    """A tokenizer's name, its method and its data set."""
    return named(row["tokenizer"], ", ".join(filter(None, (row["method"], row["data"]))))


def tokenizers_table(result: BenchmarkResult, *, brief: bool = False) -> Table:
    """Levels, signals, codes and collisions; brief: without the last three columns, so that it fits a terminal."""
    columns: tuple[str, ...] = (
        "tokenizer", "seed", "levels", "signals", "codes", "distinct IDs", "colliding items", "before", "by depth",
        "seconds",
    )  # fmt: skip
    rows = [
        (
            of_method(row), row["seed"], row["levels"], ", ".join(row["signals"]),
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
            of_method(row), row["seed"], row["epochs"], *(short(row[name]) for name in figures),
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
    of: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in result.tokenizers:
        of.setdefault((row["tokenizer"], row["data"]), []).append(row)
    rows = [
        (of_method(seeds[0]), len(seeds), *(spread([each[key] for each in seeds], form) for key, form in figures))
        for seeds in of.values()
        if len(seeds) > 1
    ]
    return make("Semantic IDs over seeds", columns, rows, note="Codes in use: the mean over signals and levels.")


def undone_table(result: BenchmarkResult) -> Table:
    """The cells that failed, and those that the time budget left over."""
    rows = [(cell["name"], cell["status"], cell["error"] or "the time was over") for cell in result.cells
            if cell["status"] != "done"]  # fmt: skip
    return make("Not done", ("cell", "what", "why"), rows, left=3)


def data_table(result: BenchmarkResult) -> Table:
    """Counts and checksums, a column per data set."""
    sets = {name: about for name, about in result.data.items() if about}
    if not sets:
        return make("Data", ("what", "value"), [], left=2)
    tell: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "source": lambda data: data["source"], "users": lambda data: data["users"], "items": lambda data: data["items"],
        "interactions": lambda data: data["interactions"],
        "items per user, on average": lambda data: f"{data['average_length']:.2f}",
    }  # fmt: skip
    if any(data.get("splitting") for data in sets.values()):
        tell["split"] = lambda data: data["splitting"] or str(LAST)
    files = dict.fromkeys(name for data in sets.values() for name in data["checksums"])
    rows = [(what, *(say(data) for data in sets.values())) for what, say in tell.items()]
    rows += [(f"SHA-256 of {name}", *(data["checksums"].get(name) for data in sets.values())) for name in files]
    rows.append(("SHA-256 of ids and sequences", *(data["content"] for data in sets.values())))
    return make("Data", ("what", *(name or "value" for name in sets)), rows, left=1 + len(sets))
