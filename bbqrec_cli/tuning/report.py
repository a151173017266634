"""The tables and the page of a tuning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bbqrec_cli.pages.page import Page, Section, write_page
from bbqrec_cli.pages.provenance import gathered, provenance_table
from bbqrec_cli.pages.tables import NOT_KNOWN, Shown, Table, counted, make, seconds
from bbqrec_cli.tuning.result import Trial, TuneResult
from bbqrec_cli.tuning.systems import System, shown

METRICS = ("NDCG@10", "Recall@10")


def write_report(path: Path, result: TuneResult, *, force: bool = False) -> None:
    """Write the page whole or not at all. Raises: the errors of `write_page`."""
    write_page(path, page_of(result), force=force)


def page_of(result: TuneResult) -> Page:
    """What the page says."""
    failed = sum(each["status"] == "failed" for each in result.trials)
    spent = sum(each["seconds"] for each in result.trials)
    about = gathered(result.trials) | {"seconds": spent, "unrecorded_steps": 0}
    tables = [
        best_table(result), *(trials_table(result, system) for system in result.systems), space_table(result.systems),
        provenance_table(about, "trial"),
    ]  # fmt: skip
    return Page(
        title=f"Tuning on {result.source}", command=result.command, summary=summary(result),
        sections=[Section(table=table) for table in tables], bad=f"{counted(failed, 'trial')} failed" if failed else "",
        appendix="\n".join(path.read_text(encoding="utf-8") for path in result.recipes.values()),
        appendix_title="The best settings as recipes", advice="To go on, give the command again with a larger budget.",
    )  # fmt: skip


def summary(result: TuneResult) -> str:
    """The budget and the protocol, in a line."""
    trials, minutes = result.budget["trials"], result.budget["minutes"]
    parts = [counted(trials, "trial") if trials else "", f"{minutes:g} minutes" if minutes else ""]
    seen = "left out" if result.exclude_seen else "included"
    each = result.budget["trial_minutes"]
    said = (
        f"The budget of each system: {' or '.join(filter(None, parts))}{f', {each:g} minutes a trial' if each else ''}"
    )
    said += ". Figures are of the validation split"
    said += f" ({result.splitting})" if result.splitting else ""
    return f"{said}, under full ranking, seen items {seen}; the test split takes no part."


def best_table(result: TuneResult, *, brief: bool = False) -> Table:
    """A row per system: its trials, what they took, and the best one beside the first; brief: without its settings."""
    columns: tuple[str, ...] = (
        "system", "trials", "pruned", "failed", "time, s", *METRICS, "NDCG@10 of trial 1", "best settings",
    )  # fmt: skip
    rows: list[tuple[Any, ...]] = []
    bests = {system.name: result.best(system.name) for system in result.systems}
    highest = {
        metric: max((figure(best, metric) or 0.0 for best in bests.values()), default=0.0) for metric in METRICS
    }  # fmt: skip
    for system in result.systems:
        best, trials = bests[system.name], result.of(system.name)
        metrics = [cell(best, metric, best=figure(best, metric) == highest[metric]) for metric in METRICS]
        rows.append((
            system.name, len(trials), len(result.of(system.name, "pruned")), len(result.of(system.name, "failed")),
            seconds(result.seconds(system.name)), *metrics, cell(trials[0] if trials else None, "NDCG@10"),
            ", ".join(f"{name} {value}" for name, value in best["tuned"].items()) if best else NOT_KNOWN,
        ))  # fmt: skip
    note = "Trial 1 has the system's own settings. The best of many trials flatters: what it is worth is for the test "
    note += "split to say, after a training with the recipe."
    columns, rows = (columns[:-1], [row[:-1] for row in rows]) if brief else (columns, rows)
    return make("Best settings", columns, rows, note=note)


def trials_table(result: TuneResult, system: System) -> Table:
    """A row per trial of a system, in order, with a column per option that is tuned."""
    best = result.best(system.name)
    rows = [
        (
            each["number"], cell(each, METRICS[0], best=each is best), *(cell(each, metric) for metric in METRICS[1:]),
            each["status"],
            f"{each['best_epoch']} of {each['epochs']}" if each["epochs"] else "", seconds(each["seconds"]),
            *(str(each["tuned"].get(name, NOT_KNOWN)) for name in system.space), each["error"],
        )
        for each in result.of(system.name)
    ]  # fmt: skip
    columns = ("trial", *METRICS, "status", "best epoch", "time, s", *system.space, "error")
    said = {
        "pruned": "Pruned: ended early, since its validations stayed behind those of the trials before it.",
        "cut": "Cut: ended where the budget of minutes did.",
    }  # fmt: skip
    note = " ".join(text for status, text in said.items() if result.of(system.name, status))
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return make(f"Trials of {system.name}", columns, rows, note=note)


def space_table(systems: Any) -> Table:
    """What is tried for each option of each system."""
    rows = [
        (system.name, name, shown(search), str(system.first[name]))
        for system in systems
        for name, search in system.space.items()
    ]
    return make("What is tried", ("system", "option", "values", "trial 1"), rows, left=4)


def figure(trial: Mapping[str, Any] | None, metric: str) -> float | None:
    """A trial's figure, None for none."""
    return trial["figures"].get(metric.lower()) if trial else None


def cell(trial: Trial | None, metric: str, *, best: bool = False) -> Shown:
    """A trial's figure with four digits."""
    value = figure(trial, metric)
    return Shown((NOT_KNOWN,)) if value is None else Shown((f"{value:.4f}",), best)
