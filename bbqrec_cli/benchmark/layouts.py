"""`[[table]]` and `[[published]]`: which tables a suite makes, and numbers of others that stand in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.checks import chosen, only, table, tables
from bbqrec_cli.benchmark.sweeps import Sweep
from bbqrec_cli.errors import UsageError

UNSEEN = "-unseen"
"""Ends the names of metrics with seen items left out of the ranking, where a suite has both protocols."""
SEEN = {True: "seen items excluded", False: "seen items kept", "not said": "seen items: not said"}
"""`exclude_seen` of published numbers, and what a table says."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column beside the metrics: heading, format, and where the results have it.

    of: 'tokenizers' or 'cells'; key: the key there; 'seconds/train' is a key within a key; of_system: the key in the
    cells of a system, if it is another one; form: of a number, '' for three digits.
    """

    title: str
    of: str
    key: str
    form: str = ",.1f"
    of_system: str = ""


COLUMNS = {
    "colliding_items": Column(title="colliding items", of="tokenizers", key="colliding_items"),
    "colliding_before": Column(title="colliding items before", of="tokenizers", key="colliding_before"),
    "colliding_reported": Column(title="colliding items in its paper", of="tokenizers", key="reported"),
    "distinct": Column(title="distinct IDs", of="tokenizers", key="distinct"),
    "usage": Column(title="codes in use", of="tokenizers", key="usage"),
    "lowest_perplexity": Column(title="lowest perplexity", of="tokenizers", key="lowest_perplexity"),
    "recall_quantised": Column(title="Recall@10 quantised", of="tokenizers", key="recall_quantised", form=".4f"),
    "epochs": Column(title="epochs", of="cells", key="epochs"),
    "best_epoch": Column(title="best epoch", of="cells", key="best_epoch"),
    "tokenize_seconds": Column(title="tokenize, s", of="tokenizers", key="seconds", of_system="seconds/tokenize"),
    "train_memory": Column(title="train, peak MB", of="cells", key="memory/train", form=",.0f"),
    "train_gpu_memory": Column(title="train, peak MB of the GPU", of="cells", key="gpu_memory/train", form=",.0f"),
    "train_seconds": Column(title="train, s", of="cells", key="seconds/train"),
    "evaluate_seconds": Column(title="evaluate, s", of="cells", key="seconds/evaluate"),
    "ms_per_user": Column(title="ms per user", of="cells", key="milliseconds_per_user", form=""),
}
"""What a table may show beside 'recall@10' and its like."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A table as it is asked for.

    head: what the first column holds; rows: (what is shown, the system or tokenizer): the name, or the value where all
    rows are of one sweep; columns: metrics and COLUMNS; data: the data sets, side by side; others: whether published
    numbers of systems that are no row are shown, too; claim: what is shown of the row that is said to be the best one,
    '' for none; sweep: whether the rows are values of an option.
    """

    title: str
    head: str
    rows: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    data: tuple[str, ...]
    others: bool = False
    claim: str = ""
    sweep: bool = False


@dataclass(frozen=True, kw_only=True)
class Published:
    """Numbers that others report for a system on a data set. exclude_seen: True, False or 'not said'; where the suite
    has both protocols, the metrics of True end with UNSEEN. book: of published.toml, shown in the cells of the system;
    paper: of the BBQRec paper."""

    system: str
    data: str
    metrics: Mapping[str, float]
    source: str
    exclude_seen: bool | str = "not said"
    book: bool = False
    paper: bool = False


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a suite has to show, for its tables to name. used: the tokenizers of the systems."""

    systems: Sequence[str]
    tokenizers: Sequence[str]
    used: Sequence[str]
    sweeps: Mapping[str, Sweep]
    data: Sequence[str]
    metrics: Sequence[str]

    @property
    def rows(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """What `rows` may name -> what is shown and whose figures they are."""
        one = {name: ((name, name),) for name in (*self.tokenizers, *self.systems)}
        alone = [name for name in self.tokenizers if name not in self.used]
        every = {"all": (*self.systems, *alone), "tokenizers": tuple(self.tokenizers)}
        return one | {key: tuple(zip(names, names, strict=True)) for key, names in every.items()} | {
            name: sweep.rows for name, sweep in self.sweeps.items()
        }  # fmt: skip


def layouts(values: Mapping[str, Any], known: Known, path: Path) -> tuple[Layout, ...]:
    """Every `[[table]]`. Raises: UsageError: what does not fit."""
    found = []
    for each, where in tables(values, "table", path):
        only(each, ("title", "rows", "columns", "data", "each_data", "claim"), where)
        if not isinstance(each.get("title"), str) or "columns" not in each:
            raise UsageError(f"{where} needs a title and columns")
        asked = chosen(each.get("rows", "all"), known.rows, f"{where}: rows")
        valued = tuple(row for name in asked for row in known.rows[name])
        rows = tuple((name, name) for _, name in valued)
        head, sweep = "system" if any(name in known.systems for _, name in rows) else "tokenizer", False
        if len(asked) == 1 and asked[0] in known.sweeps:
            head, sweep, rows = known.sweeps[asked[0]].option, True, valued
        if not isinstance(each.get("each_data", False), bool):
            raise UsageError(f"{where}: each_data is {each['each_data']!r}; true or false is needed")
        columns = chosen(each["columns"], (*known.metrics, *COLUMNS), f"{where}: columns")
        sets = chosen(each.get("data", list(known.data)), known.data, f"{where}: data")
        claim = claimed(each.get("claim", ""), [label for label, _ in rows], [value for value, _ in valued], where)
        for one in [(data,) for data in sets] if each.get("each_data") else [sets]:
            title = each["title"] + (f", {one[0]}" if each.get("each_data") and len(sets) > 1 else "")
            found.append(Layout(
                title=title, head=head, rows=rows, columns=columns, data=one, others="all" in asked, claim=claim,
                sweep=sweep,
            ))  # fmt: skip
    return tuple(found)


def claimed(claim: Any, labels: Sequence[str], values: Sequence[str], where: str) -> str:
    """The label of the row that is claimed to be the best, '' for none.

    values: row by row, that of a sweep, which names the row where no other one has it.

    Raises:
        UsageError: no row, or several.
    """
    if claim == "":
        return ""
    meant = list(dict.fromkeys(label for label, value in zip(labels, values, strict=True) if value == claim))
    if claim in labels or not meant:
        return chosen(claim, labels, f"{where}: claim", several=False)[0]
    if len(meant) > 1:
        fitting = ", ".join(f'"{label}"' for label in meant)
        raise UsageError(f"{where}: claim is {claim!r}, a value of several rows", f"one of {fitting}")
    return meant[0]


def published(values: Mapping[str, Any], known: Known, path: Path) -> tuple[Published, ...]:
    """Every `[[published]]`. Raises: UsageError: what does not fit."""
    found, places = [], set[tuple[Any, ...]]()
    for each, where in tables(values, "published", path):
        only(each, ("system", "data", "metrics", "source", "exclude_seen"), where)
        metrics, seen = table(each.get("metrics", {}), f"{where}: metrics"), each.get("exclude_seen", "not said")
        for key in ("system", "source"):
            if not isinstance(each.get(key), str) or not each[key]:
                raise UsageError(f"{where}: {key} is {each.get(key)!r}; a text is needed")
        for name, value in metrics.items():
            chosen(name, known.metrics, f"{where}: metrics", several=False)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise UsageError(f"{where}: {name} is {value!r}; a number is needed")
        if seen not in tuple(SEEN):
            raise UsageError(f'{where}: exclude_seen is {seen!r}; true, false or "not said" is needed')
        if seen is True and any(name.endswith(UNSEEN) for name in known.metrics):
            metrics = {name.removesuffix(UNSEEN) + UNSEEN: value for name, value in metrics.items()}
        given = each.get("data", known.data[0] if len(known.data) == 1 else None)
        (data,) = chosen(given, known.data, f"{where}: data", several=False)
        system, source = each["system"], each["source"]
        for name in sorted(metrics):
            if (place := (system, data, source, seen, name)) in places:
                raise UsageError(f"{where}: {name} of {system} in {source!r} stands there twice")
            places.add(place)
        found.append(Published(system=system, data=data, metrics=metrics, source=source, exclude_seen=seen))
    return tuple(found)
