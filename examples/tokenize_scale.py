"""How tokenizing grows with the catalogue, as a table in Markdown, on synthetic vectors (a mixture of Gaussians).

python examples/tokenize_scale.py 1000000 10000000 > tokenize-scale.md

For each number of items: a features file, `bbqrec tokenize --method rqkmeans` fitted on all of them, on few of them
(`--fit-items`), or on few and then `--append` of the others, and `bbqrec collisions`. The files are made in a folder
that is removed again; 10 million items take about 7 GB of disk and 8 GB of memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bbqrec_cli.hdf5 import write_features
from bbqrec_cli.origin import commit, processor
from bbqrec_cli.records import Catalogue, Feature, Features, Sequences

WIDTH, CLUSTERS, BLOCK = 32, 5000, 1 << 18
KNOWN = 100_000
"""Items that a tokenizer of few is fitted on (a tenth of the items, where there are fewer than a million)."""
OPTIONS = ["--method", "rqkmeans", "--levels", "4", "--codebook-size", "256", "--dim", "0", "--on-collision", "share"]
NOTE = """Vectors of width {width} in {clusters:,} clusters; seconds are of one core's work. k-means looks at a sample
(256 vectors per code), codes are given in blocks. *Peak*: memory of the whole process, ids and
features included."""


def vectors(items: int) -> np.ndarray:
    """(items, WIDTH) float32, made in blocks; fewer items are the first of more."""
    centres = np.random.default_rng(0).normal(size=(CLUSTERS, WIDTH)).astype(np.float32)
    made = np.empty((items, WIDTH), dtype=np.float32)
    for start in range(0, items, BLOCK):
        rng, part = np.random.default_rng([1, start]), made[start : start + BLOCK]
        part[:] = centres[rng.integers(0, CLUSTERS, BLOCK)[: len(part)]]
        part += 0.3 * rng.standard_normal((BLOCK, WIDTH), dtype=np.float32)[: len(part)]
    return made


def write(path: Path, items: int) -> None:
    """A features file; its few users are only there because a file has some."""
    catalogue = Catalogue(
        user_ids=["u0"], item_ids=list(map(str, range(items))), titles=[""] * items,
        sequences=Sequences.from_lists([[0, 1, 2, 3, 4]]),
    )  # fmt: skip
    feature = Feature(values=vectors(items), present=np.ones(items, dtype=bool), encoder="synthetic")
    write_features(path, Features(catalogue=catalogue, features={"text": feature}), config={})


def measured(
    command: list[str], *, program: Sequence[str] = ("-m", "bbqrec_cli"), folder: str | None = None
) -> tuple[dict, float, float]:  # fmt: skip
    """What a command prints as JSON, its seconds of work and its peak of memory in MB.

    program: what Python runs it with; folder: where, by default here.
    """
    words, one = [sys.executable, *program, *command, "--json", "--quiet"], os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=one, cwd=folder) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: bbqrec {' '.join(command)} ended with status {process.returncode}")
    peak = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return json.loads(said), usage.ru_utime + usage.ru_stime, peak


def row(items: int) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        features, known, tokens, sampled, few, grown = (
            Path(folder) / f"{name}.h5" for name in ("all", "known", "t", "s", "few", "g")
        )
        # Elsewhere, since the memory of this process would count as that of those that it starts.
        for path, count in ((features, items), (known, min(KNOWN, items // 10))):
            subprocess.run([sys.executable, __file__, "--write", str(path), str(count)], check=True)
        size = features.stat().st_size / 1e6
        plain = ["tokenize", str(features), *OPTIONS, "--threads", "1", "-o"]
        made = measured([*plain, str(tokens)])
        bounded = measured([*plain, str(sampled), "--fit-items", str(min(KNOWN, items // 10))])
        measured(["tokenize", str(known), "-o", str(few), *OPTIONS, "--threads", "1"])
        append = ["tokenize", "--append", str(few), str(features), "-o", str(grown), "--on-collision", "share"]
        later = measured([*append, "--threads", "1"])
        found = measured(["collisions", str(tokens), "--groups", "3"])
    runs = (made, bounded, later, found)
    assert all(run[0]["items"] == items for run in runs)
    cells = [f"{items:,}", f"{size:,.1f}", *(f"{each:,.0f}" for run in runs for each in run[1:])]
    return f"| {' | '.join(cells)} | {found[0]['colliding_items']:,} |"


def main(numbers: list[str]) -> None:
    """Print the page."""
    command = f"python examples/tokenize_scale.py {' '.join(numbers)}"
    print(f"<!-- Generated by `{command}`. Do not edit: run it again. -->\n")
    print(f"# Tokenizing many items\n\nGenerated by `{command}`; do not edit this file.\n")
    print(f"`bbqrec tokenize {' '.join(OPTIONS)}`")
    print(f"fitted on all items; the same with `--fit-items {KNOWN}`, or a tenth of them where that is less; the same")
    print("of as many items, and the others by `--append`; `bbqrec collisions` of the first.\n")
    names = ("tokenize", "fit-items", "append", "collisions")
    columns = ("items", "features, MB", *(f"{what}, s | peak, MB" for what in names))
    print(f"| {' | '.join(columns)} | colliding |")
    print(f"|{' ---: |' * 11}")
    for items in map(int, numbers):
        print(row(items), flush=True)
    print(f"\n{NOTE.format(width=WIDTH, clusters=CLUSTERS)}")
    print(f"One thread of {processor()}; commit {commit() or 'not known'}.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(sys.argv[1:])
