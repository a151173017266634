"""Against torch's own transformer with the same weights, and against means, cosines and softmaxes written out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from helpers import new_model, spread, torchs_states
from torch.nn.functional import cosine_similarity

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.new_items import with_tokens
from bbqrec_cli.models.options.vq_rec import VQRecConfig
from bbqrec_cli.models.registry import load_model
from bbqrec_cli.models.vq_rec import VQRec
from bbqrec_cli.records import Catalogue, Codes, Sequences, Tokens, TrainedModel

ITEMS, LEVELS, SIGNALS, SIZE, WIDTH = 15, 3, 2, 7, 12
TEMPERATURE = 0.2
OPTIONS = {"width": WIDTH, "heads": 2, "layers": 2, "dropout": 0.0, "history": 8, "temperature": TEMPERATURE}


@pytest.fixture(scope="module")
def codes() -> Codes:
    """Items 4 and 11 share their ID."""
    drawn = np.random.default_rng(0).integers(0, SIZE, (ITEMS, LEVELS, SIGNALS)).astype(np.uint16)
    drawn[11] = drawn[4]
    return Codes(codes=drawn, modalities=("text", "image"), method="opq", codebook_size=SIZE)


@pytest.fixture
def model(codes) -> VQRec:
    torch.manual_seed(0)
    model = new_model("vq-rec", ITEMS, codes, **OPTIONS)
    spread(model, 0.5)
    return model.eval()


def vector(model: VQRec, rows: list[int]) -> torch.Tensor:
    return sum(model.table.weight[row] for row in rows) / len(rows)


def rows(codes: Codes, item: int) -> list[int]:
    """Rows of the table of an item's codes: one part of the table for each level and signal."""
    pairs = [(level, signal) for level in range(LEVELS) for signal in range(SIGNALS)]
    return [number * SIZE + int(codes.codes[item, level, signal]) for number, (level, signal) in enumerate(pairs)]


def expected_states(model: VQRec, codes: Codes, batch: Batch) -> torch.Tensor:
    vectors = [[vector(model, rows(codes, max(item, 0))) for item in row] for row in batch.items.tolist()]
    return torchs_states(model.encoder, torch.stack([torch.stack(row) for row in vectors]))


def cosine(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return cosine_similarity(one, other, dim=0) / TEMPERATURE


def asked(batch: Batch) -> list[tuple[int, int, int]]:
    """(user, position, target)."""
    return [(user, at, int(batch.targets[user, at])) for user, at in (batch.targets >= 0).nonzero().tolist()]


def test_states_are_those_of_torchs_transformer_over_means_of_codes(model, codes, batch):
    expected = expected_states(model, codes, batch)[batch.mask]
    states = model.states(batch, model.pool(model.rows))[batch.mask]
    expected = expected / expected.norm(dim=1, keepdim=True) / TEMPERATURE
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)


def test_padding_and_the_future_change_nothing(model, batch):
    vectors = model.pool(model.rows)
    alone = model.states(Batch(batch.items[1:2, :2], batch.targets[1:2, :2]), vectors)
    torch.testing.assert_close(model.states(batch, vectors)[1:2, :2], alone, rtol=1e-4, atol=1e-5)


def test_fine_tuning_is_a_softmax_over_the_cosines_of_all_items(model, codes, batch):
    states, losses = expected_states(model, codes, batch), []
    for user, at, target in asked(batch):
        logits = torch.stack([cosine(states[user, at], vector(model, rows(codes, item))) for item in range(ITEMS)])
        losses.append(logits.exp().sum().log() - logits[target])
    assert len(losses) == 9
    same_loss_and_gradients(model, model.loss(batch), torch.stack(losses).mean())


def test_pre_training_contrasts_with_the_batch_and_one_semi_synthetic_item_each(model, codes, batch):
    """Targets 7, 7, 0, 14, 1, 2, 4, 13, 8 of three users: no negatives are a user's own, or the other 7."""
    wanted = [target for *_, target in asked(batch)]
    synthetic = model.semi_synthetic(model.rows[torch.tensor(wanted)])
    states, losses = expected_states(model, codes, batch), []
    for number, (user, at, target) in enumerate(asked(batch)):
        own = cosine(states[user, at], vector(model, rows(codes, target))).exp()
        of_others = [item for other, _, item in asked(batch) if other != user and item != target]
        others = [cosine(states[user, at], vector(model, rows(codes, item))).exp() for item in of_others]
        wrong = cosine(states[user, at], vector(model, synthetic[number].tolist())).exp()
        losses.append(-(own / (own + sum(others) + wrong)).log())
    users = torch.tensor([user for user, *_ in asked(batch)])
    given = model.states(batch, model.pool(model.rows))[batch.targets >= 0], torch.tensor(wanted), users
    same_loss_and_gradients(model, model.contrastive_losses(*given, synthetic).mean(), torch.stack(losses).mean())


