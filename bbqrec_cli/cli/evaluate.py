from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from bbqrec_cli.cli.console import Console, rich_table, table
from bbqrec_cli.cli.options import command
from bbqrec_cli.pages.tables import make, short
from bbqrec_cli.stages.evaluate import EvaluateConfig, run


def add_to(app: typer.Typer, arguments: Sequence[str] = ()) -> None:
    @command(app, "evaluate", EvaluateConfig, arguments=arguments)
    def evaluate(config: EvaluateConfig, console: Console) -> None:
        from bbqrec_cli.records import LAST

        result = run(config, console)
        several = f" with {result.targets:,} targets" if result.targets != result.users else ""
        head = f"{result.output}: {result.model}, {result.split}, {result.users:,} users{several}"
        head += f", {result.seconds:.0f} s, {short(result.ms_per_user)} ms per {'target' if several else 'user'}"
        by_last = result.splitting == str(LAST)
        head += "" if by_last else f", split {result.splitting}"
        head += ", seen items left out" if result.exclude_seen else ""
        if result.unevaluated:
            why = "fewer than 3 interactions" if by_last else f"no {result.split} target"
            console.log(f"{result.unevaluated:,} users have {why} and are not evaluated")
        shown = with_intervals(result.aggregates, result.confidence)
        main: list[Any] = [table("", ("metric", "mean", "95% interval"), shown)]
        if result.significance:
            from bbqrec_cli.evaluation.tables import against_table

            main = [rich_table(against_table(result.aggregates, result.significance, str(config.against)))]
        below = [lists_line(result.lists), *cold_line(result.cold)]
        below += slice_tables(result.slices) if config.slices else []
        console.result(result.to_json(), head, *main, *below, *diagnosis_tables(result.diagnosis))


def with_intervals(means: dict[str, float], confidence: dict[str, tuple[float, float]]) -> list[tuple[Any, ...]]:
    """One (metric, mean, interval) per metric."""
    return [(name, means[name], "{:.4f} … {:.4f}".format(*ends)) for name, ends in confidence.items()]


def lists_line(lists: dict[str, float]) -> str:
    """What is recommended at all, at the largest k."""
    k = max(int(name.split("@")[1]) for name in lists)
    share, interactions = lists[f"coverage@{k}"], lists[f"popularity@{k}"]
    return (
        f"recommended: {share:.1%} of the items at k = {k}, with {short(interactions)} training interactions on average"
    )


def slice_tables(slices: dict[str, list[dict[str, Any]]]) -> list[Any]:
    """By history length and by the training interactions of the target."""
    from bbqrec_cli.evaluation.comparison import OF_USERS, range_name

    made = []
    for name, rows in slices.items():
        metrics = [key for key in rows[0] if "@" in key]
        shown = [
            (range_name(row["from"], row["to"]), row["users"], *(f"{row[key]:.4f}" for key in metrics)) for row in rows
        ]
        made.append(rich_table(make("", (OF_USERS[name], "targets", *metrics), shown)))
    return made


def cold_line(cold: dict[str, Any]) -> list[str]:
    """Recall and NDCG at the largest k over targets without a training interaction, if there are any; the
    table counts them, too."""
    if not cold["users"]:
        return []
    k = max(int(name.split("@")[1]) for name in cold["confidence"])
    figures = ", ".join(f"{name} {cold[name]:.4f}" for name in (f"recall@{k}", f"ndcg@{k}"))
    return [f"cold targets (no training interaction): {cold['users']:,}, {figures}"]


def diagnosis_tables(found: dict[str, Any] | None) -> list[Any]:
    """The tables of `--diagnose`: codes, beams, heads."""
    if not found:
        return []
    columns = ("level", "signal", "nll", "accuracy", "entropy", "choices")
    codes = [
        [f"{row['choices']:.1f}" if c == "choices" and c in row else row.get(c) for c in columns]
        for row in found["codes"]
    ]
    title = f"Codes, given the target's codes before them ({found['users']:,} targets; nats)"
    made = [table(title, columns, codes, left=2)]
    metrics = [name for name in found["searches"][0] if "@" in name]
    levels = [f"lost at {level + 1}" for level in range(len(found["searches"][0]["lost"]))]
    searches = [
        [str(row["beam"] or "no limit"), *(row[name] for name in metrics), *(row["lost"] or [None] * len(levels))]
        for row in found["searches"]
    ]
    made.append(table("Beams, and the level at which they lose the target", ("beam", *metrics, *levels), searches))
    heads = [[row["head"], *(row[name] for name in metrics)] for row in found["heads"]]
    return [*made, table("Heads", ("head", *metrics), heads)] if heads else made
