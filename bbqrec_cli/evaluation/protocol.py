"""Full ranking over all items for held-out targets. U users, T items of history, K the depth that is ranked."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import numpy as np
import torch

from bbqrec_cli.data.batches import held_out_batches
from bbqrec_cli.data.splits import PAD, HeldOut
from bbqrec_cli.device import autocast
from bbqrec_cli.evaluation.metrics import rank_of_target
from bbqrec_cli.models.base import Recommender, Wanted, check_answer
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.training.distributed import ALONE, World


@torch.no_grad()
def target_ranks(
    model: Recommender,
    held: HeldOut,
    *,
    depth: int,
    beam: int | None,
    device: torch.device,
    precision: str = "fp32",
    batch_size: int = 256,
    exclude_seen: bool = False,
    shown: Mapping[int, np.ndarray] | None = None,
    progress: Progress = SILENT,
    world: World = ALONE,
) -> np.ndarray:
    """Rank from 1 of each user's target among the first `depth` items, 0 below; (U,) int64, in the order of `held`.

    exclude_seen: the items of a user's whole history are left out of the ranking, the target never.
    shown: k -> (I,) int64, to which each item's times among a user's first k are added.
    world: each of several processes ranks every `size`-th batch; all get all ranks.
    """
    ranks, checked = np.zeros(len(held.users), dtype=np.int64), False
    with progress.task("ranking", len(held.users)) as task, autocast(device, precision):
        for rows, batch in islice(held_out_batches(held, batch_size), world.rank, None, world.size):
            seen = torch.from_numpy(held.seen(rows)).to(device) if exclude_seen else None
            wanted = Wanted(k=depth, beam=beam, exclude=seen)
            found = model.recommend(batch.to(device), wanted)
            if not checked:
                check_answer(found, model, wanted, users=len(rows), items=len(next(iter((shown or {}).values()), ())))
                checked = True
            items = found[0].cpu().numpy()
            ranks[rows] = rank_of_target(items, held.targets[rows])
            for k, times in (shown or {}).items():
                first = items[:, :k]
                times += np.bincount(first[first != PAD], minlength=len(times))
            task.advance(len(rows))
    return world.sum_array(ranks)
