"""Ranking the held-out users' next items with a trained generator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def own(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """As `bbqrec evaluate` does it; units are users. job: model, beam (0: exact), asked (users)."""
    from bbqrec_cli.data.splits import split_of
    from bbqrec_cli.evaluation.protocol import target_ranks
    from bbqrec_cli.hdf5 import read_model
    from bbqrec_cli.models.registry import load_model

    trained = read_model(Path(job["folder"], f"{job['model']}.h5"))
    model, device = load_model(trained, torch.device("cpu")), torch.device("cpu")
    held = split_of(trained.catalogue.sequences, history=model.history).test.first(job["asked"])

    def rank() -> float:
        target_ranks(model, held, depth=10, beam=job["beam"], device=device)
        return len(held.users)

    return rank, {}
