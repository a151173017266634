"""The table of two systems side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bbqrec_cli.pages.tables import Table, make


def against_table(means: Mapping[str, float], found: Mapping[str, Mapping[str, Any]], against: str) -> Table:
    """Both means, their difference with its interval, and the tests.

    Args:
        means: metric -> this system's mean.
        found: of `stages.evaluate.compare`; the other file may lack a k.
        against: the other file's name.
    """
    rows = []
    for name, mean in means.items():
        row = [name, f"{mean:.4f}"]
        if each := found.get(name):
            interval = "{:+.4f} … {:+.4f}".format(*each["confidence"])
            row += [f"{each['against']:.4f}", f"{each['difference']:+.4f}", interval]
            row += [f"{each['t_test']:.2g}", f"{each['wilcoxon']:.2g}"]
        rows.append(row + [""] * (7 - len(row)))
    columns = ("metric", "mean", "theirs", "difference", "95% interval", "p, t-test", "p, Wilcoxon")
    return make(f"against {against}", columns, rows)
