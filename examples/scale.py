"""How every stage grows with users and items, as a page in Markdown with fitted slopes.

python examples/scale.py 10000 100000 1000000 > scale.md

For each number, a log of as many users and items and ten times as many interactions, and a vector per item; with them
the whole chain by the commands themselves: preparing, tokenizing, training, evaluating. What would take hours is cut
short (`bounded`), and the page says how. The files are made in a folder that is removed again; a million items take
about 10 GB of disk and of memory.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tokenize_scale import measured

from bbqrec_cli.origin import commit, processor

LENGTH = 10
"""Interactions per user."""
STEPS, USERS, BEAM = 8, 256, 20
TRAIN = ["--epochs", "1", "--validation-users", "100", "--width", "64", "--precision", "fp32", "--threads", "1"]
TEST = ["--precision", "fp32", "--threads", "1"]
RUNS: list[tuple[str, list[str], str]] = [
    ("`prepare table`", ["prepare", "table", "log.csv", "-o", "dataset.h5"], ""),
    ("`embed --vectors`", ["embed", "dataset.h5", "--vectors", "text=v.npy", "--ids", "ids.txt", "-o", "f.h5"], ""),
    ("`tokenize`", ["tokenize", "f.h5", "--epochs", "1", "--warmup-epochs", "0", "-o", "t.h5", *TEST], "training step"),
    ("`collisions`", ["collisions", "t.h5"], ""),
    ("`train --model markov`", ["train", "t.h5", "--model", "markov", "-o", "markov.h5", *TRAIN[2:4]], ""),
    (
        "`train --model sasrec --loss gbce`",
        ["train", "t.h5", "--model", "sasrec", "--loss", "gbce", "-o", "sasrec.h5", *TRAIN], "training step",
    ),
    ("`train --model bbqrec`", ["train", "t.h5", "--model", "bbqrec", "-o", "bbqrec.h5", *TRAIN], "training step"),
    ("`evaluate`, markov", ["evaluate", "markov.h5", "-o", "m.h5", *TEST], "user"),
    ("`evaluate`, sasrec", ["evaluate", "sasrec.h5", "-o", "m.h5", *TEST], "user"),
    (f"`evaluate --beam {BEAM}`, bbqrec", ["evaluate", "bbqrec.h5", "--beam", str(BEAM), "-o", "m.h5", *TEST], "user"),
]  # fmt: skip
"""What the page calls it, the command, and what it does one by one."""
NOTE = f"""Seconds are of one core's work, starting and reading included; *peak*: memory of the whole process. A slope
is that of a line through the logarithms of cost and size at the last two sizes, where starting weighs least: 1 is a
cost that grows as users and items do.

What is bounded, at every size alike:

- An epoch is cut to its first {STEPS} steps. `tokenize` and `train` do all that is done once per run or per epoch
  (reading, k-means, codes of all items, collisions, validation, writing), but only so many steps. A whole epoch has as
  many more steps as there are more users, at the cost per step of the second table: `train` takes about 3,900 for a
  million users.
- Validation is on 100 users in `train`. In `tokenize` it is, as always, on so many that they compare about a billion
  pairs with items: on all of 10,000 users, on one in nine of 100,000, on about a thousand of a million.
- `evaluate` ranks {USERS} of the users, evenly spaced.

k-means looks at 256 vectors per code, as always, and all items get codes. Other tokenizers are on
[a page of their own](tokenize-scale.md). Every item has training interactions here: the ID signal of an item without
any is the mean over the most similar items that have some, at a cost that grows with the number of both.

