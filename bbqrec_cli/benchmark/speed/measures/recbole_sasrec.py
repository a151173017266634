"""RecBole's SASRec with its defaults, in an environment that has RecBole and need not have bbqrec."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import torch

EVALUATED = 256
"""Users per batch of the evaluation."""


def training(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """Steps as its trainer takes them; units are targets."""
    trainer, train, _ = made(job)
    batches = cycle(train)
    trainer.model.train()

    def steps() -> float:
        done = 0
        for interaction in islice(batches, job["steps"]):
            trainer.optimizer.zero_grad()
            trainer.model.calculate_loss(interaction).backward()
            trainer.optimizer.step()
            done += len(interaction)
        return done

    return steps, {"whole": len(train.dataset)}


def evaluating(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """Full ranking as its trainer does it; units are users."""
    trainer, _, test = made(job)
    trainer.model.eval()
    trainer.tot_item_num = test._dataset.item_num
    trainer.item_tensor = test._dataset.get_item_feature()

    @torch.no_grad()
    def rank() -> float:
        done = 0
        for batch in islice(test, max(1, job["asked"] // EVALUATED)):
            interaction, scores, users, items = trainer._full_sort_batch_eval(batch)
            trainer.eval_collector.eval_batch_collect(scores, interaction, users, items)
            done += len(interaction)
        return done

    return rank, {}


def made(job: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Its trainer, and the batches of the training and the test part."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    settings = {
        "data_path": job["folder"], "use_gpu": False, "state": "ERROR", "show_progress": False, "worker": 0,
        "train_neg_sample_args": None, "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "topk": [10], "metrics": ["Recall", "NDCG"], "valid_metric": "NDCG@10", "eval_batch_size": EVALUATED,
    }  # fmt: skip
    config = Config(model="SASRec", dataset="recbole", config_dict=settings)
    init_seed(job["seed"], True)
    train, _, test = data_preparation(config, create_dataset(config))
    model = get_model("SASRec")(config, train.dataset)
    return get_trainer(config["MODEL_TYPE"], "SASRec")(config, model), train, test
