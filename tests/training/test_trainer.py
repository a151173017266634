from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import pytest
import torch
from helpers import Listener, new_model

from bbqrec_cli import outputs
from bbqrec_cli.data.batches import Epoch, WindowBatches
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import DataError, InterruptedRunError
from bbqrec_cli.models.base import Phase
from bbqrec_cli.models.sasrec import SASRec
from bbqrec_cli.models.task import RecommenderTask
from bbqrec_cli.seeds import seed_torch
from bbqrec_cli.training import checkpoint, trainer
from bbqrec_cli.training.distributed import World
from bbqrec_cli.training.schedule import schedule
from bbqrec_cli.training.trainer import Fitted, RunSettings, Stopping, train


@dataclass(frozen=True, kw_only=True)
class Training(RunSettings, Stopping):
    """All that says how `fit` trains."""

    epochs: int = 5
    learning_rate: float = 0.01
    weight_decay: float = 0.05
    beta2: float = 0.999
    schedule: str = "cosine"
    warmup: float = 0.1


def fit(model, batches, validate, training: Training) -> Fitted:
    """A recommender in one phase."""
    phase = Phase(name="train", epochs=training.epochs, batches=batches, loss=model.loss)
    return train(RecommenderTask(model, [phase], training, validate), training, training)


@pytest.fixture
def training(tmp_path) -> Training:
    return Training(checkpoint=tmp_path / "c.h5", identity={"seed": 0})


@pytest.fixture
def batches(catalogue) -> WindowBatches:
    return WindowBatches(split_of(catalogue.sequences).train, batch_size=8, seed=0)


def sasrec() -> SASRec:
    seed_torch(0, "weights")
    return new_model("sasrec", width=8, dropout=0.3, loss="sampled", negatives=5)


def scores(*values: float):
    """A validation that answers these one after the other."""
    left = iter(values)
    return lambda model: {"ndcg@10": next(left)}


def rising(model) -> dict[str, float]:
    """Depends on the weights, as a real one does."""
    return {"ndcg@10": 1 / (1 + float(model.table.weight.detach().abs().sum()))}


class Stops:
    """Batches that raise in the middle of an epoch (from 0)."""

    def __init__(self, batches: WindowBatches, epoch: int, error: type[BaseException]) -> None:
        self.batches, self.stop, self.error, self.targets = batches, epoch, error, batches.targets

    def epoch(self, number: int):
        todo = self.batches.epoch(number)
        return Bomb(todo, self.error) if number == self.stop else todo


class Bomb(Epoch):
    def __init__(self, todo, error) -> None:
        super().__init__(todo.groups, todo.make)
        self.error = error

    def __getitem__(self, number):
        if number == 1:
            raise self.error
        return super().__getitem__(number)


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(("epoch", "segment", "said"), [
    (1, 500, "resumed after epoch 1"),
    (3, 500, "resumed after epoch 3"),
    (0, 1, "resumed in epoch 1, after 1 steps"),
    (3, 1, "resumed in epoch 4, after 1 steps"),
])  # fmt: skip
def test_resumed_is_uninterrupted_to_the_last_bit(training, batches, monkeypatch, error, epoch, segment, said):
    monkeypatch.setattr(trainer, "SEGMENT", segment)
    listener = Listener()
    whole = sasrec()
    straight = fit(whole, batches, rising, dataclasses.replace(training, checkpoint=None))
    broken = sasrec()
    with pytest.raises(InterruptedRunError if error is KeyboardInterrupt else error):
        fit(broken, Stops(batches, epoch, error), rising, training)
    torch.manual_seed(99)  # the state of the generator is not what saves us
    again = sasrec()
    with torch.no_grad():
        again.table.weight.zero_()  # nor are the weights
    resumed = fit(again, batches, rising, dataclasses.replace(training, resume=True, progress=listener))
    assert said in listener.logged
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert without_seconds(resumed.history) == without_seconds(straight.history)
    assert (resumed.best_epoch, resumed.best_figures) == (straight.best_epoch, straight.best_figures)


