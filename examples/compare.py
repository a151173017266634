"""Metrics files side by side: python examples/compare.py metrics.h5 popularity-metrics.h5 …"""

from __future__ import annotations

import sys
from pathlib import Path

from bbqrec_cli.errors import BBQRecError
from bbqrec_cli.hdf5 import read_metrics


def main(paths: list[str]) -> None:
    """Print a row for each metric and file: the mean over users and its 95% interval."""
    found = [read_metrics(Path(path)) for path in paths]
    print(f"{'metric':12}{'model':12}{'split':12}{'mean':8}95% interval")
    for name in found[0].aggregates:
        for metrics in found:
            low, high = metrics.confidence[name]
            head = f"{name:12}{metrics.model:12}{metrics.split:12}"
            print(f"{head}{metrics.aggregates[name]:<8.4f}{low:.4f} – {high:.4f}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or ["metrics.h5"])
    except BBQRecError as error:
        sys.exit(f"error: {error.message}")
