from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bbqrec_cli.data.features import standardized
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import DataError
from bbqrec_cli.records import Feature, Features
from bbqrec_cli.tokenizers.base import TokenizerInput
from bbqrec_cli.tokenizers.content import Content, choose_content
from bbqrec_cli.tokenizers.methods.rqvae import RQVAE, ItemBatches, RQVAENetwork, assign_codes
from bbqrec_cli.tokenizers.options.rqvae import RQVAEConfig
from bbqrec_cli.training.trainer import RunSettings

SMALL = RQVAEConfig(levels=2, codebook_size=4, dim=6, hidden=16, epochs=30, batch_size=5, learning_rate=0.01)


@pytest.fixture
def inputs(features: Features) -> TokenizerInput:
    train = split_of(features.catalogue.sequences).train
    return TokenizerInput(item_ids=features.catalogue.item_ids, features=features.features, train=train)


def small(**changes) -> RQVAEConfig:
    return dataclasses.replace(SMALL, **changes)


def network(content: Content, **changes) -> RQVAENetwork:
    torch.manual_seed(0)
    return RQVAENetwork(small(**changes), content)


def initialised(content: Content, **changes) -> RQVAENetwork:
    model, every = network(content, **changes), torch.arange(len(content.values))
    model.quantizer.initialise(model.encode(every), torch.ones(len(every), 1, dtype=torch.bool), seed=0)
    return model


def groups(*, width: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """60 items close to one of four far points: values and which point."""
    generator = np.random.default_rng(seed)
    label = np.arange(60) % 4
    return (generator.standard_normal((4, width))[label] + 0.01 * generator.standard_normal((60, width))), label


def test_clear_groups_are_the_first_level(inputs):
    values, label = groups()
    feature = Feature(values=values.astype(np.float32), present=np.ones(60, dtype=bool))
    many = dataclasses.replace(inputs, item_ids=[str(i) for i in range(60)], features={"text": feature})
    made = RQVAE(small(epochs=24, batch_size=20)).fit(many, RunSettings())
    first = made.codes.codes[:, 0, 0]
    assert len(set(zip(label.tolist(), first.tolist(), strict=True))) == 4, "one code a group"
    rows = made.history
    assert rows[-1]["reconstruction"] < 0.3 * rows[0]["reconstruction"]
    assert [row["quantised"] for row in rows] == [False] * 4 + [True] * 20
    assert rows[-1]["usage/content/1"] == 4


def test_the_loss_by_hand(inputs):
    """Eq. 9 for one signal: squared error summed over features, both halves of L_RQ, means over the items."""
    content = choose_content(small(signals=("text", "image")), inputs)
    model, rows = initialised(content, signals=("text", "image")), torch.tensor([1, 5, 7])
    parts = model.loss(rows)
    with torch.no_grad():
        x, z = model.features[rows], model.encode(rows)[:, 0]
        residual, expected = z.clone(), 0.0
        for level in range(2):
            code = torch.cdist(residual, model.quantizer.codebooks[0, level]).argmin(1)
            residual = residual - model.quantizer.codebooks[0, level, code]
            expected += 1.25 * residual.square().sum(1).mean().item()
        error = (model.decoder(z - residual) - x).square()
        error[1, 8:] = 0  # item 5 has no picture: columns 8 to 15
    assert parts["quantisation"].item() == pytest.approx(expected, rel=1e-4)
    assert parts["reconstruction"].item() == pytest.approx(error.sum(1).mean().item(), rel=1e-4)
    assert parts["loss"].item() == pytest.approx(parts["quantisation"].item() + parts["reconstruction"].item())


def test_before_the_codebooks_it_is_a_plain_autoencoder(inputs):
    content = choose_content(SMALL, inputs)
    model, rows = network(content), torch.tensor([0, 3])
    parts = model.loss(rows)
    expected = (model.decoder(model.encoder(model.features[rows])) - model.features[rows]).square().sum(1).mean()
    torch.testing.assert_close(parts["loss"], expected)
    assert parts["quantisation"] == 0


def test_missing_content(inputs):
    """An item without any is neither trained on nor clustered; all such share an ID and have no vector."""
    blank = {}
    for name, feature in inputs.features.items():
        present = feature.present.copy()
        present[[2, 9]] = False
        blank[name] = Feature(values=feature.values, present=present)
    some = dataclasses.replace(inputs, features=blank)
    config = small(signals=("text", "image"))
    content = choose_content(config, some)
    assert content.has_content.tolist() == [item not in (2, 9) for item in range(12)]
    assert not content.values[[2, 9]].any()
    made = RQVAE(config).fit(some, RunSettings())
    assert (made.codes.codes[2] == made.codes.codes[9]).all()
    assert not made.codes.item_vectors[[2, 9]].any()
    assert made.codes.item_vectors[0].any()
    assert made.codes.present.ravel().tolist() == content.has_content.tolist()


def test_side_by_side(inputs):
    content = choose_content(small(signals=("image", "text")), inputs)
    expected = [standardized(inputs.features[name]) for name in ("image", "text")]
    np.testing.assert_array_equal(content.values, np.concatenate(expected, axis=1))
    assert choose_content(SMALL, inputs).values.shape == (12, 8), "text alone unless asked"
    only = dataclasses.replace(inputs, features={"image": inputs.features["image"]})
    np.testing.assert_array_equal(choose_content(SMALL, only).values, expected[0])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"signals": ("imgae",)}, r"--signals names 'imgae'; the file has text, image \(did you mean 'image'"),
        ({"signals": ("id",)}, "--signals names 'id'"),
    ],
)
def test_signals_that_are_not_there(inputs, changes, says):
    with pytest.raises(DataError, match=says):
        RQVAE(small(**changes)).fit(inputs, RunSettings())