def test_an_epoch_that_was_begun_is_finished_however_little_time_is_left(training, batches, monkeypatch):
    """And measured as what it is."""
    monkeypatch.setattr(trainer, "SEGMENT", 1)
    rare = dataclasses.replace(training, epochs=3, validate_every=3)
    with pytest.raises(InterruptedRunError, match="1 of 3 epochs and 1 steps of the next are saved"):
        fit(sasrec(), Stops(batches, 1, KeyboardInterrupt), rising, rare)
    model, whole = sasrec(), sasrec()
    resumed = fit(model, batches, rising, dataclasses.replace(rare, resume=True, minutes=1e-9))
    straight = fit(whole, batches, rising, dataclasses.replace(rare, checkpoint=None, watch=second))
    assert [row["epoch"] for row in resumed.history] == [1, 2]
    assert torch.equal(model.table.weight, whole.table.weight)
    assert resumed.best_figures == rising(whole) == straight.best_figures


def second(row) -> bool:
    return row["epoch"] == 2


def test_a_checkpoint_that_does_not_fit_says_what_to_do(training, batches):
    with pytest.raises(InterruptedRunError):
        fit(sasrec(), Stops(batches, 1, KeyboardInterrupt), rising, training)
    with pytest.raises(DataError, match=r"c\.h5: the checkpoint does not fit what is trained here"):
        fit(new_model("sasrec", width=12), batches, rising, dataclasses.replace(training, resume=True))


def test_who_does_not_write_leaves_it_to_process_0_to_say_what_is_saved(training, batches):
    second = dataclasses.replace(training, world=Second())
    with pytest.raises(InterruptedRunError, match="process 0 says what is saved"):
        fit(sasrec(), Stops(batches, 1, KeyboardInterrupt), rising, second)


def test_every_device_is_seeded(monkeypatch):
    """The short way is for machines that have a CPU alone."""
    seeded = []
    monkeypatch.setattr(torch, "manual_seed", seeded.append)
    for there in (False, True):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda there=there: there)
        seed_torch(0, "epoch", 1)
        assert len(seeded) == there


def test_another_seed_gives_other_weights(training, batches):
    one, other = sasrec(), sasrec()
    fit(one, batches, rising, training)
    fit(other, batches, rising, dataclasses.replace(training, seed=1, checkpoint=None))
    assert not torch.equal(one.table.weight, other.table.weight)


def test_an_interruption_says_what_is_saved(training, batches):
    with pytest.raises(InterruptedRunError, match=r"3 of 5 epochs are saved in .*c\.h5") as caught:
        fit(sasrec(), Stops(batches, 3, KeyboardInterrupt), rising, training)
    assert "--resume" in caught.value.hint
    training.checkpoint.unlink()
    with pytest.raises(InterruptedRunError, match="nothing is saved"):
        fit(sasrec(), Stops(batches, 0, KeyboardInterrupt), rising, training)


@pytest.mark.parametrize("where", ["log_epoch", "watch"])
def test_an_interruption_after_an_epoch_counts_it(training, batches, monkeypatch, where):
    """While its line is printed, or between it and the next one."""

    def interrupt(row, *_) -> bool:
        if row["epoch"] == 2:
            raise KeyboardInterrupt
        return False

    if where == "log_epoch":
        monkeypatch.setattr(RecommenderTask, "log_epoch", lambda self, *given: interrupt(*given))
    else:
        training = dataclasses.replace(training, watch=interrupt)
    with pytest.raises(InterruptedRunError, match=r"2 of 5 epochs are saved in .*c\.h5"):
        fit(sasrec(), batches, scores(0.1, 0.2), training)


@pytest.mark.parametrize(("took", "next_in"), [(0.1, 5.0), (3.0, 60.0)])
def test_checkpoints_take_a_twentieth_of_the_time_at_most(monkeypatch, took, next_in):
    now = [100.0]
    monkeypatch.setattr(outputs.time, "monotonic", lambda: now[0])
    clock = outputs.Clock(5.0)
    for seconds, due in ((4.9, False), (0.2, True)):
        now[0] += seconds
        assert clock.due == due
    with clock.saving():
        now[0] += took
    for seconds, due in ((next_in - 0.1, False), (0.2, True)):
        now[0] += seconds
        assert clock.due == due


