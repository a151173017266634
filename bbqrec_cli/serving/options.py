"""Options that every command has that lets a model recommend."""

from __future__ import annotations

from typing import Any

from bbqrec_cli.config import option


def beam_option() -> Any:
    """How a generative model searches: `Wanted.beam`, of type `int | None`."""
    return option(
        None, "Beam width of a generative model; 0: exact, the best of all items. "
        "[default: 50; 0 with heads and --normalisation catalogue]", minimum=0,
    )  # fmt: skip


def unite_option() -> Any:
    """Further models that recommend with the first one (`models/united.py`), of type `tuple[Path, ...]`."""
    return option(
        (), "Another model of the same data: what both recommend is united, by reciprocal ranks; may be repeated.",
        role="input", repeatable=True, complete=".h5",
    )  # fmt: skip
