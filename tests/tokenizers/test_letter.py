from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from bbqrec_cli import hdf5
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.records import Features, TrainedModel
from bbqrec_cli.tokenizers.base import TokenizerInput
from bbqrec_cli.tokenizers.content import choose_content
from bbqrec_cli.tokenizers.methods.letter import (
    LETTER,
    LETTERNetwork,
    code_clusters,
    collaborative_loss,
    diversity_loss,
)
from bbqrec_cli.tokenizers.methods.rqvae import RQVAENetwork
from bbqrec_cli.tokenizers.options.letter import LETTERConfig
from bbqrec_cli.tokenizers.options.rqvae import RQVAEConfig
from bbqrec_cli.training.trainer import RunSettings

SMALL = LETTERConfig(levels=2, codebook_size=12, dim=6, hidden=16, epochs=30, batch_size=6, learning_rate=0.01)


@pytest.fixture
def inputs(features: Features) -> TokenizerInput:
    train = split_of(features.catalogue.sequences).train
    return TokenizerInput(item_ids=features.catalogue.item_ids, features=features.features, train=train)


@pytest.fixture
def model(features: Features, tmp_path) -> Path:
    """Item vectors of unit length that say the group."""
    groups = np.eye(5, dtype=np.float32)[np.repeat(np.arange(3), 4)]
    made = TrainedModel(
        catalogue=features.catalogue, name="sasrec", settings={}, weights={"table.weight": groups}, history=[]
    )
    hdf5.write_model(tmp_path / "sasrec.h5", made, config={})
    return tmp_path / "sasrec.h5"


def network(inputs: TokenizerInput, config: LETTERConfig, table: np.ndarray | None) -> LETTERNetwork:
    torch.manual_seed(0)
    made = LETTERNetwork(config, choose_content(config, inputs), table)
    every = torch.arange(12)
    made.quantizer.initialise(made.encode(every), torch.ones(12, 1, dtype=torch.bool), seed=0)
    return made


def softmax(scores: np.ndarray) -> np.ndarray:
    made = np.exp(scores - scores.max(axis=1, keepdims=True))
    return made / made.sum(axis=1, keepdims=True)


def test_the_collaborative_loss_by_hand():
    """Each vector against all of the batch's collaborative ones, inner products, no temperature."""
    generator = np.random.default_rng(0)
    vectors, table = generator.standard_normal((5, 3)), generator.standard_normal((5, 3))
    expected = -np.log(np.diag(softmax(vectors @ table.T))).mean()
    found = collaborative_loss(torch.from_numpy(vectors), torch.from_numpy(table))
    assert found.item() == pytest.approx(expected)


def test_the_diversity_loss_by_hand():
    """The chosen code against all codes but itself; the positive is another one; -1 takes no part."""
    book = np.random.default_rng(0).standard_normal((6, 3))
    codes, positives = np.array([4, 0, 4, 2]), np.array([1, 5, 2, -1])
    expected = []
    for code, positive in zip(codes[:3], positives[:3], strict=True):
        others = [each for each in range(6) if each != code]
        shares = softmax((book[others] @ book[code])[None])[0]
        expected.append(-np.log(shares[others.index(positive)]))
    found = diversity_loss(torch.from_numpy(book), torch.from_numpy(codes), torch.from_numpy(positives))
    assert found.item() == pytest.approx(np.mean(expected))


def test_nobody_takes_part_in_the_diversity():
    alone = diversity_loss(torch.randn(4, 3), torch.tensor([1, 2]), torch.tensor([-1, -1]))
    assert alone.item() == 0


def test_positives(inputs):
    """Uniform over the other codes of the cluster; none for a code that is alone: no loop that never ends."""
    made = network(inputs, SMALL, None)
    made.set_clusters(np.array([[0, 0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 3], np.arange(12)]))
    torch.manual_seed(0)
    drawn = made.positives(0, torch.arange(12).repeat(3000)).view(3000, 12)
    for code, others in {0: {1, 2, 3}, 3: {0, 1, 2}, 4: {-1}, 5: {6}, 6: {5}, 9: {7, 8, 10, 11}}.items():
        values, counts = drawn[:, code].unique(return_counts=True)
        assert set(values.tolist()) == others
        assert counts.min() > 0.8 * 3000 / len(others)
    assert (made.positives(1, torch.arange(12)) == -1).all()


@pytest.mark.parametrize("clusters", [1, 5, 12, 50])
def test_clusters_of_codes(clusters):
    books = np.random.default_rng(0).standard_normal((2, 12, 4)).astype(np.float32)
    labels = code_clusters(books, clusters, seed=0)
    sizes = np.bincount(labels[0], minlength=min(clusters, 12))
    assert labels.shape == (2, 12)
    assert sizes.max() - sizes.min() <= 1
    np.testing.assert_array_equal(labels, code_clusters(books, clusters, seed=0))