@pytest.mark.parametrize(("writes", "said"), [(1, "1 of 5 epochs are saved"), (3, "3 of 5 epochs are saved")])
def test_an_interruption_while_a_checkpoint_is_written(training, batches, monkeypatch, writes, said):
    """It is written after all, and counted."""
    save, made = checkpoint.write_checkpoint, []

    def interrupted(*given, **more) -> None:
        made.append(given)
        if len(made) == writes:
            raise KeyboardInterrupt
        save(*given, **more)

    monkeypatch.setattr(checkpoint, "write_checkpoint", interrupted)
    monkeypatch.setattr(checkpoint, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(outputs, "_LARGEST_SHARE", math.inf)
    with pytest.raises(InterruptedRunError, match=said):
        fit(sasrec(), batches, rising, training)
    saved = checkpoint.load_checkpoint(training.checkpoint, training.identity)["history"]
    assert f"{len(saved)} of 5" in said
    assert len(made) == writes + 1


def test_the_best_epochs_weights_are_kept(training, batches):
    seen = []

    def validate(model):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"ndcg@10": [0.1, 0.3, 0.2, 0.3, 0.1][len(seen) - 1], "recall@10": 0.5}

    model = sasrec()
    fitted = fit(model, batches, validate, training)
    assert fitted.best_epoch == 2, "of two that are as good, the first"
    assert fitted.best_figures == {"ndcg@10": 0.3, "recall@10": 0.5}
    for name, value in seen[1].items():
        assert torch.equal(model.state_dict()[name], value)
    assert not model.training


@pytest.mark.parametrize(
    ("figures", "patience", "epochs"),
    [((0.3, 0.2, 0.1, 0.0, 0.0), 2, 3), ((0.1, 0.05, 0.2, 0.1, 0.15), 2, 5), ((0.3, 0.2, 0.1, 0.0, 0.0), 0, 5)],
)
def test_patience(training, batches, figures, patience, epochs):
    fitted = fit(sasrec(), batches, scores(*figures), dataclasses.replace(training, patience=patience))
    assert len(fitted.history) == epochs


def test_whoever_watches_may_end_it(training, batches):
    seen = []

    def watch(row):
        seen.append(row["ndcg@10"])
        return len(seen) == 3

    fitted = fit(sasrec(), batches, scores(0.1, 0.3, 0.2), dataclasses.replace(training, watch=watch))
    assert (seen, len(fitted.history)) == ([0.1, 0.3, 0.2], 3)
    assert (fitted.best_epoch, fitted.best_figures) == (2, {"ndcg@10": 0.3})


def test_a_finished_run_that_is_resumed_trains_no_more(training, batches):
    fit(sasrec(), batches, scores(0.3, 0.2, 0.1), dataclasses.replace(training, patience=2))
    again = dataclasses.replace(training, patience=2, resume=True)
    assert len(fit(sasrec(), batches, scores(), again).history) == 3


def test_processes_that_see_other_checkpoints(training, batches, monkeypatch):
    """Process 0 goes on after epoch 5, and this one, on a machine that does not share the folder, would begin anew."""
    fit(sasrec(), batches, scores(0.1, 0.2, 0.3, 0.4, 0.5), training)
    world = World(rank=1, size=2)
    for resume, done in ((False, 5.0), (True, 0.0)):
        monkeypatch.setattr(World, "first", lambda self, value, done=done: done)
        with pytest.raises(DataError, match=r"process 1 has [05] epochs, process 0 another"):
            fit(sasrec(), batches, scores(), dataclasses.replace(training, resume=resume, world=world))


def test_validate_every_counts_validations_and_always_ends_with_one(training, batches):
    fitted = fit(sasrec(), batches, scores(0.1, 0.2, 0.3), dataclasses.replace(training, validate_every=2))
    assert [row["epoch"] for row in fitted.history if "ndcg@10" in row] == [2, 4, 5]


def test_the_time_is_up(training, batches):
    """Also then the last epoch is validated, and a run that goes on with more time goes on to the same end."""
    short = dataclasses.replace(training, validate_every=3, minutes=1e-9)
    fitted = fit(sasrec(), batches, scores(0.2), short)
    assert [row.get("ndcg@10") for row in fitted.history] == [0.2]
    assert fitted.best_epoch == 1
    assert len(fit(sasrec(), batches, scores(), dataclasses.replace(short, resume=True)).history) == 1
    longer = dataclasses.replace(short, resume=True, minutes=60)
    assert [row["epoch"] for row in fit(sasrec(), batches, rising, longer).history if "ndcg@10" in row] == [1, 3, 5]


