"""Tables and page of `bbqrec benchmark speed`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bbqrec_cli.benchmark.speed.contest import Measured
from bbqrec_cli.benchmark.speed.contests import Contest
from bbqrec_cli.benchmark.speed.ratios import Spread, per_unit, ratio
from bbqrec_cli.pages.page import Page, Section, write_page
from bbqrec_cli.pages.tables import Table, counted, make, short

if TYPE_CHECKING:
    from bbqrec_cli.benchmark.speed.result import SpeedResult

SUMMARY = """Each contest's programs ran in turn, one round after the other, each in a process of its own, in float32.
Only the ratios are comparable between machines and runs: they are medians over the rounds of one run, of times that
were measured in the same turn, with the lowest and the highest round. Seconds are of this machine with whatever else
it did."""
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def write_report(path: Path, result: SpeedResult, *, force: bool = False) -> None:
    """Write the page whole or not at all. Raises: the errors of `write_page`."""
    sections = [Section(table=table) for table in (*tables(result), about_table(result))]
    page = Page(title="Speed", command=result.command, summary=SUMMARY, sections=sections)
    write_page(path, page, force=force)


def tables(result: SpeedResult) -> list[Table]:
    """One per contest."""
    return [contest_table(contest, measured) for contest, measured in result.held]


def contest_table(contest: Contest, measured: Sequence[Measured]) -> Table:
    """What a unit takes, beside the first entrant."""
    epochs, first, rows = any(each.whole for each in measured), measured[0].rounds, []
    for each in measured:
        if not each.rounds:
            continue
        own = Spread.of(per_unit(each.rounds))
        row: list[str | None] = [each.entrant.name, time_of(own.median)]
        row += [time_of(own.median * each.whole) if each.whole else None] if epochs else []
        row.append(times(ratio(each.rounds, first)) if first else None)
        rows.append([*row, f"{each.peak / 2**20:,.0f}" if each.peak else None])
    columns = ["what", f"time per {contest.unit}", *(["epoch"] if epochs else []), "ratio to the first", "peak, MiB"]
    note = f"{contest.note} {counted(max(len(each.rounds) for each in measured), 'round')} of each."
    note += "".join(f" Left out: {each.entrant.name} ({each.lacks})." for each in measured if each.lacks)
    return make(contest.name, columns, rows, note=note)


def times(spread: Spread) -> str:
    """'12× (11–13)'; '1' for the first."""
    if spread.low == spread.high == 1:
        return "1"
    return f"{short(spread.median)}× ({short(spread.low)}–{short(spread.high)})"


def time_of(seconds: float) -> str:
    """A time with three digits and its unit."""
    scale, name = next((each for each in UNITS if seconds >= each[0]), UNITS[-1])
    return f"{short(seconds / scale)} {name}"


def about_table(result: SpeedResult) -> Table:
    """Machine, versions and sizes."""
    config, machine, data = result.config, result.machine, result.about
    path = config.tokens or config.model
    packages = {**machine["packages"], **result.versions}
    rows = [
        ("bbqrec", f"{machine['bbqrec']}, commit {machine['commit'] or 'not known'}"),
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("threads", str(machine["threads"])),
        ("system", f"{machine['system']}, Python {machine['python']}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
        ("data to train and decode", f"{path.name if path else 'synthetic'}: "
         f"{data['users']:,} users, {data['items']:,} items, {data['interactions']:,} interactions"),
        ("IDs of tiger", ids(data["one"])),
        ("IDs of bbqrec", ids(data["several"]) + ("" if data["vectors"] else "; no vectors, so without similarity")),
        ("sizes", ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in result.sizes.items())),
        ("seed", str(config.seed)),
        ("time spent", time_of(result.seconds)),
    ]  # fmt: skip
    if decoded := data.get("decoded"):
        said = f"{decoded['model']}, {counted(decoded['epochs'], 'epoch')}, --normalisation {decoded['normalisation']}"
        rows.insert(6, ("the model that is decoded", said))
    return make("Where the numbers come from", ("what", "value"), rows, left=2)


def ids(sizes: Sequence[int]) -> str:
    """[levels, signals, codes] in words."""
    levels, signals, codes = sizes
    return f"{counted(levels, 'level')}, {counted(signals, 'signal')}, {counted(codes, 'code')} each"
