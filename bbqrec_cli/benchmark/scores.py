"""Tables of systems: their metrics beside each other and beside published numbers, and what else a suite asks for."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bbqrec_cli.benchmark.layouts import COLUMNS, SEEN, UNSEEN, Column, Layout, Published
from bbqrec_cli.benchmark.result import BenchmarkResult, Score, Systems
from bbqrec_cli.pages.tables import NOT_KNOWN, Shown, Table, make, plain, short

NOT_SAID = "°"
"""Marks published numbers that do not say whether seen items were left out of the ranking."""
LEAD = "▲ "
"""Marks a lead that is significant, as in the paper."""


TESTS = (
    "p of the paired t-test / of Wilcoxon's signed-rank test over users, against the best other system; Holm: "
    + "corrected for all systems that are compared with the best one, where that changes what is shown"
)
MARKS = (
    f"The best of a column is bold, with its lead over the next, the second best underlined (HTML); {LEAD.strip()}: a "
    + "lead that is significant at the level of 0.05 by the corrected t-test."
)


def tables_of(result: BenchmarkResult, *, brief: bool = False) -> list[Table]:
    """The tables of systems. brief: without intervals and the others' names, so that four metrics fit a terminal."""
    return [layout_table(result, layout, systems, brief=brief) for layout, systems in result.layouts]


def layout_table(result: BenchmarkResult, layout: Layout, systems: Systems, *, brief: bool) -> Table:
    """Rows and columns of a layout: mean ± sd over seeds; of metrics also the interval over users and the tests."""
    places = [(data, column) for data in layout.data for column in layout.columns]
    rows = []
    for label, name in layout.rows:
        head = named(label, about_row(result, systems, name, brief, of_sweep=label != name))
        rows.append([head, *(shown(result, systems, name, place, brief) for place in places)])
        rows += [published_row(result, each, places, brief) for each in published_of(result, layout, name)]
    if layout.others:
        rest = {each.system for each in result.published if not each.book} - {name for _, name in layout.rows}
        rows += [published_row(result, each, places, brief) for name in sorted(rest)
                 for each in published_of(result, layout, name)]  # fmt: skip
    columns = [heading(column) for _, column in places]
    if len(layout.data) > 1:
        columns = [f"{data}: {title}" for (data, _), title in zip(places, columns, strict=True)]
    # A row without any number is none.
    filled = [row for row in rows if any(each.lines != (NOT_KNOWN,) for each in row[1:])]
    return make(layout.title, (layout.head, *columns), filled, note=note_of(result, layout, brief))


def shown(result: BenchmarkResult, systems: Systems, name: str, place: tuple[str, str], brief: bool) -> Shown:
    """What stands at a place, that is a data set and a column."""
    data, column = place
    reported, sources = reported_lines(result, name, place, brief)
    if column in COLUMNS:
        said = spread(figures(result, name, data, COLUMNS[column]), COLUMNS[column].form)
        return Shown((said, *reported), title="\n".join(sources))
    if name not in systems[data]:
        return Shown((NOT_KNOWN, *reported), title="\n".join(sources))
    made = score_cell(name, {each: of[column] for each, of in systems[data].items()}, brief)
    number = -1 if column.endswith(UNSEEN) else 0
    ran = [f"seed {cell['seed']}: {cell['ran'][number]}" for cell in cells_of(result, name, data)]
    return dataclasses.replace(made, lines=(*made.lines, *reported), title="\n".join([*ran, *sources]))


def score_cell(name: str, every: Mapping[str, Score], brief: bool) -> Shown:
    """The score of `name` among those of all: its lines, whether it is the best or, of more than two, the second."""
    score, best, several = every[name], max(each.mean for each in every.values()), len(every) > 2
    second = max((each.mean for each in every.values() if each.mean < best), default=None)
    ahead = score.mean == best
    # Of two, both tests are the same one: the better one has it.
    lines = score_lines(score, brief, tested=several or ahead, best=ahead)
    return Shown(tuple(lines), ahead, second=several and score.mean == second)


def reported_lines(
    result: BenchmarkResult, name: str, place: tuple[str, str], brief: bool
) -> tuple[list[str], list[str]]:
    """What the paper and, of all others under the same protocol, the best one report for a cell, and their sources."""
    data, column = place
    found = [each for each in result.published if each.book and (each.system, each.data) == (name, data)
             and column in each.metrics]  # fmt: skip
    lines, sources = [], []
    for of_paper in (True, False):
        every = [each for each in found if each.paper == of_paper]
        if not every or (brief and not of_paper):
            continue
        best = max(every, key=lambda each: each.metrics[column])
        value, mark = best.metrics[column], NOT_SAID if best.exclude_seen not in (True, False) else ""
        who = "paper" if of_paper else "others"
        shown = f"{value:.4f}" if column not in COLUMNS else plain(value)
        lines.append(f"{who} {shown}{mark if column not in COLUMNS else ''}")
        said = "" if column in COLUMNS else f", {SEEN[best.exclude_seen]}"
        sources.append(f"{who}: {best.source}{said}")
    return lines, sources