def test_what_is_added_to_an_rqvae(inputs):
    """Both losses, weighed as if the reconstruction were averaged over features."""
    table = np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)
    config = dataclasses.replace(SMALL, collaborative_weight=0.5, diversity_weight=0.25)
    made, rows = network(inputs, config, table), torch.tensor([1, 5, 7, 8])
    made.set_clusters(code_clusters(made.quantizer.codebooks[0].detach().numpy(), 6, seed=0))  # two codes each
    parts = made.loss(rows)
    plain = RQVAENetwork.extra_losses(made, rows, torch.zeros(4, 6), None)[0]
    assert plain == 0
    added = 8 * (0.5 * parts["collaboration"] + 0.25 * parts["diversity"])
    torch.testing.assert_close(parts["loss"], parts["reconstruction"] + parts["quantisation"] + added)
    found = made.quantizer(made.encode(rows), sinkhorn=config.sinkhorn)
    q = made.project(found.vectors[:, 0]).detach().numpy()
    assert parts["collaboration"].item() == pytest.approx(
        -np.log(np.diag(softmax(q @ table[rows.numpy()].T))).mean(), rel=1e-4
    )
    books, codes = made.quantizer.codebooks[0], found.codes[:, :, 0]
    levels = [diversity_loss(books[n], codes[:, n], made.positives(n, codes[:, n])).item() for n in range(2)]
    assert parts["diversity"].item() == pytest.approx(np.mean(levels)), "with two codes a cluster nothing is drawn"
    parts["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())


def test_the_published_epsilon():
    """LETTER's program spreads a batch over the last level's codes; its IDs and an RQ-VAE's do without."""
    assert (LETTERConfig().sinkhorn, RQVAEConfig().sinkhorn) == (0.003, 0)


def test_even_codes_are_what_follows_and_spreads(inputs):
    """Both losses are of the codes with which a batch trains."""
    config = dataclasses.replace(SMALL, codebook_size=4, clusters=2, diversity_weight=1.0)
    made, rows = network(inputs, config, np.eye(12, 6, dtype=np.float32)), torch.arange(12)
    made.set_clusters(np.array([[0, 0, 1, 1]] * 2))  # two codes each: nothing is drawn
    even = made.quantizer(made.encode(rows), sinkhorn=0.003)
    nearest = made.quantizer(made.encode(rows))
    assert even.codes[:, 0].equal(nearest.codes[:, 0])
    assert not even.codes[:, 1].equal(nearest.codes[:, 1])
    found = made.loss(rows)
    for codes, same in ((even, True), (nearest, False)):
        vectors = codes.vectors.squeeze(1)
        expected = made.extra_losses(rows, vectors, codes)[1]
        for part in ("collaboration", "diversity"):
            assert (found[part].item() == pytest.approx(expected[part].item())) is same


def test_no_projection_where_the_widths_agree(inputs):
    made = network(inputs, SMALL, np.zeros((12, 6), dtype=np.float32))
    assert not list(made.project.parameters())


def test_it_follows_the_model(inputs, model):
    """The vectors of one group come to lie together, more than without the loss."""

    def alignment(weight: float) -> float:
        config = dataclasses.replace(
            SMALL, codebook_size=4, collaborative=str(model), collaborative_weight=weight, epochs=60
        )
        made = LETTER(config).fit(inputs, RunSettings())
        if weight:
            assert made.history[-1]["collaboration"] < made.history[0]["collaboration"]
        vectors = made.codes.item_vectors[:10] - made.codes.item_vectors[:10].mean(0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
        same = np.repeat(np.arange(3), 4)[:10, None] == np.repeat(np.arange(3), 4)[:10]
        similar = vectors @ vectors.T
        return float(similar[same].mean() - similar[~same].mean())

    assert alignment(5.0) > alignment(0.0)


def test_a_model_is_needed(inputs, tmp_path):
    with pytest.raises(UsageError, match="needs --collaborative") as caught:
        LETTER(SMALL).fit(inputs, RunSettings())
    assert "--model sasrec" in caught.value.hint
    without = dataclasses.replace(SMALL, collaborative_weight=0.0, epochs=4)
    assert "collaboration" not in LETTER(without).fit(inputs, RunSettings()).history[-1]
    with pytest.raises(MissingFileError):
        LETTER(dataclasses.replace(SMALL, collaborative=str(tmp_path / "no.h5"))).fit(inputs, RunSettings())


def test_another_catalogue_is_refused(inputs, model):
    other = dataclasses.replace(inputs, item_ids=[f"x{i}" for i in range(12)])
    with pytest.raises(DataError, match="does not know 12 of the items, 'x0' first"):
        LETTER(dataclasses.replace(SMALL, collaborative=str(model))).fit(other, RunSettings())


def test_the_model_is_a_parent(files, model, bbqrec, tmp_path):
    options = ["--method", "letter", "--collaborative", model, "--epochs", 2, "--warmup-epochs", 1, "--dim", 4]
    done = bbqrec("tokenize", files["features"], "-o", tmp_path / "t.h5", *options, "--codebook-size", 4)
    assert done.status == 0, done.err
    parents = hdf5.describe(tmp_path / "t.h5")["parents"]
    assert [(each["path"], each["sha256"]) for each in parents][1] == ("sasrec.h5", hdf5.sha256(model))
    done = bbqrec("tokenize", files["features"], "-o", tmp_path / "u.h5", *options[:2], "--collaborative", "no.h5")
    assert done.status == 3
    assert "no.h5: no such file" in done.err
