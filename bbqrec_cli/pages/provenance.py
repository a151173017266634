"""Where the numbers of a page come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from bbqrec_cli.pages.tables import NOT_KNOWN, Shown, Table, counted, make, moment, seconds


def gathered(known: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """When and on which machines was run what has an `origin` and says when it `finished`."""
    runs: dict[str, dict[str, Any]] = {}
    for record in known:
        run = runs.setdefault(json.dumps(record["origin"], sort_keys=True), record["origin"] | {"steps": 0})
        run["steps"] += 1
    finished = sorted(record["finished"] for record in known if record.get("finished"))
    return {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "first": finished[0] if finished else None, "last": finished[-1] if finished else None,
        "runs": list(runs.values()),
    }  # fmt: skip


def provenance_table(about: Mapping[str, Any], what: str = "step") -> Table:
    """Version, commit, machine and times; where the steps differ in one of them, each with its number of steps.

    about: `gathered` and more; what: what a step is called.
    """
    rows: list[Sequence[Any]] = [
        (name, several(about["runs"], tell, what)) for name, tell in ORIGIN.items() if about["runs"]
    ]
    rows.append((f"{what}s", sum(run["steps"] for run in about["runs"]) + about["unrecorded_steps"]))
    if about["unrecorded_steps"]:
        rows.append((f"{what}s whose making is not recorded", about["unrecorded_steps"]))
    rows.append((f"time spent, all {what}s", f"{seconds(about['seconds'])} s"))
    if about["first"]:
        rows.append(("computed", " to ".join(dict.fromkeys(moment(about[end]) for end in ("first", "last")))))
    rows.append(("page made", moment(about["made"])))
    return make("Where the numbers come from", ("what", "value"), rows, left=2)


ORIGIN: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "bbqrec": lambda run: run["bbqrec"],
    "commit": lambda run: run["commit"] or "not known",
    "processor": lambda run: f"{run['processor']}, {run['cores']} cores",
    "threads used": lambda run: str(run["threads"]),
    "device": lambda run: run["device"],
    "precision": lambda run: run.get("precision") or NOT_KNOWN,
    "system": lambda run: f"{run['system']}, Python {run['python']}",
    "packages": lambda run: ", ".join(f"{name} {version}" for name, version in run["packages"].items()),
}
"""What the page says of where a step ran."""


def several(runs: Sequence[Mapping[str, Any]], tell: Callable[[Mapping[str, Any]], str], what: str = "step") -> Shown:
    """What is told of the runs: once if it is the same for all, else each with its steps, most steps first."""
    steps: dict[str, int] = {}
    for run in runs:
        steps[tell(run)] = steps.get(tell(run), 0) + run["steps"]
    if len(steps) == 1:
        return Shown(tuple(steps))
    return Shown(tuple(f"{said} ({counted(n, what)})" for said, n in sorted(steps.items(), key=lambda each: -each[1])))
