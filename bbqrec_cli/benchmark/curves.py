"""What trainings report epoch by epoch. A step's record keeps it; else it is read from its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bbqrec_cli.benchmark.graph import Cell, Step
from bbqrec_cli.errors import BBQRecError
from bbqrec_cli.hdf5 import open_file

FIGURES = ("loss", "ndcg@10", "usage", "colliding_items")
"""Of models the first two (NDCG on validation), of tokenizers loss, the codes in use (the mean over codebooks), and the
items that share their ID."""
Points = Sequence[tuple[int, float]]
"""Epochs, from 1, and a figure's values."""
Curves = Mapping[str, Points]
"""Figure -> its points."""
AllCurves = Mapping[tuple[str, str, int], Curves]
"""(system or tokenizer, data set, seed) -> its curves."""
TRAINED = {"train": "model", "tokenize": "tokens"}
"""Stages that train -> the kind of their outputs."""


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Those of FIGURES that a history reports, with five digits."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in history:
        used = [value for key, value in row.items() if key.startswith("usage/")]
        values = {**row, "usage": sum(used) / len(used)} if used else row
        for name in FIGURES:
            if name in values:
                found.setdefault(name, []).append((int(row["epoch"]), float(f"{values[name]:.5g}")))
    return found


def curves_in(stage: str, output: Path) -> dict[str, list[tuple[int, float]]]:
    """Of a stage's output; {} for a stage that trains nothing, and where the file can not be read."""
    if stage not in TRAINED:
        return {}
    try:
        with open_file(output, TRAINED[stage]) as file:
            return curves(file.attribute("history"))
    except BBQRecError:
        return {}


def of_cells(cells: Sequence[Cell], records: Mapping[str, Mapping[str, Any]], stage: str) -> AllCurves:
    """Of the steps of a stage, 'train' by systems and 'tokenize' by tokenizers; without those that report nothing."""
    steps: dict[tuple[str, str, int], Step] = {}
    for cell in cells:
        step = cell.step(stage)
        if step is not None:
            steps[cell.system if stage == "train" else cell.tokenizer, cell.data, cell.seed] = step
    found: dict[tuple[str, str, int], Curves] = {}
    for key, step in steps.items():
        kept = records.get(step.key, {}).get("curves") or curves_in(stage, step.output)
        if kept:
            found[key] = {name: [(int(epoch), value) for epoch, value in points] for name, points in kept.items()}
    return found
