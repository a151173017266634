"""Training steps of a recommender. B users."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.records import Codes


def own(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """Steps of the trainer, on batches that cost what an epoch does; units are targets."""
    from bbqrec_cli.data.splits import HISTORY, split_of
    from bbqrec_cli.hdf5 import read_item_data
    from bbqrec_cli.models.registry import build_model, model_config, model_settings
    from bbqrec_cli.models.task import RecommenderTask
    from bbqrec_cli.seeds import seed_torch
    from bbqrec_cli.training.trainer import RunSettings, step

    catalogue, data = read_item_data(Path(job["folder"], job["ids"]))
    chosen = model_config(job["model"], fitting(job["model"], job["options"], data.codes))
    settings = model_settings(chosen)
    train = split_of(catalogue.sequences, history=settings.get("history", HISTORY)).train
    seed_torch(job["seed"], "weights")
    model = build_model(job["model"], settings, data)
    model.prepare(train)
    phases = model.phases(train, chosen, seed=job["seed"])
    task, run = RecommenderTask(model, phases, chosen, lambda _: {}), RunSettings(precision="fp32")
    task.before_epoch(0)
    batches = spread(task.batches(0), job["steps"])
    model.train()

    def steps() -> float:
        done = 0
        for batch in batches:
            step(task, run, batch, chosen.learning_rate, "")
            done += batch.weight
        return done

    return steps, {"whole": phases[0].batches.targets}


def fitting(model: str, options: dict[str, Any], codes: Codes | None) -> dict[str, Any]:
    """The options; bbqrec is without similarity where the IDs have no vectors."""
    lacks = model == "bbqrec" and codes is not None and codes.item_vectors is None
    return options | ({"variant": "no-similarity"} if lacks else {})


def spread(batches: Sequence[Batch], steps: int) -> list[Batch]:
    """`steps` of an epoch's full batches, evenly spread from the smallest to the largest; all batches if there are no
    more than that."""
    if steps >= len(batches):
        return list(batches)
    sizes = [(len(batch.items), batch.items.numel()) for batch in batches]
    full = max(rows for rows, _ in sizes)
    order = [number for _, number in sorted((cells, n) for n, (rows, cells) in enumerate(sizes) if rows == full)]
    places = ((np.arange(steps) + 0.5) / steps * len(order)).astype(int)
    return [batches[order[place]] for place in places]
