"""Every registered model against the same checks. A new model needs no line here: a registry line is enough.

BBQREC_TEST_DEVICE=cuda runs them on a GPU (`make gpu-check` does).
"""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import interrupted_in

from bbqrec_cli import hdf5
from bbqrec_cli.data.batches import Batch, PrefixBatches
from bbqrec_cli.data.splits import PAD, pad, split_of
from bbqrec_cli.errors import InterruptedRunError
from bbqrec_cli.models.base import Phase, Recommender, Wanted
from bbqrec_cli.models.registry import MODELS, build_model, load_model, model_settings
from bbqrec_cli.records import Features, ItemData, Sequences, Tokens
from bbqrec_cli.seeds import seed_torch
from bbqrec_cli.stages.train import TrainConfig, run
from bbqrec_cli.training import trainer

SMALL = {
    "epochs": 60, "batch_size": 24, "learning_rate": 0.01, "patience": 0, "dropout": 0.0, "width": 16, "layers": 1,
    "decoder_layers": 1,
}  # fmt: skip
"""Enough for 12 items; each model takes what it has of it."""
FAST = ("bbqrec", "bsarec", "missrec", "tiger")
"""They train on prefixes, of which a user has several: 25 epochs are as many steps and more."""
PRETRAINED = ("missrec", "vq-rec")
MASKED = {"epochs": 200, "learning_rate": 0.003, "width": 32}
"""For models that are asked for masked items only, a fraction of all."""
ITEMS = 12
WITHOUT_ORDER = ("item-knn", "ease")
"""They know which items go together, not which comes next."""
DEVICE = torch.device(os.environ.get("BBQREC_TEST_DEVICE", "cpu"))


def options(name: str, **more) -> dict:
    known = {f.name for f in dataclasses.fields(MODELS.config(name))}
    small = SMALL | (MASKED if "mask_share" in known else {}) | ({"epochs": 25} if name in FAST else {})
    return {key: value for key, value in (small | more).items() if key in known}


def train(name: str, source: Path, output: Path, *, precision: str = "fp32", resume: bool = False, **more) -> Path:
    run(
        TrainConfig(
            input=source, output=output, model=name, options=options(name, **more), device=str(DEVICE),
            precision=precision, validate_every=SMALL["epochs"], resume=resume,
        )
    )  # fmt: skip
    return output


