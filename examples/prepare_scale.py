"""How preparing grows with the log, as a table in Markdown, on synthetic logs in the order of their times.

python examples/prepare_scale.py 1000000 10000000 100000000:pandas > prepare-scale.md

For each number of interactions a CSV file and a Parquet file are made in a folder that is removed again (for 100
million: 4 GB of disk), and the same is done with each by `bbqrec prepare table` and by short scripts in pandas, polars
and DuckDB, as far as they are installed (after a colon: only by bbqrec and those): read, number users and items, sort
by user and time, and leave out users and items of fewer than 5 interactions. bbqrec alone checks every cell, and writes
a file. All must keep the same number of interactions.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bbqrec_cli.origin import commit, processor

PER_USER, PER_ITEM, BLOCK = 20, 200, 1 << 20
"""Interactions per user and per item, on average."""
CORE = 5
START = 1_400_000_000
PANDAS = """
users, items = (pd.factorize(table[name])[0].astype("int32") for name in ("user", "item"))
table = pd.DataFrame({"user": users, "item": items, "timestamp": table["timestamp"]})
table = table.sort_values(["user", "timestamp"], kind="stable")
while True:
    few = table.groupby("user")["user"].transform("size").lt(5) | table.groupby("item")["item"].transform("size").lt(5)
    if not few.any(): break
    table = table[~few]
print(len(table))
"""
POLARS = """
kinds = {name: pl.Categorical(pl.Categories(name)) for name in ("user", "item")}
alive = [pl.Series([], dtype=kind) for kind in kinds.values()]
numbered = [pl.col(name).cast(kind).to_physical() for name, kind in kinds.items()]
table = table.select(*numbered, "timestamp").collect(engine="streaming")
table = table.lazy().sort("user", "timestamp", maintain_order=True).collect(engine="streaming")
while True:
    left = table.lazy().filter((pl.len().over("user") >= 5) & (pl.len().over("item") >= 5)).collect(engine="streaming")
    if len(left) == len(table): break
    table = left
print(len(table))
"""
DUCKDB = """
do = lambda text: duckdb.execute(text)
do("set enable_progress_bar = false")
do(f"set temp_directory = '{path}.temporary'")
do(f"create temp table log as select * from '{path}'")
for name in ("user", "item"):
    do(f'create temp table {name}s as select "{name}" id, row_number() over () - 1 as row from log group by "{name}"')
do('''create temp table kept as select users.row u, items.row i, timestamp t
    from log join users on log.user = users.id join items on log.item = items.id order by u, t''')
do("drop table log")
while True:
    do('''create or replace temp table fewer as select * from kept
        where u in (select u from kept group by u having count(*) >= 5)
        and i in (select i from kept group by i having count(*) >= 5)''')
    before, after = (do(f"select count(*) from {name}").fetchone()[0] for name in ("kept", "fewer"))
    if before == after: break
    do("drop table kept"); do("alter table fewer rename to kept")
print(before)
"""
SCRIPTS = {
    ("pandas", ".csv"): 'import pandas as pd\ntable = pd.read_csv(path, dtype={"user": str, "item": str})' + PANDAS,
    ("pandas", ".parquet"): "import pandas as pd\ntable = pd.read_parquet(path)" + PANDAS,
    ("polars", ".csv"): "import polars as pl\ntable = pl.scan_csv(path, schema_overrides="
    '{"user": pl.String, "item": pl.String})' + POLARS,
    ("polars", ".parquet"): "import polars as pl\ntable = pl.scan_parquet(path)" + POLARS,
    ("duckdb", ".csv"): "import duckdb" + DUCKDB,
    ("duckdb", ".parquet"): "import duckdb" + DUCKDB,
}
NOTE = """*s*: wall time; *work*: seconds of all threads together; *peak*: memory of the whole process. The
scripts are in [the example](../../examples/prepare_scale.py). They number, sort and filter as bbqrec does, but neither
check cells nor write a file. Each process may take half of the machine's memory; *failed*: that was not enough.