def test_a_resumed_run_without_time_is_validated(training, batches):
    """It trains no more, but what it keeps has a figure."""
    rare = dataclasses.replace(training, validate_every=9)
    with pytest.raises(InterruptedRunError):
        fit(sasrec(), Stops(batches, 3, KeyboardInterrupt), scores(), rare)
    fitted = fit(sasrec(), batches, scores(0.2), dataclasses.replace(rare, resume=True, minutes=1e-9))
    assert (fitted.best_epoch, fitted.best_figures, len(fitted.history)) == (3, {"ndcg@10": 0.2}, 3)
    assert fitted.history[-1]["ndcg@10"] == 0.2


def test_rank_0_says_when_the_time_is_up(training, batches, monkeypatch):
    """Of several processes each has a clock of its own; they must end with the same epoch."""
    monkeypatch.setattr("bbqrec_cli.training.distributed.World.first", lambda self, value: value and 90.0)
    fitted = fit(sasrec(), batches, rising, dataclasses.replace(training, minutes=2))
    assert [row["seconds"] for row in fitted.history] == [90.0, 90.0]


def test_the_rate_follows_the_schedule_and_gradients_are_clipped(training, batches, monkeypatch):
    rates, norms = [], []
    step = torch.optim.AdamW.step

    def spy(self, *rest):
        rates.append(self.param_groups[0]["lr"])
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(math.sqrt(sum(float(g.square().sum()) for g in gradients)))
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    model = sasrec()
    loss = model.loss
    monkeypatch.setattr(model, "loss", lambda batch: 1000 * loss(batch))
    fit(model, batches, rising, dataclasses.replace(training, epochs=1))
    steps = len(batches.epoch(0))
    assert rates == pytest.approx([0.01 * schedule(n, steps, 1) for n in range(steps)])
    assert norms == pytest.approx([1.0] * steps, rel=1e-4)


def test_a_constant_rate_and_adams_second_decay(batches, training, monkeypatch):
    step, seen = torch.optim.AdamW.step, set()

    def spy(self, *rest):
        seen.update((group["lr"], group["betas"]) for group in self.param_groups)
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    fit(sasrec(), batches, rising, dataclasses.replace(training, schedule="constant", warmup=0.0, beta2=0.98))
    assert seen == {(0.01, (0.9, 0.98))}


def test_norms_and_biases_are_not_decayed(training, batches):
    """Without a gradient, weight decay alone moves a parameter: matrices shrink, vectors stay."""
    model = sasrec()
    model.loss = lambda batch: 0.0 * sum(p.sum() for p in model.parameters())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(model, batches, rising, dataclasses.replace(training, weight_decay=0.5))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (value.dim() == 1), name


def test_a_loss_that_is_not_finite_says_what_to_do(training, batches):
    model = sasrec()
    model.loss = lambda batch: torch.tensor(math.nan, requires_grad=True)
    with pytest.raises(DataError, match="epoch 1, step 1: the loss is nan") as caught:
        fit(model, batches, rising, training)
    assert "--learning-rate" in caught.value.hint
    assert "--force" not in caught.value.hint


def test_after_a_checkpoint_the_advice_names_force(training, batches):
    """The checkpoint of the epochs before would refuse another learning rate."""
    fit(sasrec(), batches, rising, dataclasses.replace(training, minutes=1e-9))
    model = sasrec()
    model.loss = lambda batch: torch.tensor(math.nan, requires_grad=True)
    with pytest.raises(DataError) as caught:
        fit(model, batches, rising, dataclasses.replace(training, resume=True))
    assert caught.value.hint.endswith(f"with --force: {training.checkpoint} is left")


def test_parameters_that_are_not_finite_say_so_too(training, batches):
    """A last step may ruin them after a loss that was a number."""
    with pytest.raises(DataError, match=r"epoch \d.*diverged"):
        fit(sasrec(), batches, rising, dataclasses.replace(training, learning_rate=1e38))


