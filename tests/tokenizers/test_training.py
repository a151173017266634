from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from helpers import Listener, interrupted_in
from torch import nn

from bbqrec_cli.errors import DataError, InterruptedRunError
from bbqrec_cli.tokenizers.training import (
    LARGEST_GRADIENT,
    TokenizerNetwork,
    TokenizerTask,
    epoch_details,
    fit_tokenizer,
    warmup_steps,
)
from bbqrec_cli.training import trainer
from bbqrec_cli.training.distributed import ALONE, World
from bbqrec_cli.training.trainer import RunSettings


@dataclass
class Numbers:
    values: torch.Tensor

    def to(self, device: torch.device) -> Numbers:
        return self


class FourBatches:
    targets = 32

    def epoch(self, number: int) -> list[Numbers]:
        generator = torch.Generator().manual_seed(number)
        return [Numbers(torch.randn(8, 3, generator=generator)) for _ in range(4)]


class Toy(TokenizerNetwork):
    """Learns to give back what it gets; θ learns the mean of what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.2))
        self.clubs = nn.ModuleDict({"text": nn.Linear(1, 3)})
        self.factor = 1.0

    def loss(self, batch: Numbers, world: World = ALONE, encoded: None = None) -> dict[str, torch.Tensor]:
        error = (self.body(batch.values) - batch.values).square().mean() * self.factor
        return {"loss": error, "reconstruction": error.detach() / 2}

    def likelihood(self, batch: Numbers, encoded: None = None) -> torch.Tensor:
        return (self.clubs["text"].bias - batch.values).square().mean()


def fit(run: RunSettings, *, epochs: int = 4, start=lambda *_: None, figures=lambda epoch: {}, troubles=lambda row: {}):
    return fit_tokenizer(
        Toy, FourBatches(), start, lambda model, epoch: figures(epoch), troubles, run, epochs=epochs, learning_rate=0.01
    )


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_trains_both_optimisers():
    model, history = fit(RunSettings(), epochs=8)
    fresh = Toy()
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[0]["reconstruction"] == pytest.approx(history[0]["loss"] / 2)
    assert not torch.equal(model.clubs["text"].bias, fresh.clubs["text"].bias)
    assert not model.training


def interrupted(run: RunSettings, at: int, **more: Any) -> str:
    with interrupted_in(at), pytest.raises(InterruptedRunError) as caught:
        fit(run, **more)
    return caught.value.message


@pytest.mark.parametrize("at", [1, 2, 3])
def test_resumed_is_uninterrupted(tmp_path, at):
    said = interrupted(RunSettings(checkpoint=tmp_path / "c"), at)
    assert f"{at} of 4 epochs are saved in {tmp_path / 'c'}" in said
    heard = Listener()
    model, history = fit(RunSettings(checkpoint=tmp_path / "c", resume=True, progress=heard))
    whole, expected = fit(RunSettings())
    assert same(model, whole)
    assert [row["loss"] for row in history] == [row["loss"] for row in expected]
    assert heard.logged[0] == f"resumed after epoch {at}"


def test_interrupted_twice(tmp_path):
    interrupted(RunSettings(checkpoint=tmp_path / "c"), 1)
    said = interrupted(RunSettings(checkpoint=tmp_path / "c", resume=True), 3)
    assert "3 of 4 epochs" in said
    assert same(fit(RunSettings(checkpoint=tmp_path / "c", resume=True))[0], fit(RunSettings())[0])


def test_interrupted_in_the_first_epoch(tmp_path):
    said = interrupted(RunSettings(checkpoint=tmp_path / "c"), 0)
    assert said == "interrupted in the first epoch; nothing is saved yet"
    assert not (tmp_path / "c").exists()


def test_an_older_checkpoint_is_named(tmp_path):
    interrupted(RunSettings(checkpoint=tmp_path / "c"), 2)
    heard = Listener()
    model, _ = fit(RunSettings(checkpoint=tmp_path / "c", progress=heard))
    assert "an older run's checkpoint" in heard.logged[0]
    assert same(model, fit(RunSettings())[0])
    heard = Listener()
    fit(RunSettings(checkpoint=tmp_path / "none", resume=True, progress=heard))
    assert "no checkpoint; starting from the beginning" in heard.logged[0]


def test_a_finished_checkpoint_is_not_trained_on(tmp_path):
    model, history = fit(RunSettings(checkpoint=tmp_path / "c"))
    again, rows = fit(RunSettings(checkpoint=tmp_path / "c", resume=True), start=lambda *_: pytest.fail("it trains"))
    assert same(model, again)
    assert rows == history


def test_a_loss_that_is_no_number():
    def spoil(model: Toy, epoch: int) -> None:
        model.factor = math.nan if epoch == 2 else 1.0

    with pytest.raises(DataError, match="epoch 3, step 1: the loss is nan; the training has diverged") as caught:
        fit(RunSettings(), start=spoil)
    assert "--learning-rate" in caught.value.hint


def test_start_comes_before_and_figures_after_each_epoch():
    order = []
    fit(RunSettings(), start=lambda _, epoch: order.append(("start", epoch)), figures=lambda e: order.append(e) or {})
    assert order == [("start", 0), 0, ("start", 1), 1, ("start", 2), 2, ("start", 3), 3]


def test_the_rate_rises_for_a_hundred_steps_or_a_tenth():
    assert [warmup_steps(total) for total in (1, 20, 999, 2000)] == [1, 2, 99, 100]


COLLAPSED_AT = {1: [], 2: ["text/1"], 3: ["text/1", "text/2"], 4: ["text/1", "text/2"], 5: [], 6: ["text/1"]}


def troubles(row: Mapping[str, Any]) -> dict[str, str]:
    return {book: f"{book} is flat" for book in COLLAPSED_AT[row["epoch"]]}


def test_a_collapse_is_told_once_a_codebook():
    heard = Listener()
    fit(RunSettings(progress=heard), epochs=6, troubles=troubles)
    first, second = heard.warned
    assert "epoch 2: a codebook has collapsed: text/1 is flat." in first
    assert "--warmup-epochs" in first, "what to do"
    assert "epoch 3: a codebook has collapsed: text/2 is flat." in second


def test_a_resumed_run_does_not_tell_it_again(tmp_path):
    interrupted(RunSettings(checkpoint=tmp_path / "c"), 3, epochs=6, troubles=troubles)
    heard = Listener()
    fit(RunSettings(checkpoint=tmp_path / "c", resume=True, progress=heard), epochs=6, troubles=troubles)
    assert not heard.warned


def test_an_epochs_line():
    row = {
        "epoch": 3, "loss": 12.345678, "reconstruction": 10.0, "quantisation": 1.0, "recommendation": 1.3456,
        "information": -0.01, "quantised": True, "usage/id/1": 250, "perplexity/id/1": 212.34, "usage/id/2": 8,
        "perplexity/id/2": 3.21, "usage/my/text/1": 7, "perplexity/my/text/1": 6.6, "colliding_items": 9,
        "recall@10": 0.0876, "ndcg@10": 0.04, "seconds": 12.34,
    }  # fmt: skip
    short = trainer.epoch_line(row, 40)
    assert short == "epoch 3/40  loss 12.35  9 items collide  validation recall@10 0.0876, ndcg@10 0.0400  12.3 s"
    said = epoch_details(row)
    assert said.startswith("reconstruction 10  quantisation 1  recommendation 1.346  information -0.01  ")
    assert said.endswith("id: codes in use 250 8, perplexity 212 3  my/text: codes in use 7, perplexity 7")
    warm = {"epoch": 1, "loss": 1.0, "quantised": False, "seconds": 1.0}
    assert (trainer.epoch_line(warm, 2), epoch_details(warm)) == ("epoch 1/2  loss 1  1.0 s", "")


def test_details_are_for_verbose():
    heard = Listener()
    fit(RunSettings(progress=heard), epochs=2)
    assert [line.split("  ")[0] for line in heard.logged] == ["epoch 1/2", "epoch 2/2"]
    assert not [line for line in heard.logged if "reconstruction" in line]
    assert [line.split()[0] for line in heard.details] == ["reconstruction", "reconstruction"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.9, ""), (1, ", at most 1 s left"), (89, ", at most 89 s left"), (91, ", at most 2 min left")],
)
def test_time_left(seconds, said):
    assert trainer.time_left(seconds) == said


def test_time_left_is_said(monkeypatch):
    heard, clock = Listener(), iter(range(0, 100_000, 45))
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: next(clock))
    fit(RunSettings(progress=heard))
    assert heard.logged[0].endswith("90.0 s, at most 4 min left")
    assert heard.logged[3].endswith("90.0 s")


def test_gradients_are_cut():
    model = Toy()
    before = copy.deepcopy(model)
    model.loss = lambda *_: {"loss": 1e6 * model.body[0].weight.sum()}
    task = TokenizerTask(
        model, FourBatches(), lambda *_: None, lambda *_: {}, lambda _: {}, epochs=1, learning_rate=1.0
    )
    task.optimisers = {"main": torch.optim.SGD(model.body.parameters(), lr=1.0)}
    trainer.step(task, RunSettings(), FourBatches().epoch(0)[0], 1.0, "here")
    moved = (model.body[0].weight - before.body[0].weight).norm().item()
    assert moved == pytest.approx(LARGEST_GRADIENT, rel=1e-4)