@pytest.fixture(scope="module", params=MODELS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def sources(catalogue, codes, features, successor, tmp_path_factory) -> dict[str, Path]:
    """The tiny catalogue with more users: walks of 7 to 12 steps, more of them from some items than from others.

    What a model needs -> a file that has it.
    """
    made = [[item] for item in range(ITEMS) for _ in range(4 + item % 5)]
    for number, walk in enumerate(made):
        while len(walk) < 7 + number % 6:
            walk.append(int(successor[walk[-1]]))
    more = dataclasses.replace(
        catalogue, sequences=Sequences.from_lists(made), user_ids=[f"u{user}" for user in range(len(made))]
    )
    folder = tmp_path_factory.mktemp("source")
    made_of = {need: folder / f"{need}.h5" for need in ("codes", "features")}
    hdf5.write_tokens(made_of["codes"], Tokens(catalogue=more, codes=codes), config={})
    hdf5.write_features(made_of["features"], Features(catalogue=more, features=features.features), config={})
    return made_of


@pytest.fixture(scope="module")
def source(name, sources) -> Path:
    settings = model_settings(MODELS.config(name)(**options(name)))
    return sources["features" if "features" in MODELS.implementation(name).needed(settings) else "codes"]


@pytest.fixture(scope="module")
def path(name, source, tmp_path_factory) -> Path:
    return train(name, source, tmp_path_factory.mktemp(name) / "model.h5")


@pytest.fixture(scope="module")
def model(path) -> Recommender:
    return load_model(hdf5.read_model(path), DEVICE)


def histories(rows: list[list[int]]) -> Batch:
    items = torch.from_numpy(pad(rows))
    return Batch(items, torch.full_like(items, PAD)).to(DEVICE)


@pytest.fixture(scope="module")
def walks(successor) -> list[list[int]]:
    """Two, three or four steps through a group, from every item."""
    found = []
    for start in range(ITEMS):
        walk = [start]
        while len(walk) < 2 + start % 3:
            walk.append(int(successor[walk[-1]]))
        found.append(walk)
    return found


def test_finds_the_known_answer(name, model, walks, successor, source):
    items, _ = model.recommend(histories(walks), Wanted(k=3))
    if name == "popularity":
        seen = split_of(hdf5.read_catalogue(source).sequences).train.items
        counts = np.bincount(seen, minlength=ITEMS)
        assert len(set(counts)) > 3
        best = np.argsort(-counts, kind="stable")[:3]
        assert (items.cpu().numpy() == best).all()
    elif name in WITHOUT_ORDER:
        assert (items // 4 == torch.tensor([[walk[0] // 4] for walk in walks], device=DEVICE)).all()
    else:
        assert items[:, 0].tolist() == [int(successor[walk[-1]]) for walk in walks]


@pytest.mark.parametrize("k", [1, 5, ITEMS, ITEMS + 4])
def test_shapes_order_and_padding(model, walks, k):
    items, scores = model.recommend(histories(walks), Wanted(k=k))
    assert items.shape == scores.shape == (len(walks), k)
    assert items.dtype == torch.int64
    assert scores.dtype == torch.float32
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    real = items[:, : min(k, ITEMS)]
    assert ((real >= 0) & (real < ITEMS)).all()
    assert all(len(set(row)) == len(row) for row in real.tolist())
    assert (items[:, ITEMS:] == PAD).all()
    assert (scores[:, ITEMS:] == -torch.inf).all()


def test_who_stands_beside_changes_nothing(model, walks):
    together, scores = model.recommend(histories(walks), Wanted(k=ITEMS))
    for user, walk in enumerate(walks):
        alone, own = model.recommend(histories([walk]), Wanted(k=ITEMS))
        torch.testing.assert_close(own[0], scores[user], rtol=1e-4, atol=1e-4)
        assert alone[0, 0] == together[user, 0]


@pytest.mark.parametrize("beam", [0, 1, 4, 50])
def test_only_what_is_allowed_and_not_excluded(model, walks, beam):
    """The k best of all that are left, and all that are left where k is more: filters work inside the beam."""
    everything, _ = model.recommend(histories(walks), Wanted(k=ITEMS, beam=50))
    allowed = torch.tensor([item % 3 != 0 for item in range(ITEMS)], device=DEVICE)
    exclude = torch.full((len(walks), 5), PAD, device=DEVICE)
    for user, walk in enumerate(walks):
        exclude[user, : len(walk)] = torch.tensor(walk)
    items, scores = model.recommend(histories(walks), Wanted(k=ITEMS, beam=beam, allowed=allowed, exclude=exclude))
    for user, walk in enumerate(walks):
        expected = [i for i in everything[user].tolist() if allowed[i] and i not in walk]
        assert items[user, : len(expected)].tolist() == expected
        assert (items[user, len(expected) :] == PAD).all()
        assert (scores[user, len(expected) :] == -torch.inf).all()


@pytest.mark.parametrize("only", range(0, ITEMS, 5))
def test_the_only_allowed_item_is_found(model, walks, only):
    allowed = torch.arange(ITEMS, device=DEVICE) == only
    items, scores = model.recommend(histories(walks), Wanted(k=2, beam=1, allowed=allowed))
    assert items.tolist() == [[only, PAD]] * len(walks)
    assert torch.isfinite(scores[:, 0]).all()


def test_a_model_file_gives_the_same_recommendations_again(name, path, model, walks, tmp_path):
    stored = hdf5.read_model(path)
    hdf5.write_model(tmp_path / "again.h5", stored, config={})
    again = load_model(hdf5.read_model(tmp_path / "again.h5"), DEVICE)
    for mine, theirs in zip(
        model.recommend(histories(walks), Wanted(k=7)), again.recommend(histories(walks), Wanted(k=7)), strict=True
    ):
        assert torch.equal(mine, theirs)
    assert stored.name == name


def test_one_seed_gives_one_model(name, source, tmp_path):
    made = [train(name, source, tmp_path / f"{run}.h5", epochs=2, dropout=0.3) for run in "ab"]
    if DEVICE.type != "cpu":
        # Sums in no fixed order: the losses agree, a weight whose gradient is rounding alone does not.
        losses = [[row["loss"] for row in hdf5.read_model(path).history] for path in made]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        return
    one, other = (hdf5.read_model(path).weights for path in made)
    assert one.keys() == other.keys()
    for parameter, value in one.items():
        np.testing.assert_array_equal(value, other[parameter], err_msg=parameter)


def test_resumed_within_an_epoch(name, source, tmp_path, monkeypatch):
    """In the second epoch; models that train in phases have one of pre-training before it."""
    monkeypatch.setattr(trainer, "SEGMENT", 1)
    short = {"epochs": 1, "pretrain_epochs": 1} if name in PRETRAINED else {"epochs": 2}
    straight = hdf5.read_model(train(name, source, tmp_path / "straight.h5", **short))
    if not straight.history:
        return
    output = tmp_path / "model.h5"
    with interrupted_in(1, steps=2), pytest.raises(InterruptedRunError, match="1 of 2 epochs and 2 steps of the next"):
        train(name, source, output, **short)
    resumed = hdf5.read_model(train(name, source, output, resume=True, **short))
    for key, value in straight.weights.items():
        np.testing.assert_allclose(resumed.weights[key], value, atol=0 if DEVICE.type == "cpu" else 1e-4, err_msg=key)


def test_the_loss_falls(model, path):
    losses = [row["loss"] for row in hdf5.read_model(path).history]
    if not list(model.parameters()):
        assert not losses, "nothing is trained"
        return
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < 0.3 * losses[0]


def test_an_epoch_in_bfloat16(name, source, tmp_path):
    """Autocast computes in other types on every device."""
    made = [train(name, source, tmp_path / f"{p}.h5", precision=p, epochs=1) for p in ("fp32", "bf16")]
    exact, half = ([row["loss"] for row in hdf5.read_model(path).history] for path in made)
    assert half == pytest.approx(exact, rel=0.02, abs=0.01)


@pytest.fixture
def untrained(name, catalogue, codes, features) -> tuple[Recommender, tuple[Phase, ...]]:
    """A model and the phases of its training."""
    train = split_of(catalogue.sequences).train
    seed_torch(0, "weights")
    config = MODELS.config(name)(**options(name))
    data = ItemData(ids=catalogue.item_ids, codes=codes, features=features.features)
    model = build_model(name, model_settings(config), data).to(DEVICE)
    model.prepare(train)
    return model, model.phases(train, config, seed=0)


def test_the_help_says_what_a_step_takes(name, untrained):
    """Prefixes, or users on average; both where an option decides."""
    fields = {f.name: f for f in dataclasses.fields(MODELS.config(name))}
    for phase in untrained[1]:
        said, prefixes = fields["batch_size"].metadata["help"], isinstance(phase.batches, PrefixBatches)
        assert ("refixes per step" if prefixes else "Users per step, on average") in said
        assert "masking" in fields or ("on average" in said) != prefixes


def test_every_parameter_gets_a_gradient(untrained):
    """One that gets none is dead weight, or a wire that nobody connected."""
    model, phases = untrained
    if not phases:
        assert not list(model.parameters())
        return
    for phase in phases:
        phase.start()
        phase.before_epoch()
        for batch in phase.batches.epoch(0):
            phase.loss(batch.to(DEVICE)).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


def test_scores_stay_exact_under_autocast(untrained, walks):
    """bfloat16 has 8 bits: neighbours in the ranking would tie, and rank by their row."""
    model, phases = untrained
    if not phases:
        assert not list(model.parameters())
        return
    phases[-1].start()
    phases[-1].before_epoch()
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        _, scores = model.eval().recommend(histories(walks), Wanted(k=ITEMS))
    assert scores.dtype == torch.float32
    assert (scores == scores.bfloat16().float()).float().mean() < 0.1
