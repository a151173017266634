"""Metrics files side by side: python examples/compare.py metrics.h5 popularity-metrics.h5 …"""

from __future__ import annotations

import sys
from pathlib import Path

from bbqrec_cli.errors import BBQRecError
from bbqrec_cli.hdf5 import read_metrics


def main(paths: list[str]) -> None:
    """Print one row a file, with the 95% interval of each mean."""
    found = [read_metrics(Path(path)) for path in paths]
    names = list(found[0].aggregates)
    print(f"{'model':12}{'split':12}" + "".join(f"{name:>26}" for name in names))
    for metrics in found:
        cells = [
            f"{metrics.aggregates[n]:.4f} ({low:.4f}–{high:.4f})"
            for n in names
            for low, high in [metrics.confidence[n]]
        ]
        print(f"{metrics.model:12}{metrics.split:12}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or ["metrics.h5"])
    except BBQRecError as error:
        sys.exit(f"error: {error.message}")
