"""What a part of the check has found: comparisons with their tolerances, tables of measurements, what was skipped."""

from __future__ import annotations

import dataclasses
import json
import math
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison; cpu and device: what was found there ('' where only the difference is of interest)."""

    what: str
    cpu: str
    device: str
    difference: str
    tolerance: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Table:
    """Measurements, which nothing is asked of."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(kw_only=True)
class Report:
    """error: the last line of what ended the part before its time, '' if nothing did."""

    part: str
    seconds: float = 0.0
    error: str = ""
    checks: list[Check] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def failures(self) -> int:
        """Comparisons beyond their tolerance; a part that ended before its time is one more."""
        return bool(self.error) + sum(not check.passed for check in self.checks)

    def near(
        self, what: str, cpu: float, device: float, *, absolute: float | None = None, relative: float = 0.0
    ) -> None:
        """Whether two numbers agree: by their difference, or by its share of the CPU's."""
        off = abs(device - cpu)
        share = off / max(abs(cpu), 1e-30) if off else off
        if absolute is not None:
            self._add(what, f"{cpu:.5g}", f"{device:.5g}", f"{off:.2g}", f"≤ {absolute:g}", off <= absolute)
        else:
            wanted = f"≤ {relative:g}, relative"
            self._add(what, f"{cpu:.6g}", f"{device:.6g}", f"{share:.1e}", wanted, share <= relative)

    def most(self, what: str, share: float, least: float, *, measured: str = "") -> None:
        """Whether a share is large enough; measured: of what the least one came, where it is no constant."""
        wanted = f"≥ {least:.3f}" + (f" ({measured})" if measured else "")
        self._add(what, "", "", f"{share:.4f} agree", wanted, share >= least)

    def small(self, what: str, error: float, largest: float) -> None:
        """Whether a relative error is small enough."""
        self._add(what, "", "", f"{error:.1e}", f"≤ {largest:g}, relative", error <= largest)

    def true(self, what: str, found: str, passed: bool, *, wanted: str) -> None:
        """Anything else."""
        self._add(what, "", found, "", wanted, passed)

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """What raises in it has failed, and the part goes on."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.true(what, said(error), False, wanted="no exception")

    def _add(self, what: str, cpu: str, device: str, difference: str, tolerance: str, passed: bool) -> None:
        # A comparison with NaN is never true.
        self.checks.append(
            Check(what=what, cpu=cpu, device=device, difference=difference, tolerance=tolerance, passed=bool(passed))
        )

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1), encoding="utf-8")


def said(error: BaseException) -> str:
    """An exception in a line."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"


def read_report(path: Path) -> Report:
    """What `Report.write` wrote."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found["checks"] = [Check(**each) for each in found["checks"]]
    found["tables"] = [Table(**each) for each in found["tables"]]
    return Report(**found)


def relative_error(found: Sequence[Any], wanted: Sequence[Any]) -> float:
    """|found - wanted| / |wanted| of arrays taken together, in float64."""
    import numpy as np

    off = sum(float(np.square(np.subtract(a, b, dtype=np.float64)).sum()) for a, b in zip(found, wanted, strict=True))
    size = sum(float(np.square(np.asarray(b, dtype=np.float64)).sum()) for b in wanted)
    return math.sqrt(off / size) if size else math.sqrt(off)
