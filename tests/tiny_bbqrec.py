"""`bbqrec` with everything small, for tests that run examples and snippets of the docs as they stand.

The flags that make a command quick are put after those that were given, so they win.
"""

from __future__ import annotations

import sys

from bbqrec_cli.cli.app import main

SMALL = {
    "tokenize": ["--epochs", "2", "--warmup-epochs", "1", "--codebook-size", "16", "--dim", "16", "--hidden", "16"],
    "train": ["--epochs", "1", "--width", "16", "--layers", "1", "--heads", "2"],
}


def small(arguments: list[str]) -> list[str]:
    """`arguments` and what makes them quick; popularity, published and --append learn nothing and take none of it."""
    command = arguments[0] if arguments else ""
    if command == "prepare" and "demo" in arguments:
        return [*arguments, "--size", "small"]
    if "--append" in arguments or any(
        "popularity" in each or "published" in each for each in arguments if not each.endswith(".h5")
    ):
        return arguments
    return [*arguments, *SMALL.get(command, ())]


if __name__ == "__main__":
    main(small(sys.argv[1:]))