def same_loss_and_gradients(model: VQRec, loss: torch.Tensor, expected: torch.Tensor) -> None:
    """Gradients of codes and positions, through all layers: torch's have copies of the layers' weights."""
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    parameters = [model.table.weight, model.encoder.positions.weight, *model.encoder.norm.parameters()]
    for mine, theirs in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_the_pre_training_step_draws_its_negatives(model, batch):
    """Over the vectors of the batch's items alone, with the losses above."""
    torch.manual_seed(3)
    found = model.contrast(batch)
    torch.manual_seed(3)
    targets, users = batch.targets[batch.targets >= 0], (batch.targets >= 0).nonzero()[:, 0]
    states = model.states(batch, model.pool(model.rows))[batch.targets >= 0]
    expected = model.contrastive_losses(states, targets, users, model.semi_synthetic(model.rows[targets])).mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_semi_synthetic_codes_stay_in_their_group(model):
    torch.manual_seed(0)
    own = model.rows.repeat(200, 1)
    drawn = model.semi_synthetic(own)
    assert torch.equal(drawn // SIZE, torch.arange(LEVELS * SIGNALS).expand_as(drawn))
    assert set(drawn.unique().tolist()) == set(range(LEVELS * SIGNALS * SIZE))
    changed = (drawn != own).float().mean()
    assert changed == pytest.approx(0.75 * (1 - 1 / SIZE), abs=0.01), "three of four are drawn, some the same again"


def test_phases(model):
    train = Sequences.from_lists([[1, 2, 3], [4, 5]])
    before, tune = model.phases(train, VQRecConfig(epochs=5, pretrain_epochs=2), seed=0)
    assert (before.name, before.epochs, before.loss) == ("pretrain", 2, model.contrast)
    assert (tune.name, tune.epochs, tune.loss) == ("train", 5, model.loss)
    assert [phase.name for phase in model.phases(train, VQRecConfig(pretrain_epochs=0), seed=0)] == ["train"]


def test_recommend_ranks_by_cosines_and_equal_codes_by_rows(model, codes, batch):
    found, scores = model.recommend(batch, Wanted(k=ITEMS))
    states = expected_states(model, codes, batch)
    for user, length in enumerate(batch.lengths):
        items = found[user].tolist()
        assert sorted(items) == list(range(ITEMS))
        expected = [cosine(states[user, length - 1], vector(model, rows(codes, item))) for item in items]
        torch.testing.assert_close(scores[user], torch.stack(expected).detach(), rtol=1e-4, atol=1e-5)
        assert items.index(11) == items.index(4) + 1


@pytest.mark.parametrize("users", [1, 2, 3, 64])
def test_equal_codes_have_equal_scores_for_any_number_of_users(users):
    """Products of few rows differ in the last bit, by the column."""
    torch.manual_seed(0)
    drawn = np.random.default_rng(0).integers(0, SIZE, (20, LEVELS, SIGNALS)).astype(np.uint16)
    kinds = np.arange(203) % 20
    codes = Codes(codes=drawn[kinds], modalities=("text", "image"), method="opq", codebook_size=SIZE)
    model = new_model("vq-rec", 203, codes, **(OPTIONS | {"width": 300, "heads": 1})).eval()
    spread(model, 0.5)
    items = torch.randint(0, 203, (users, 5))
    batch = Batch(items, torch.full_like(items, -1))
    order, scores = model.recommend(batch, Wanted(k=203, exclude=items))
    for row, values, seen in zip(order.tolist(), scores.tolist(), items.tolist(), strict=True):
        row, values = row[: 203 - len(set(seen))], values[: 203 - len(set(seen))]
        assert sorted([*row, *set(seen)]) == list(range(203))
        assert len({(kinds[item], value) for item, value in zip(row, values, strict=True)}) == 20
        ranked = sorted(range(len(row)), key=lambda place: (-values[place], row[place]))
        assert ranked == list(range(len(row)))


def test_users_in_parts(model, batch, monkeypatch):
    whole = model.recommend(batch, Wanted(k=ITEMS))
    monkeypatch.setattr("bbqrec_cli.models.vq_rec.ELSEWHERE", 2 * ITEMS)
    for made, expected in zip(model.recommend(batch, Wanted(k=ITEMS)), whole, strict=True):
        torch.testing.assert_close(made, expected)


def test_a_new_item_is_known_by_its_codes(model, codes, batch):
    """A copy of item 4 scores like item 4, and no other score changes."""

    def catalogue(items: int) -> Catalogue:
        ids = [f"i{item}" for item in range(items)]
        return Catalogue(user_ids=["u"], item_ids=ids, titles=ids, sequences=Sequences.from_lists([[0, 1, 2]]))

    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    trained = TrainedModel(catalogue=catalogue(ITEMS), name="vq-rec", settings=OPTIONS, weights=weights, codes=codes)
    more = dataclasses.replace(codes, codes=np.concatenate([codes.codes, codes.codes[4:5]]))
    grown = load_model(
        with_tokens(trained, Tokens(catalogue=catalogue(ITEMS + 1), codes=more), where="grown.h5"), torch.device("cpu")
    )
    items, scores = grown.recommend(batch, Wanted(k=ITEMS + 1))
    before, own = model.recommend(batch, Wanted(k=ITEMS))
    for user in range(len(items)):
        now = dict(zip(items[user].tolist(), scores[user].tolist(), strict=True))
        assert now[ITEMS] == now[4]
        assert {item: now[item] for item in before[user].tolist()} == pytest.approx(
            dict(zip(before[user].tolist(), own[user].tolist(), strict=True)), rel=1e-4, abs=1e-5
        )
