"""What a benchmark comes to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.curves import AllCurves
from bbqrec_cli.benchmark.findings import SideBySide, Sliced
from bbqrec_cli.benchmark.layouts import Layout, Published
from bbqrec_cli.errors import DataError
from bbqrec_cli.tuning.result import TuneResult

LEVEL = 0.05
"""p below which a difference counts as significant."""
PAGE_ONLY = ("slices", "examples", "text", "curves", "fits", "layouts", "asked", "tunings")


@dataclass(frozen=True, eq=False, kw_only=True)
class Score:
    """One metric of one system on one data set.

    values: one a seed; sd: over seeds, None for one seed; low, high: 95% interval over users of the seeds' mean;
    against: the best other system, '' if there is none; p_t, p_wilcoxon: paired tests against it on every user's mean
    over the seeds that both have; holm_t, holm_wilcoxon: these by Holm for all systems that are compared with the best
    one; lead: how far the mean is above that of the best other system, gain: as a share of it, None where it is 0;
    difference: the mean difference to it in what is tested.
    """

    values: list[float]
    mean: float
    sd: float | None
    low: float
    high: float
    against: str = ""
    p_t: float | None = None
    p_wilcoxon: float | None = None
    holm_t: float | None = None
    holm_wilcoxon: float | None = None
    lead: float | None = None
    gain: float | None = None
    difference: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the corrected t-test tells it apart from `against` at the level of .05 (the paper's), and in the
        direction in which the means differ: these may be over other seeds, or several targets of a user."""
        agrees = (self.lead or 0.0) * (self.difference or 0.0) > 0
        return agrees and self.holm_t is not None and self.holm_t < LEVEL

    @property
    def significant(self) -> bool:
        """Whether it is clearly ahead of all others."""
        return (self.lead or 0.0) > 0 and self.clear


Systems = Mapping[str, dict[str, dict[str, Score]]]
"""data set -> system -> metric -> its Score."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """What `bbqrec benchmark --json` prints.

    data, systems: by the data set's name, '' where the suite's one has none; cells, tokenizers, data, provenance: see
    `benchmark.results`; published: numbers of others. For the page only: layouts, the tables of systems, each with the
    scores of its own systems, whose tests are among these; asked: whether the suite asks for them; text: the suite's;
    notes: what must be known of the whole;
    slices, examples: see `benchmark.slicing` and `benchmark.examples`;
    tunings: a data set's name -> the trials on it;
    curves, fits: what the trainings of systems and of tokenizers reported by epoch.
    """

    suite: str
    output: Path
    report: Path | None
    split: str
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    data: Mapping[str, dict[str, Any]]
    systems: Systems
    cells: list[dict[str, Any]]
    tokenizers: list[dict[str, Any]]
    published: tuple[Published, ...]
    provenance: dict[str, Any]
    command: str
    text: str
    layouts: tuple[tuple[Layout, Systems], ...]
    asked: bool
    curves: AllCurves
    fits: AllCurves
    tunings: Mapping[str, TuneResult] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    slices: tuple[Sliced, ...] = ()
    examples: tuple[SideBySide, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values. A data set without a name stands there without the level of the names."""
        report = str(self.report) if self.report else None
        own = {"output": str(self.output), "report": report, "metrics": list(self.metrics), "seeds": list(self.seeds)}
        tuning = {name: each.to_json()["systems"] for name, each in self.tunings.items()}
        values = dataclasses.asdict(self) | own | {"tuning": tuning}
        values |= {"failed": len(self.of("failed")), "left": len(self.of("left"))}
        if set(self.data) == {""}:
            values |= {key: values[key].get("", {}) for key in ("data", "systems", "tuning")}
        return {name: value for name, value in values.items() if name not in PAGE_ONLY}

    def of(self, status: str) -> list[dict[str, Any]]:
        """The cells of a status: done, failed or left."""
        return [cell for cell in self.cells if cell["status"] == status]

    def check(self) -> None:
        """Raises: DataError: a cell failed."""
        if failed := self.of("failed"):
            what = f"{len(failed)} of {len(self.cells)} cells failed"
            raise DataError(
                f"{what}, the first is {failed[0]['name']}: {failed[0]['error']}",
                "mend it and give the same command again, a page with --force: what is done stays done",
            )