def test_nothing_to_train_on(training, catalogue):
    empty = WindowBatches(catalogue.sequences.without_last(99), batch_size=4, seed=0)
    with pytest.raises(DataError, match="nothing to train on"):
        fit(sasrec(), empty, rising, training)


def test_notes_on_checkpoints(training, batches):
    listener = Listener()
    said, told = listener.logged, dataclasses.replace(training, epochs=1, progress=listener)
    fit(sasrec(), batches, rising, dataclasses.replace(told, resume=True))
    assert "no checkpoint" in said[0]
    assert said[1].startswith("epoch 1/1  loss ")
    assert "ndcg@10" in said[1]
    fit(sasrec(), batches, rising, told)
    assert "will be overwritten" in said[2]
    fit(sasrec(), batches, rising, dataclasses.replace(told, resume=True))
    assert "resumed after epoch 1" in said[4]


class Steps:
    """Batches of numbers, so that a test sees which phase used them."""

    def __init__(self, value: float) -> None:
        self.value, self.targets = value, 4

    def epoch(self, number: int):
        return [Number(torch.tensor(self.value)) for _ in range(2)]


@dataclass
class Number:
    value: torch.Tensor
    weight: int = 1

    def to(self, device):
        return self

    def part(self, rank, world):
        return self


def two_phases(model, frozen: list[str]) -> list[Phase]:
    """Pre-training moves the item table, fine-tuning everything but it."""

    def freeze() -> None:
        frozen.append("fine")
        model.table.weight.requires_grad_(False)

    def loss(batch):
        return sum((p - batch.value).square().sum() for p in model.parameters() if p.requires_grad)

    return [
        Phase(name="pre", epochs=2, batches=Steps(1.0), loss=loss, start=lambda: frozen.append("pre")),
        Phase(name="fine", epochs=3, batches=Steps(-1.0), loss=loss, start=freeze),
    ]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_phases_follow_each_other_and_resume(training, stop):
    """Only the last phase is validated; each begins with a fresh optimiser and a schedule of its own."""

    def run(model, settings, begun):
        task = RecommenderTask(model, two_phases(model, begun), settings, scores(0.1, 0.3, 0.2))
        return train(task, settings, settings)

    whole, begun = sasrec(), []
    fitted = run(whole, dataclasses.replace(training, checkpoint=None), begun)
    assert begun == ["pre", "fine"]
    assert [row["epoch"] for row in fitted.history if "ndcg@10" in row] == [3, 4, 5]
    assert fitted.best_epoch == 4
    part = sasrec()
    task = RecommenderTask(part, two_phases(part, []), training, scores(0.1, 0.3, 0.2))
    before = task.before_epoch

    def interrupt(epoch: int) -> None:
        if epoch == stop:
            raise KeyboardInterrupt
        before(epoch)

    task.before_epoch = interrupt
    with pytest.raises(InterruptedRunError, match=f"{stop} of 5 epochs"):
        train(task, training, training)
    again = sasrec()
    left = (0.1, 0.3, 0.2) if stop < 3 else (0.3, 0.2)
    task = RecommenderTask(again, two_phases(again, []), training, scores(*left))
    resumed = train(task, dataclasses.replace(training, resume=True), training)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert without_seconds(resumed.history) == without_seconds(fitted.history)


class Second(World):
    """The second of two processes, alone: what others would add is left out."""

    def __init__(self) -> None:
        super().__init__(rank=1, size=2)

    def sum(self, tensor):
        return tensor

    def sum_gradients(self, parameters) -> None:
        pass

    def first(self, value):
        return value

    def broadcast(self, module) -> None:
        pass


@pytest.mark.parametrize("couples", [False, True])
def test_processes_draw_numbers_of_their_own_but_for_what_each_computes_whole(batches, training, couples):
    drawn = []

    def loss(batch):
        drawn.append(torch.rand(3).tolist())
        return model.loss(batch)

    for world in (World(), Second()):
        model = sasrec()
        phase = Phase(name="train", epochs=1, batches=batches, loss=loss, couples=couples)
        of_one = dataclasses.replace(training, epochs=1, world=world, checkpoint=None)
        train(RecommenderTask(model, [phase], of_one, scores(0.1)), of_one, of_one)
    alone, second = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    assert len(alone) == len(second) > 1
    assert (alone[0] == second[0]) == couples
