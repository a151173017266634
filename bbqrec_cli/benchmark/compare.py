"""compare: metrics files -> which one is ahead, where, and for whom. U users."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import StageConfig, did_you_mean, option
from bbqrec_cli.errors import UsageError
from bbqrec_cli.origin import command_line
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import numpy as np

    from bbqrec_cli.benchmark.result import Score
    from bbqrec_cli.pages.tables import Table
    from bbqrec_cli.records import Metrics


@dataclass(frozen=True, kw_only=True)
class CompareConfig(StageConfig):
    """Options of `bbqrec compare`."""

    without: ClassVar[frozenset[str]] = frozenset({"seed", "device", "threads"})

    input: tuple[Path, ...] = option(
        (), "Metrics files of one split and protocol.", role="input", positional=True, complete=".h5"
    )
    metric: str = option("", "What slices and users are compared by. [default: NDCG at the largest k of all files]")
    users: int = option(10, "Users to list, for whom the files differ most.", minimum=0)
    report: Path | None = option(None, "Write a page: .html (self-contained), .md, .tex or .csv.", role="output")


@dataclass(frozen=True, kw_only=True)
class CompareResult:
    """What `bbqrec compare --json` prints.

    splitting: how the interactions are divided, in words; systems: a file's name -> metric -> its Score, tests against
    the best other file; slices: 'history_length', 'target_interactions' -> ranges, each with 'from', 'to' (None: open),
    'users' and the metric of every file ('systems'); against: name -> the best other file, and for how many users
    (targets, where users have several) it is 'better', 'equal' and 'worse' than that; users: those for whom the files
    differ most, with the target's rank in every file, 0 below `depth`.
    """

    split: str
    splitting: str
    exclude_seen: bool
    evaluated: int
    metric: str
    depth: int
    files: dict[str, dict[str, str]]
    systems: dict[str, dict[str, Score]]
    slices: dict[str, list[dict[str, Any]]]
    against: dict[str, dict[str, Any]]
    users: list[dict[str, Any]]
    report: Path | None

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        return dataclasses.asdict(self) | {"report": str(self.report) if self.report else None}


def run(config: CompareConfig, progress: Progress = SILENT) -> CompareResult:
    """Compare them.

    Raises:
        UsageError: fewer than two files, or a metric that they do not have.
        DataError: files of different splits, protocols, users or data; the errors of reading and writing files.
    """
    from bbqrec_cli.benchmark.results import scores
    from bbqrec_cli.evaluation.comparison import check_comparable, cut, in_order_of, trained_otherwise
    from bbqrec_cli.evaluation.metrics import METRICS, metric_names
    from bbqrec_cli.hdf5 import check_there, read_metrics
    from bbqrec_cli.pages.page import check_page

    if len(config.input) < 2:
        raise UsageError("compare needs two metrics files or more", "bbqrec compare a-metrics.h5 b-metrics.h5")
    for path in config.input:
        check_there(path, "metrics")
    if config.report:
        check_page(config.report, force=config.force)
    every = {name: read_metrics(path) for name, path in names_of(config.input).items()}
    ks, first = check_comparable(every), next(iter(every.values()))
    if others := trained_otherwise(every):
        what = f"{', '.join(others)}: trained on other interactions than {next(iter(every))}"
        progress.warn(f"{what}, whose numbers of the target's interactions the slices go by")
    metric, known = config.metric.lower() or f"ndcg@{ks[-1]}", metric_names(ks, METRICS)
    if metric not in known:
        near = did_you_mean(metric, known)
        raise UsageError(f"--metric is {config.metric!r}{near}; the files share {', '.join(known)}")
    ranks = {name: cut(in_order_of(first, each, each.ranks), ks[-1]) for name, each in every.items()}
    systems = scores({name: {0: (each,)} for name, each in every.items()}, metric_names(ks))
    result = CompareResult(
        split=first.split, splitting=str(first.splitting), exclude_seen=first.exclude_seen,
        evaluated=len(set(first.user_ids)), metric=metric, depth=ks[-1],
        files={name: {"path": str(path), "model": every[name].model} for name, path in names_of(config.input).items()},
        systems=systems, slices=sliced(first, ranks, metric), against=against(ranks, metric),
        users=different(first, ranks, metric, config.users), report=config.report,
    )  # fmt: skip
    if config.report:
        write_report(config, result)
    return result


def names_of(paths: Sequence[Path]) -> dict[str, Path]:
    """A short name for every file: its own without '.h5', with its folder where others have the same, or all of it.

    Raises: UsageError: one is given twice.
    """
    if len({each.resolve() for each in paths}) < len(paths):
        raise UsageError("a metrics file is given twice", "give each once")
    stems = [each.stem for each in paths]
    names = [
        stem if stems.count(stem) == 1 else str(each.with_suffix("")) for stem, each in zip(stems, paths, strict=True)
    ]
    return {name if names.count(name) == 1 else str(each): each for name, each in zip(names, paths, strict=True)}


def sliced(first: Metrics, ranks: Mapping[str, np.ndarray], metric: str) -> dict[str, list[dict[str, Any]]]:
    """See `CompareResult.slices`; without what the files are too old to hold."""
    from bbqrec_cli.evaluation.metrics import slices
    from bbqrec_cli.stages.evaluate import SLICES

    found, k = {}, int(metric.split("@")[1])
    for which, edges in SLICES.items():
        by = getattr(first, which)
        if by is None:
            continue
        of = {name: slices(each, by, edges, [k]) for name, each in ranks.items()}
        rows = next(iter(of.values()))
        found[which] = [
            {key: row[key] for key in ("from", "to", "users")}
            | {"systems": {name: each[number][metric] for name, each in of.items()}}
            for number, row in enumerate(rows)
        ]
    return found


def against(ranks: Mapping[str, np.ndarray], metric: str) -> dict[str, dict[str, Any]]:
    """Every file beside the best other one, user by user."""
    from bbqrec_cli.evaluation.comparison import user_by_user
    from bbqrec_cli.evaluation.metrics import per_user

    values, found = {name: per_user(each, metric) for name, each in ranks.items()}, {}
    means = {name: round(float(each.mean(dtype="float64")), 12) for name, each in values.items()}  # as `scores` does
    for name, own in values.items():
        best = max((other for other in values if other != name), key=means.__getitem__)
        found[name] = {"against": best} | user_by_user(own, values[best])
    return found


def different(first: Metrics, ranks: Mapping[str, np.ndarray], metric: str, most: int) -> list[dict[str, Any]]:
    """See `CompareResult.users`."""
    import numpy as np

    from bbqrec_cli.evaluation.comparison import OF_USERS, most_different

    known = {which: values for which in OF_USERS if (values := getattr(first, which)) is not None}
    return [
        {
            "user": first.user_ids[user],
            **({"target": first.targets[user]} if first.targets else {}),
            **{which: int(values[user]) for which, values in known.items()},
        }
        | {"ranks": {name: int(each[user]) for name, each in ranks.items()}}
        for user in most_different(np.stack(list(ranks.values())), metric, most)
    ]


def tables_of(result: CompareResult, *, brief: bool) -> list[Table]:
    """All tables. brief: without intervals and the others' names."""
    from bbqrec_cli.benchmark.scores import MARKS, TESTS, metric_name, named, score_cell
    from bbqrec_cli.evaluation.comparison import OF_USERS, range_name
    from bbqrec_cli.pages.tables import NOT_KNOWN, Shown, make

    names, metrics = list(result.systems), list(next(iter(result.systems.values())))
    by_metric = [{name: of[metric] for name, of in result.systems.items()} for metric in metrics]
    rows = [
        [named(name, result.files[name]["model"]), *(score_cell(name, of, brief) for of in by_metric)] for name in names
    ]
    note = ("" if brief else "[95% bootstrap interval over users]; ") + f"{TESTS}. {MARKS}"
    made = [make("Metrics", ("file", *map(metric_name, metrics)), rows, note=note)]
    wins = [(name, *(each[key] for key in ("against", "better", "equal", "worse"))) for name, each in
            result.against.items()]  # fmt: skip
    by = metric_name(result.metric)
    several = any(sum(each[key] for key in ("better", "equal", "worse")) > result.evaluated for each in
                  result.against.values())  # fmt: skip
    made.append(make("Target by target" if several else "User by user", ("file", "against", "better", "equal", "worse"),
                     wins, left=2, note=f"{'Targets' if several else 'Users'} for which {by} is better, equal and worse"
                     " than in the best other file."))  # fmt: skip
    for which, ranges in result.slices.items():
        shown_rows = []
        for each in ranges:
            values = each["systems"]
            top = max(values.values())
            cells = [Shown((f"{values[name]:.4f}",), values[name] == top > 0) for name in names]
            shown_rows.append((range_name(each["from"], each["to"]), each["users"], *cells))
        made.append(make(f"{by} by {OF_USERS[which]}", (OF_USERS[which], "targets", *names), shown_rows))
    said = {"target": "target"} | OF_USERS
    columns = [which for which in said if result.users and which in result.users[0]]
    differing = [
        (each["user"], *(each[which] for which in columns),
         *(Shown((str(each["ranks"][name] or NOT_KNOWN),)) for name in names))
        for each in result.users
    ]  # fmt: skip
    note = f"The target's rank, {NOT_KNOWN} below {result.depth}. For these users the files differ most in {by}."
    heads = ("user", *(said[which] for which in columns), *names)
    left = 2 if "target" in columns else 1
    return [*made, make("Users where they differ", heads, differing, left=left, note=note)]


def headline(result: CompareResult) -> str:
    """Which file is ahead, in a sentence."""
    from bbqrec_cli.benchmark.scores import headline_of

    name = next(reversed(next(iter(result.systems.values()))))
    return headline_of(result.systems, name, result.split)


def about(result: CompareResult) -> str:
    """What was compared, in a line."""
    from bbqrec_cli.evaluation.comparison import PROTOCOLS
    from bbqrec_cli.records import LAST

    divided = "" if result.splitting == str(LAST) else f" ({result.splitting})"
    return f"{result.evaluated:,} users, split {result.split}{divided}, {PROTOCOLS[result.exclude_seen]}."


def write_report(config: CompareConfig, result: CompareResult) -> None:
    """The page. Raises: the errors of `write_page`."""
    from bbqrec_cli.pages.page import Page, Section, write_page

    assert config.report is not None
    page = Page(
        title="Comparison of metrics files", command=command_line("compare", config), headline=headline(result),
        summary=about(result), sections=[Section(table=table) for table in tables_of(result, brief=False)],
    )  # fmt: skip
    write_page(config.report, page, force=config.force)
