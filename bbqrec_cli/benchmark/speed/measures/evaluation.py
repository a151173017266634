"""Full ranking by a model that scores every item. I items, U users."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


def own(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """`bbqrec evaluate` of a SASRec with new weights; units are users."""
    from bbqrec_cli.evaluation.protocol import target_ranks

    model, held = made(job)

    def rank() -> float:
        target_ranks(model, held, depth=10, beam=0, device=torch.device("cpu"))
        return len(held.users)

    return rank, {}


def plain(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """The same with all scores of a batch in one matrix and torch's `topk`, which leaves the order of ties open."""
    from bbqrec_cli.data.batches import held_out_batches

    model, held = made(job)

    @torch.no_grad()
    def rank() -> float:
        for _, batch in held_out_batches(held, 256):
            users = torch.arange(len(batch.items))
            (model.states(batch)[users, batch.lengths - 1] @ model.items().T).topk(10)
        return len(held.users)

    return rank, {}


def made(job: dict[str, Any]) -> tuple[Any, Any]:
    """The model, and the held-out users: of the IDs' catalogue, or with `drawn` random ones of that many items."""
    from bbqrec_cli.data.splits import split_of
    from bbqrec_cli.hdf5 import read_catalogue
    from bbqrec_cli.models.registry import build_model, model_config, model_settings
    from bbqrec_cli.records import ItemData, Sequences, Vocabulary
    from bbqrec_cli.seeds import seed_torch

    if items := job.get("drawn"):
        rows = np.random.default_rng(job["seed"]).integers(0, items, (job["asked"], 10)).astype(np.int32)
        sequences = Sequences(indptr=np.arange(len(rows) + 1) * 10, items=rows.ravel())
    else:
        catalogue = read_catalogue(Path(job["folder"], job["ids"]))
        items, sequences = catalogue.items, catalogue.sequences
    settings = model_settings(model_config("sasrec", job["options"]))
    seed_torch(job["seed"], "weights")
    model = build_model("sasrec", settings, ItemData(ids=Vocabulary(map(str, range(items)))))
    return model.eval(), split_of(sequences, history=model.history).test.first(job["asked"])