bbqrec reads files through polars, a block at a time: about the same work as in DuckDB, in less memory, and columns
become arrays without a copy, while DuckDB hands texts to Python as objects."""


def blocks(count: int) -> Iterator[dict[str, np.ndarray]]:
    """A log of `count` rows in the order of time: users unevenly, items by Zipf's law."""
    users, items = max(1, count // PER_USER), max(1, count // PER_ITEM)
    weights = np.cumsum(1 / (np.arange(items) + 10))
    for start in range(0, count, BLOCK):
        rng, size = np.random.default_rng([0, start]), min(BLOCK, count - start)
        yield {
            "user": (users * rng.random(size) ** 3).astype(np.int64) + 1,
            "item": np.searchsorted(weights, rng.random(size) * weights[-1]) * 7919 % items,
            "timestamp": START + (np.arange(start, start + size) + rng.integers(0, 100, size)) // 4,
        }


def write(folder: Path, count: int) -> tuple[Path, Path]:
    """The log as CSV and as Parquet; ids such as u17 and item-0000017."""
    import polars as pl

    text, columns = folder / "log.csv", folder / "log.parquet"
    with open(text, "wb") as stream:
        for number, block in enumerate(blocks(count)):
            named = pl.DataFrame(block).with_columns(
                user=pl.lit("u") + pl.col("user").cast(pl.String),
                item=pl.lit("item-") + pl.col("item").cast(pl.String).str.zfill(7),
            )
            named.write_csv(stream, include_header=not number)
    pl.scan_csv(text).sink_parquet(columns)
    return text, columns


def limited() -> None:
    """Limit a process to half of the machine's memory, so that one that takes too much fails alone."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_DATA, (memory // 2, memory // 2))


def measured(command: list[str]) -> tuple[str, float, float, float]:
    """What a command prints, its seconds, its seconds of work on all threads, and its peak of memory in MB."""
    begin = time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, preexec_fn=limited) as process:
        assert process.stdout is not None
        said = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        print(f"{' '.join(command)[:60]} … ended with status {process.returncode}", file=sys.stderr)
        return "", 0, 0, 0
    peak = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return said, time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, peak


def row(tool: str, path: Path, count: int) -> str:
    """A row of the table."""
    if tool == "bbqrec":
        command = ["-m", "bbqrec_cli", "prepare", "table", str(path), "-o", str(path.parent / "dataset.h5"), "--force"]
        command += ["--min-user-interactions", str(CORE), "--min-item-interactions", str(CORE), "--json", "--quiet"]
    else:
        command = ["-c", f"path = {str(path)!r}\n{SCRIPTS[tool, path.suffix]}"]
    said, seconds, work, peak = measured([sys.executable, *command])
    kept = json.loads(said or "null")
    kept = kept["interactions"] if isinstance(kept, dict) else kept
    numbers = f"{seconds:,.1f} | {work:,.1f} | {peak:,.0f} | {kept:,}" if said else "failed | | | "
    return f"| {count:,} | {path.suffix[1:]} | {path.stat().st_size / 1e6:,.0f} | {tool} | {numbers} |"


def main(numbers: list[str]) -> None:
    """Print the page."""
    command = f"python examples/prepare_scale.py {' '.join(numbers)}"
    print(f"<!-- Generated by `{command}`. Do not edit: run it again. -->\n")
    print(f"# Preparing long logs\n\nGenerated by `{command}`; do not edit this file.\n")
    print(f"`bbqrec prepare table log.csv --min-user-interactions {CORE} --min-item-interactions {CORE}`,")
    print("and the same in pandas, polars (streaming) and DuckDB.\n")
    print("| interactions | file | MB | program | s | work, s | peak, MB | kept |")
    print("| ---: | --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for number in numbers:
        count, _, named = number.partition(":")
        tools = [tool for tool in (named or "pandas,polars,duckdb").split(",") if importlib.util.find_spec(tool)]
        with tempfile.TemporaryDirectory() as folder:
            for path in write(Path(folder), int(count)):
                for tool in ("bbqrec", *tools):
                    print(row(tool, path, int(count)), flush=True)
    print(f"\n{NOTE}")
    print(f"{os.cpu_count()} threads of {processor()}; commit {commit() or 'not known'}.")


if __name__ == "__main__":
    main(sys.argv[1:])
