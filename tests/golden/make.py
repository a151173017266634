"""Writes one small file of each kind into the folder of its version. Run when a version rises; what is there stays.

python tests/golden/make.py
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli import hdf5
from bbqrec_cli.hdf5.schema import KINDS
from bbqrec_cli.records import (
    Catalogue,
    Codes,
    Dataset,
    Feature,
    Features,
    ItemEncoder,
    Metrics,
    Sequences,
    Splitting,
    Tokens,
    TrainedModel,
)

CATALOGUE = Catalogue(
    user_ids=["ann", "бob"], item_ids=["i1", "i2", "i3"], titles=["Apfel", "", "Äpfel 🍎"],
    sequences=Sequences.from_lists([[0, 1, 2], [2, 0, 1, 2]], [[10, 20, 30], [5, 6, 7, 8]]),
    attributes={"brand": ["a", "b", ""]},
)  # fmt: skip
TEXT = Feature(
    values=np.array([[0.6, 0.8], [0, 0], [1, 0]], dtype=np.float32), present=np.array([True, False, True]),
    encoder="tiny", normalized=True,
)  # fmt: skip
CODES = Codes(
    codes=np.array([[[0, 1], [2, 3]], [[0, 1], [2, 3]], [[3, 2], [1, 0]]], dtype=np.uint16), modalities=("id", "text"),
    method="bbqrec", codebook_size=4, codebooks=np.arange(16, dtype=np.float32).reshape(1, 2, 4, 2),
    item_vectors=np.arange(12, dtype=np.float32).reshape(3, 4),
)  # fmt: skip
HISTORY = [{"epoch": 1, "loss": 0.5}]
DATASET = Dataset(
    catalogue=CATALOGUE, texts=["an apple", "", "apples"], images=[b"\x89PNG", b"", b"GIF"], features={"image": TEXT}
)
MODEL = TrainedModel(
    catalogue=CATALOGUE, name="popularity", settings={"width": 2}, codes=CODES, history=HISTORY,
    weights={"counts": np.array([2, 2, 3], dtype=np.float32)},
)  # fmt: skip
METRICS = Metrics(
    user_ids=["ann", "бob"], ranks=np.array([1, 0]), recall={5: np.array([1, 0], dtype=np.float32)},
    ndcg={5: np.array([1, 0], dtype=np.float32)}, aggregates={"recall@5": 0.5, "ndcg@5": 0.5},
    confidence={"recall@5": (0.0, 1.0), "ndcg@5": (0.0, 1.0)}, model="popularity", split="test",
)  # fmt: skip
TRIAL: dict[str, Any] = {
    "system": "sasrec",
    "model": "sasrec",
    "status": "complete",
    "error": "",
    "finished": "2030-01-02T03:04:05+00:00",
    "number": 1,
    "epochs": 4,
    "best_epoch": 3,
    "seconds": 1.5,
    "options": {"width": 64, "dropout": 0.5, "features": []},
    "tuned": {"width": 64},
    "origin": {"commit": "4e5f", "device": "cpu", "precision": "fp32"},
    "figures": {"ndcg@10": 0.25, "recall@10": 0.5},
}
V1: dict[str, Any] = {
    "dataset": DATASET,
    "features": Features(catalogue=CATALOGUE, features={"text": TEXT}),
    "tokens": Tokens(catalogue=CATALOGUE, codes=CODES, history=HISTORY),
    "model": MODEL,
    "metrics": METRICS,
    "benchmark": {
        "data": {
            "data": {
                "users": ["ann", "бob"],
                "cells": {"bbqrec, seed 0": np.array([1, 0]), "popularity, seed 0": np.array([3, 2])},
            }
        },
        "steps": {"0a1b": {"stage": "train", "label": "bbqrec, seed 0", "status": "done", "seconds": 1.5, "error": ""}},
        "results": {"suite": "tiny", "failed": 0},
    },
    "record": {
        "stage": "train",
        "label": "bbqrec, seed 0",
        "key": "0a1b",
        "inputs": {"input": ["2c3d"]},
        "status": "interrupted",
        "error": "interrupted; 3 epochs are saved",
        "traceback": "",
        "seconds": 1.5,
        "at_least": True,
        "origin": {"commit": "4e5f", "device": "cpu", "precision": "fp32"},
        "process": 77,
        "finished": "2030-01-02T03:04:05+00:00",
        "figures": {"epochs": 3, "validation/ndcg@10": 0.25},
    },
    "tuning": {
        "systems": {"sasrec": {"model": "sasrec", "recipe": "", "tried": {"width": "32, 64"}}},
        "budget": {"trials": 2, "minutes": 0.0},
        "trials": [TRIAL, TRIAL | {"number": 2, "status": "failed", "error": "it diverged", "figures": {}}],
    },
}
CODES2 = dataclasses.replace(CODES, present=np.array([[True, True], [True, False], [True, True]]))
ENCODER = ItemEncoder(
    weights={"text.mean": np.array([0.5, 0.25]), "text.scale": np.array([2.0, np.inf]), "steps": np.array(7)},
    inputs={"text": {"encoder": "tiny", "normalized": True, "width": 2}},
)  # fmt: skip
BY_TIME = Splitting(kind="time", quantiles=(0.5, 0.75), cuts=(8, 20))
SPLIT = dataclasses.replace(
    CATALOGUE, splitting=BY_TIME,
    sequences=dataclasses.replace(CATALOGUE.sequences, parts=np.array([1, 2, 2, 0, 0, 0, 1], dtype=np.uint8)),
)  # fmt: skip
RECORDS: dict[str, dict[str, Any]] = {
    "v1": V1,
    "v2": {
        "dataset": dataclasses.replace(DATASET, catalogue=SPLIT),
        "features": dataclasses.replace(V1["features"], catalogue=SPLIT),
        "tokens": dataclasses.replace(V1["tokens"], codes=CODES2, encoder=ENCODER),
        "model": dataclasses.replace(MODEL, codes=CODES2),
        "metrics": dataclasses.replace(METRICS, cold=np.array([False, True])),
        "benchmark": V1["benchmark"]
        | {
            "data": {
                "toys": V1["benchmark"]["data"]["data"],
                "games": {"users": ["eve"], "cells": {"bbqrec, seed 0": np.array([5])}},
            }
        },
    },
    "v3": {
        "tokens": dataclasses.replace(V1["tokens"], codes=CODES2, encoder=ENCODER, catalogue=SPLIT),
        "model": dataclasses.replace(MODEL, codes=CODES2, features={"text": TEXT}),
        "metrics": dataclasses.replace(
            METRICS,
            exclude_seen=True,
            lists={"coverage@5": 0.75, "popularity@5": 2.5},
            cold=np.array([False, True]),
            history_length=np.array([2, 30]),
            target_interactions=np.array([4, 0]),
        ),
    },
    "v4": {
        "model": dataclasses.replace(
            MODEL, codes=CODES2, catalogue=SPLIT, earlier=[{"history": HISTORY, "validation": {"ndcg@10": 0.25}}]
        ),
        "metrics": dataclasses.replace(
            METRICS,
            cold=np.array([False, True]),
            history_length=np.array([2, 30]),
            target_interactions=np.array([4, 0]),
            targets=["i3", "i1"],
            splitting=BY_TIME,
        ),
    },
}
"""Version -> kind -> what its file says."""
CHECKPOINT = ({"model/weight": np.arange(3)}, {"epoch": 7})
CONFIG = {"seed": 3}


def main(folder: Path) -> None:
    for kind, schema in KINDS.items():
        version = f"v{schema.version}"
        path = folder / version / f"{kind}.h5"
        path.parent.mkdir(exist_ok=True)
        if path.exists():
            continue
        if kind == "checkpoint":
            hdf5.write_checkpoint(path, *CHECKPOINT, config=CONFIG)
        else:
            getattr(hdf5, f"write_{kind}")(path, RECORDS[version][kind], config=CONFIG)


if __name__ == "__main__":
    main(Path(__file__).parent)