def test_no_content_at_all(inputs):
    with pytest.raises(DataError, match="holds no features") as caught:
        RQVAE(SMALL).fit(dataclasses.replace(inputs, features={}), RunSettings())
    assert caught.value.hint == "bbqrec embed"
    none = Feature(values=np.zeros((12, 3), dtype=np.float32), present=np.zeros(12, dtype=bool))
    with pytest.raises(DataError, match="no item has it"):
        RQVAE(small(signals=("text",))).fit(dataclasses.replace(inputs, features={"text": none}), RunSettings())


def test_dead_codes_move_onto_residuals(inputs):
    content = choose_content(small(signals=("text", "image")), inputs)
    model, every = initialised(content, signals=("text", "image")), torch.arange(12)
    with torch.no_grad():
        model.quantizer.codebooks[0, 0, 2] = 1e3
        model.quantizer.codebooks[0, 1, 1] = -1e3
    before, z = model.quantizer.codebooks.detach().clone(), model.encode(every)[:, 0]
    codes = model.quantizer(z.unsqueeze(1)).codes[:, :, 0]
    model.restart_dead_codes(every, seed=0, epoch=3)
    residual = [z, z - before[0, 0][codes[:, 0]]]
    for level in range(2):
        for code in range(4):
            now = model.quantizer.codebooks[0, level, code].detach()
            if (codes[:, level] == code).any():
                assert torch.equal(now, before[0, level, code]), "codes in use stay"
            else:
                assert any(torch.equal(now, each) for each in residual[level]), "others go to an item's residual"
    again = initialised(content, signals=("text", "image"))
    with torch.no_grad():
        again.quantizer.codebooks.copy_(before)
    again.restart_dead_codes(every, seed=0, epoch=3)
    assert torch.equal(again.quantizer.codebooks, model.quantizer.codebooks)


def test_row_batches():
    batches = ItemBatches(np.array([3, 5, 8, 9, 11]), batch_size=2, seed=0)
    rows = [each.tolist() for each in batches.epoch(0)]
    assert [len(part) for part in rows] == [2, 2, 1]
    assert sorted(row for part in rows for row in part) == [3, 5, 8, 9, 11]
    assert rows == [each.tolist() for each in batches.epoch(0)]
    assert rows != [each.tolist() for each in batches.epoch(1)]


def test_codes_are_the_nearest_by_the_codebooks(inputs):
    content = choose_content(SMALL, inputs)
    model = initialised(content)
    codes, vectors = assign_codes(model)
    books, residual = model.quantizer.codebooks.detach().numpy()[0], model.encode(torch.arange(12))[:, 0].numpy()
    total = np.zeros_like(residual)
    for level in range(2):
        nearest = ((residual[:, None] - books[level]) ** 2).sum(2).argmin(1)
        np.testing.assert_array_equal(codes[:, level, 0], nearest)
        residual = residual - books[level][nearest]
        total += books[level][nearest]
    np.testing.assert_array_equal(vectors[:10], total[:10])
    assert not vectors[10].any(), "the item without a text"


def test_sinkhorn_is_for_training_alone(inputs):
    """The loss takes even codes at the last level; IDs and figures are of the nearest ones, as for a new item."""
    content = choose_content(SMALL, inputs)
    plain, even = initialised(content), initialised(content, sinkhorn=0.003)
    rows = torch.arange(12)
    found = even.quantizer(even.encode(rows), sinkhorn=0.003)
    assert even.loss(rows)["quantisation"].item() == pytest.approx(found.loss.mean().item())
    assert even.loss(rows)["quantisation"] > plain.loss(rows)["quantisation"]
    for model in (plain, even):
        codes = model.quantizer(model.encode(rows)).codes
        np.testing.assert_array_equal(assign_codes(model.train())[0], codes)


def test_sinkhorn_trains(inputs):
    """Other codebooks than without it; the first level, and the warm-up, know nothing of it."""
    one, other = (RQVAE(small(sinkhorn=epsilon)).fit(inputs, RunSettings()) for epsilon in (0.0, 0.003))
    assert not np.array_equal(one.codes.codebooks, other.codes.codebooks)
    assert [row["loss"] for row in one.history[:5]] == [row["loss"] for row in other.history[:5]]
    assert one.history[5]["loss"] < other.history[5]["loss"]


@pytest.mark.parametrize(("hidden_layers", "widths"), [(1, [16]), (2, [16, 8]), (3, [16, 8, 4])])
def test_hidden_layers_are_each_half_as_wide(inputs, hidden_layers, widths):
    model = network(choose_content(small(), inputs), hidden_layers=hidden_layers)
    d, dim = model.features.shape[1], 6
    for stack, expected in ((model.encoder, [d, *widths, dim]), (model.decoder, [dim, *widths[::-1], d])):
        linear = [layer for layer in stack if isinstance(layer, torch.nn.Linear)]
        assert [linear[0].in_features, *(layer.out_features for layer in linear)] == expected
        x = y = torch.randn(5, expected[0])
        for layer in linear:
            y = layer.weight @ y.T + layer.bias[:, None]
            y = (y if layer is linear[-1] else y.clamp(min=0)).T
        torch.testing.assert_close(stack(x), y)