A training step of `sasrec`, and of BBQRec's tokenizer, has a part that grows with the catalogue: AdamW moves the whole
item table at every step, whoever is in the batch. So a whole epoch grows with users × items there; a larger
`--batch-size` needs fewer steps. `sasrec` compares every user that is evaluated with every item, so its cost per user
grows with the catalogue. Generating an ID does not compare items."""


def write(folder: Path, size: int) -> None:
    """log.csv, v.npy and ids.txt: every item is in the log, and items that follow each other are often alike."""
    from bbqrec_cli.benchmark.speed.measures.data import NEAR, vectors_of

    rng = np.random.default_rng(0)
    made = rng.permutation(size)[(size * rng.random((size, LENGTH)) ** 2).astype(np.int64)]
    near, apart = rng.random(made.shape) < NEAR, rng.integers(1, 4, made.shape)
    for step in range(1, LENGTH):
        made[:, step] = np.where(near[:, step], (made[:, step - 1] + apart[:, step]) % size, made[:, step])
    made[:, 0] = rng.permutation(size)
    with open(folder / "log.csv", "w", encoding="utf-8") as stream:
        stream.write("user,item,timestamp\n")
        for user, rows in enumerate(made.tolist()):
            stream.writelines(f"u{user},i{row},{when}\n" for when, row in enumerate(rows))
    np.save(folder / "v.npy", vectors_of(size, 0))
    (folder / "ids.txt").write_text("".join(f"i{row}\n" for row in range(size)), encoding="utf-8")


def bounded(times: str, command: list[str]) -> None:
    """Run a command of bbqrec with epochs and evaluation cut short.

    To `times` go the seconds of work of each training step, and those per user of each ranking.
    """
    from bbqrec_cli.cli.app import main as bbqrec

    seconds: dict[str, list[float]] = {"training step": [], "user": []}
    if command[0] in ("tokenize", "train", "evaluate"):
        cut_short(seconds)
    sys.argv = ["bbqrec", *command]
    try:
        bbqrec()
    finally:
        Path(times).write_text(json.dumps(seconds), encoding="utf-8")


def cut_short(seconds: dict[str, list[float]]) -> None:
    """Cut epochs and evaluation short, and add to `seconds` what they take."""
    from bbqrec_cli.data import batches, splits
    from bbqrec_cli.evaluation import protocol
    from bbqrec_cli.training import trainer

    whole_epoch, whole_split = batches.WindowBatches.epoch, splits.split_of
    step, target_ranks = trainer.step, protocol.target_ranks

    def epoch(self: Any, number: int) -> Any:
        made: Any = whole_epoch(self, number)
        return batches.Epoch(made.groups[:STEPS], made.make)

    def split_of(*given: Any, **named: Any) -> Any:
        made = whole_split(*given, **named)
        return dataclasses.replace(made, test=splits.subsample_users(made.test, min(USERS, len(made.test.users))))

    def timed_step(*given: Any) -> Any:
        began = time.process_time()
        done = step(*given)
        seconds["training step"].append(time.process_time() - began)
        return done

    def timed_ranks(model: Any, held: Any, **named: Any) -> Any:
        began = time.process_time()
        done = target_ranks(model, held, **named)
        seconds["user"].append((time.process_time() - began) / len(held.users))
        return done

    setattr(batches.WindowBatches, "epoch", epoch)  # noqa: B010
    splits.split_of, trainer.step, protocol.target_ranks = split_of, timed_step, timed_ranks


def chain(size: int) -> list[tuple[float, float, float]]:
    """Of each of RUNS: seconds, MB, and milliseconds per step or user."""
    found, program = [], [str(Path(__file__).resolve())]
    with tempfile.TemporaryDirectory() as folder:
        # Elsewhere, since the memory of this process would count as that of those that it starts.
        subprocess.run([sys.executable, *program, "--write", folder, str(size)], check=True)
        for _, command, each in RUNS:
            run = [*program, "--bounded", "times.json"]
            _, seconds, peak = measured([*command, "--force"], program=run, folder=folder)
            times = json.loads(Path(folder, "times.json").read_text(encoding="utf-8"))
            # `evaluate` ranks a batch to warm up, and then all.
            own = times["user"][-1:] if each == "user" else times.get(each, [])
            found.append((seconds, peak, 1e3 * float(np.median(own)) if own else 0.0))
            print(
                f"{size:,}: {' '.join(command[:4])}: {seconds:.1f} s, {peak:,.0f} MB, {found[-1][2]:.3f} ms",
                file=sys.stderr,
                flush=True,
            )
    return found


def slope(sizes: list[int], costs: list[float]) -> float:
    """By least squares, of log cost against log size."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def table(head: list[str], rows: list[list[str]]) -> None:
    """Print a table in Markdown, whose first column is text."""
    print(f"| {' | '.join(head)} |\n| --- |{' ---: |' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def main(numbers: list[str]) -> None:
    """Print the page."""
    sizes = list(map(int, numbers))
    command = f"python examples/scale.py {' '.join(numbers)}"
    found = [chain(size) for size in sizes]

    def grown(run: int, what: int) -> str:
        costs = [of_size[run][what] for of_size in found]
        return f"**{slope(sizes[-2:], costs[-2:]):.2f}**" if len(sizes) > 1 else ""

    print(f"<!-- Generated by `{command}`. Do not edit: run it again. -->\n")
    print(f"# How cost grows\n\nGenerated by `{command}`; do not edit this file.\n")
    print(f"As many users as items, and {LENGTH} interactions per user.\n")
    rows = []
    for number, (name, *_) in enumerate(RUNS):
        cells = [f"{of_size[number][0]:,.1f} | {of_size[number][1]:,.0f}" for of_size in found]
        rows.append([name, " | ".join(cells), f"{grown(number, 0)} | {grown(number, 1)}"])
    columns = [f"{size:,}: s | peak, MB" for size in sizes]
    print("## Whole commands\n")
    head = " | ".join(["users and items", *columns, "slope of s | slope of peak"]).split(" | ")
    table(head, rows)
    print("\n## One by one\n")
    rows = []
    for number, (name, _, each) in enumerate(RUNS):
        if each:
            cells = [f"{of_size[number][2]:,.2f}" for of_size in found]
            rows.append([f"{name}, per {each}", *cells, grown(number, 2)])
    table(["", *(f"{size:,}: ms" for size in sizes), "slope"], rows)
    print(f"\n{NOTE}")
    print(f"\nOne thread of {processor()}; commit {commit() or 'not known'}.")


if __name__ == "__main__":
    if sys.argv[1] == "--write":
        write(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1] == "--bounded":
        bounded(sys.argv[2], sys.argv[3:])
    else:
        main(sys.argv[1:])
