"""Makes docs/first-hour.md, a transcript of real commands: python docs/first_hour.py FOLDER

FOLDER is where they run, and must be empty or new. Times, dates and checksums are left out, so that the page changes
only with what the program says.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

PAGE = Path(__file__).with_name("first-hour.md")
WIDTH = 100
HEAD = """# The first hour

<!-- Made by `python docs/first_hour.py FOLDER`; change the program or that script, not this page. -->

What the commands print, from the demo to a table of your own. Everything below was typed and printed as it stands, on
one thread of a laptop-sized machine; times are left out (`…`), and so are the epochs in the middle. On another machine
the last digits may differ. [The quickstart](quickstart.md) explains the steps, [data.md](data.md) the tables.
"""


def demo() -> list[str]:
    """The chain on the demo's small shop."""
    return [
        "## The demo",
        "$ bbqrec prepare demo --size small",
        "$ bbqrec embed",
        "Without `--codebook-size` the codebooks fit the catalogue.",
        "$ bbqrec tokenize",
        "How many items share an ID, and after how many levels:",
        "$ bbqrec collisions",
        "## An interruption",
        "Ctrl-C after some epochs loses nothing:",
        "^C bbqrec train",
        "The same command with `--resume` finishes that run, to the same numbers as if it had never stopped. It is not "
        "a way to train longer: that is `--from` ([generator.md](generator.md#going-on-with-a-model)), or a run anew "
        "with more `--epochs`, whose learning rate follows their number.",
        "$ bbqrec train --resume",
        "## How good is it?",
        "$ bbqrec train --model popularity -o popularity.h5",
        "$ bbqrec evaluate popularity.h5 -o popularity-metrics.h5 --quiet",
        "$ bbqrec evaluate --against popularity-metrics.h5",
        "## Recommendations",
        "What a user has interacted with is left out; `--include-seen` keeps it.",
        "$ bbqrec recommend --user user-0001 --top 3",
    ]


def own() -> list[str]:
    """Tables as people have them."""
    return [
        "## A table of your own",
        "Columns go by many names, and times by several units. bbqrec says what it took for what:",
        "$ head -n 2 ratings.csv log.csv orders.csv",
        "$ bbqrec prepare table ratings.csv -o ratings.h5",
        "$ bbqrec prepare table log.csv -o log.h5",
        "$ bbqrec prepare table orders.csv -o orders.h5",
        "A file without a line of names:",
        "$ head -n 2 plain.csv",
        "$ bbqrec prepare table plain.csv -o plain.h5",
        "## An error, and its mending",
        "$ head -n 2 clicks.csv",
        "$ bbqrec prepare table clicks.csv -o clicks.h5",
        "The lines of each user stand in their order, so:",
        "$ bbqrec prepare table clicks.csv -o clicks.h5 --order file",
        "An option that a model does not have:",
        "$ bbqrec train ratings.h5 --model markov -o markov.h5 --epochs 5",
        "$ bbqrec train ratings.h5 --model markov -o markov.h5",
        "$ bbqrec recommend markov.h5 --user 1 --top 3",
        "What a file is, and what it was made from:",
        "$ bbqrec inspect markov.h5",
    ]


def main() -> None:
    """Write the page."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "bin" / "bbqrec"
    program.parent.mkdir()
    start = "import sys; from bbqrec_cli.cli.app import main; sys.argv[0] = 'bbqrec'; main()"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{start}" "$@"\n')
    program.chmod(0o755)
    PAGE.write_text(transcript(folder, program.parent), encoding="utf-8")


def transcript(folder: Path, programs: Path) -> str:
    """The page. programs: the folder of the `bbqrec` to run."""
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "COLUMNS": str(WIDTH)}
    parts = [HEAD]
    for number, script in enumerate((demo(), own())):
        if number:
            write_tables(folder)
        for line in script:
            mark, _, command = line.partition(" ")
            if mark == "$":
                said = run(command, folder, environment)
            elif mark == "^C":
                said = interrupt(command, folder, environment)
            else:
                parts.append(textwrap.fill(line, 120) + "\n")
                continue
            parts.append(f"```text\n$ {command}\n{said}```\n")
    return "\n".join(parts)


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    """What a command prints, on both streams."""
    done = subprocess.run(
        shlex.split(command), cwd=folder, env=environment, text=True, check=False, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    return stable(done.stdout)


def interrupt(command: str, folder: Path, environment: dict[str, str], epochs: int = 3) -> str:
    """What a command prints that is interrupted after some epochs."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs would pass on that it is ignored
    with subprocess.Popen(
        shlex.split(command), cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith(f"epoch {epochs}/"):
                process.send_signal(signal.SIGINT)
                lines.append("^C\n")
    return stable("".join(lines))


def stable(said: str) -> str:
    """Without times, and without the epochs in the middle."""
    said = re.sub(r",? at most [\d.]+ (?:s|min) left", "", said)
    said = re.sub(r"\b[\d.]+(e-\d+)? (s|ms per user)\b", r"… \2", said)
    said = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "… UTC", said)
    said = re.sub(r"sha256 [0-9a-f]+…", "sha256 …", said)
    said = re.sub(r"commit [0-9a-f]{12}", "commit …", said)
    said = "".join(f"{line.rstrip()}\n" for line in said.splitlines()).strip("\n")
    return "".join(f"{line}\n" for line in shortened(said.splitlines()))


def shortened(lines: Sequence[str]) -> Iterator[str]:
    """Of more than four epochs in a row, the first two and the last."""
    epochs: list[str] = []
    for line in [*lines, None]:
        if line is not None and re.match(r"epoch \d+/", line):
            epochs.append(line)
            continue
        yield from epochs if len(epochs) <= 4 else [*epochs[:2], "…", epochs[-1]]
        epochs = []
        if line is not None:
            yield line


Row = tuple[int, int, int, int]
"""User, item, seconds since 1970, rating."""
TABLES: dict[str, tuple[str, Callable[[Row], tuple[object, ...]]]] = {
    "ratings.csv": ("userId,movieId,rating,timestamp", lambda row: (row[0], row[1], row[3], row[2])),
    "clicks.csv": ("user_id,item_id", lambda row: row[:2]),
    "log.csv": ("uid,iid,ts", lambda row: (*row[:2], 1000 * row[2])),
    "orders.csv": ("Customer,Product,Date", lambda row: (*row[:2], date(1970, 1, 1) + timedelta(seconds=row[2]))),
    "plain.csv": ("", lambda row: row[:3]),
}


def write_tables(folder: Path) -> None:
    """The demo's interactions as five tables, with a day between two of a user."""
    from bbqrec_cli.hdf5 import read_catalogue

    sequences = read_catalogue(folder / "dataset.h5").sequences
    rows = [
        (user, int(item) + 1, 1_600_000_000 + 1000 * user + 86_400 * day, 1 + (user + int(item)) % 5)
        for user, own in enumerate(sequences, 1)
        for day, item in enumerate(own)
    ]
    for name, (head, cells) in TABLES.items():
        lines = [head] * bool(head) + [",".join(map(str, cells(row))) for row in rows]
        (folder / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