def cells_of(result: BenchmarkResult, name: str, data: str) -> list[dict[str, Any]]:
    """The cells of a system on a data set that are done."""
    return [each for each in result.of("done") if (each["system"], each["data"]) == (name, data)]


def figures(result: BenchmarkResult, name: str, data: str, column: Column) -> list[float | None]:
    """The values of a column, one a seed: of the system `name`, or of its tokenizer, or of the tokenizer `name`."""
    own = cells_of(result, name, data)
    if column.of == "cells" or (own and column.of_system):
        return [value_at(cell, column.of_system or column.key) for cell in own]
    tokenizers = {cell["tokenizer"] for cell in own} or {name}
    rows = [row for row in result.tokenizers if row["data"] == data and row["tokenizer"] in tokenizers]
    return [value_at(row, column.key) for row in rows]


def value_at(values: Mapping[str, Any], key: str) -> float | None:
    """The value of 'seconds/train', None where there is none."""
    found: Any = values
    for part in key.split("/"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def spread(values: Sequence[float | None], form: str) -> str:
    """Mean ± standard deviation of what is known of all, else NOT_KNOWN; a single value as it is. form: of `Column`."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return NOT_KNOWN
    written = f"{{:{form}}}".format if form else short
    if len(known) == 1:
        return plain(known[0]) if isinstance(known[0], int) else written(known[0])
    return f"{written(statistics.mean(known))} ± {written(statistics.stdev(known))}"


def published_of(result: BenchmarkResult, layout: Layout, name: str) -> list[list[Published]]:
    """The numbers that others report for a system on the layout's data sets, source by source and protocol by protocol;
    those with seen items left out that have columns of their own stand with those that keep them."""
    found: dict[tuple[str, Any], list[Published]] = {}
    for each in result.published:
        if (
            each.system == name
            and not each.book
            and each.data in layout.data
            and set(each.metrics) & set(layout.columns)
        ):
            beside = all(name.endswith(UNSEEN) for name in each.metrics)
            found.setdefault((each.source, False if beside else each.exclude_seen), []).append(each)
    return list(found.values())


def published_row(
    result: BenchmarkResult, group: Sequence[Published], places: Sequence[tuple[str, str]], brief: bool
) -> list[Shown]:
    """A row of numbers from one source."""
    values = {(each.data, name): value for each in group for name, value in each.metrics.items()}
    seen = ", ".join(dict.fromkeys(SEEN[each.exclude_seen] for each in group))
    ours = {protocol for cell in result.cells for protocol in cell["exclude_seen"]}
    said = "published" if all(each.exclude_seen in ours for each in group) else f"published, {seen}"
    lines = (group[0].system, said) if brief else (group[0].system, f"published: {group[0].source}", seen)
    return [Shown(lines), *(Shown((f"{values[place]:.4f}" if place in values else NOT_KNOWN,)) for place in places)]


def about_row(result: BenchmarkResult, systems: Systems, name: str, brief: bool, *, of_sweep: bool = False) -> str:
    """The second line under a system's name: what it is made of, how many seeds are missing, what of seen items. Rows
    of a sweep are made of the same."""
    cell = next((each for each in result.cells if name == each["system"]), None)
    if cell is None:
        return ""
    counts = [len(score.values) for scores in systems.values() for score in scores.get(name, {}).values()]
    few = f"{min(counts)} of {len(result.seeds)} seeds" if counts and min(counts) < len(result.seeds) else ""
    protocols = cell["exclude_seen"]
    seen = SEEN[protocols[0]] if len(protocols) == 1 and (result.published or protocols[0]) else ""
    if brief:
        return few
    parts = (few, seen) if of_sweep else (made_of(cell), few, seen, behind_controls(result, systems, name))
    return ", ".join(filter(None, parts))


def behind_controls(result: BenchmarkResult, systems: Systems, name: str) -> str:
    """Which models that need no training are ahead of a system that does, in the last metric; '' for none."""
    controls = list(dict.fromkeys(cell["system"] for cell in result.cells if cell["control"]))
    if name in controls:
        return ""
    said = []
    for data, scores in systems.items():
        if not scores.get(name):
            continue
        metric = list(scores[name])[-1]
        ahead = [each for each in controls if each in scores and scores[each][metric].mean > scores[name][metric].mean]
        where = f" on {data}" if len(systems) > 1 else ""
        said += [f"behind {' and '.join(ahead)} in {metric_name(metric)}{where}"] if ahead else []
    return ", ".join(said)


def note_of(result: BenchmarkResult, layout: Layout, brief: bool) -> str:
    """What must be known to read the table."""
    parts = ["± standard deviation over seeds"] if len(result.seeds) > 1 else []
    reported = reported_note(result, layout, brief)
    if set(layout.columns) <= COLUMNS.keys():
        return " ".join([*(f"{each}." for each in parts), *reported])
    parts += [] if brief else ["[95% bootstrap interval over users]"]
    parts += ["unseen: items of the history left out of the ranking"] if any(
        name.endswith(UNSEEN) for name in layout.columns
    ) else []  # fmt: skip
    return " ".join(["; ".join([*parts, TESTS]) + ".", MARKS, *reported])


def reported_note(result: BenchmarkResult, layout: Layout, brief: bool) -> list[str]:
    """What 'paper' and 'others' in cells mean, where they are there."""
    names = {name for _, name in layout.rows}
    here = [each for each in result.published if each.book and each.system in names and each.data in layout.data
            and set(each.metrics) & set(layout.columns)]  # fmt: skip
    said = ["paper: what the BBQRec paper reports"] if any(each.paper for each in here) else []
    if others := list(dict.fromkeys(each.source for each in here if not each.paper and not brief)):
        said.append(f"others: the highest that others report under the same protocol ({'; '.join(others)})")
    if any(each.exclude_seen not in (True, False) and set(each.metrics) - COLUMNS.keys() for each in here):
        said.append(f"{NOT_SAID} does not say whether seen items were in the ranking")
    return [f"{'; '.join(said)}."] if said else []


def heading(column: str) -> str:
    """'ndcg@10' -> 'NDCG@10'; 'ms_per_user' -> 'ms per user'."""
    return COLUMNS[column].title if column in COLUMNS else metric_name(column)


def metric_name(name: str) -> str:
    """'ndcg@10-unseen' -> 'NDCG@10 unseen'."""
    name = name.replace("recall", "Recall").replace("ndcg", "NDCG").replace("mrr", "MRR")
    return name.replace(UNSEEN, " unseen")


def named(name: str, more: str) -> Shown:
    """A name, and more about it where that says more."""
    return Shown((name, more) if more not in ("", name) else (name,))


def made_of(cell: Mapping[str, Any]) -> str:
    """The model and the tokenizer of a cell, what is beyond the model's paper, and what it is united with."""
    made = cell["model"] + (f" on {cell['tokenizer']}" if cell["tokenizer"] else "")
    made += f", with {' and '.join(cell['beyond_paper'])}" if cell["beyond_paper"] else ""
    return made + (f"; united with {' and '.join(cell['unite'])}" if cell.get("unite") else "")


def score_lines(score: Score, brief: bool, *, tested: bool = True, best: bool = False) -> tuple[str, ...]:
    """Mean ± sd; the interval; the lead, where it is the best; the tests, where there is another system."""
    lines = [mean_sd(score)] + ([] if brief else [f"[{score.low:.4f}, {score.high:.4f}]"])
    if best and score.against:
        ahead = f"{score.gain:+.1%}" if score.gain is not None else f"{score.lead:+.4f}"  # of 0 there is no share
        lines.append(f"{LEAD if score.significant else ''}{ahead}{'' if brief else f' on {score.against}'}")
    if tested and score.against and score.p_t is not None and score.p_wilcoxon is not None:
        tests = f"{p_text(score.p_t)} / {p_text(score.p_wilcoxon)}"
        lines.append(f"p {tests}" if brief else f"p {tests} vs {score.against}")
        corrected = f"{p_text(score.holm_t)} / {p_text(score.holm_wilcoxon)}"
        lines += [f"Holm {corrected}"] if score.holm_t is not None and corrected != tests else []
    return tuple(lines)


def mean_sd(score: Score) -> str:
    """'0.0543 ± 0.0012', or the mean alone for one seed."""
    return f"{score.mean:.4f}" + (f" ± {score.sd:.4f}" if score.sd is not None else "")


def p_text(p: float | None) -> str:
    """Three decimals without the 0 before them; '<.001' below."""
    if p is None:
        return NOT_KNOWN
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def headline(result: BenchmarkResult) -> str:
    """The main outcome in a sentence per data set, '' without a system."""
    name = [name for name in result.metrics if not name.endswith(UNSEEN)][-1]
    said = (headline_of(systems, name, result.split, data) for data, systems in result.systems.items())
    return " ".join(filter(None, said))


def headline_of(systems: Mapping[str, Mapping[str, Score]], name: str, split: str, data: str = "") -> str:
    """Which of the systems is ahead in the metric `name`, '' without any."""
    if not systems:
        return ""
    system = max(systems, key=lambda each: systems[each][name].mean)
    score = systems[system][name]
    said = f"Highest {split} {metric_name(name)}{f' on {data}' if data else ''}: {system}, {mean_sd(score)}"
    if not score.against:
        return f"{said}."
    said += f"; next {score.against}, {mean_sd(systems[score.against][name])}"
    if score.p_t is None:
        return f"{said}."
    tested, corrected = p_text(score.p_t), p_text(score.p_t if score.holm_t is None else score.holm_t)
    return f"{said} (paired t-test: p {tested}{f', corrected {corrected}' if corrected != tested else ''})."
