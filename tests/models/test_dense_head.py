"""The dense head beside the generator: a mixture of two distributions over items, exact for whatever it returns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from helpers import new_generator

from bbqrec_cli import hdf5
from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models import generator_search
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.dense_head import DenseHead
from bbqrec_cli.models.new_items import with_tokens
from bbqrec_cli.models.registry import load_model
from bbqrec_cli.models.semantic_id_generator import SemanticIDGenerator
from bbqrec_cli.records import Codes, Tokens, TrainedModel
from bbqrec_cli.stages.evaluate import EvaluateConfig
from bbqrec_cli.stages.evaluate import run as evaluate
from bbqrec_cli.stages.train import TrainConfig
from bbqrec_cli.stages.train import run as train

ITEMS = 15


def generator(**settings) -> SemanticIDGenerator:
    """Items 3 and 9 share an ID; large random weights."""
    codes = np.random.default_rng(5).integers(0, 3, (ITEMS, 2, 2)).astype(np.uint16)
    codes[9] = codes[3]
    torch.manual_seed(0)
    model = new_generator(
        Codes(codes=codes, modalities=("a", "b"), method="t", codebook_size=3), width=8, heads=2, dropout=0.0,
        variant="no-similarity", **{"dense_head": True} | settings,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4).add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def parts(model: SemanticIDGenerator, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of all items by each head alone, (B, I)."""
    with torch.no_grad():
        memory = model.encode(batch)
        states = torch.stack([memory[b, 2 * n - 2 : 2 * n].sum(0) / 2**0.5 for b, n in enumerate(batch.lengths)])
        vectors = torch.stack([sum(model.table(v)[m, c[v, m]] for v in (0, 1) for m in (0, 1)) for c in model.codes])
        dense = (states @ (vectors + model.dense.own).T).log_softmax(1)
        every = torch.arange(ITEMS).expand(len(batch.items), -1)
        visible = batch.mask.unsqueeze(1).expand(-1, ITEMS, -1)
        return model.log_probabilities(memory, visible, every), dense


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_scores_are_the_mixture_and_sum_to_one(batch, share):
    model = generator()
    model.dense.share.fill_(share)
    generated, dense = (part.exp() for part in parts(model, batch))
    generated[:, [3, 9]] /= 2  # one ID, two items
    scores = model.score_all(batch).exp()
    torch.testing.assert_close(scores, (1 - share) * generated + share * dense, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores.sum(1), torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("beam", [1, 3, 6])
def test_a_narrow_beam_says_nothing_inexact_and_misses_nothing_that_either_head_puts_first(batch, beam):
    model = generator()
    exact, (generated, dense) = model.score_all(batch), parts(model, batch)
    items, scores = model.recommend(batch, Wanted(k=beam, beam=beam))
    torch.testing.assert_close(scores, exact.gather(1, items), atol=1e-4, rtol=1e-4)
    assert not torch.equal(dense.argsort(1, descending=True)[:, :beam], generated.argsort(1, descending=True)[:, :beam])
    for user in range(len(items)):
        offered = dense[user].topk(beam).indices
        assert exact[user][offered].max() <= scores[user, 0] + 1e-4
        left_out = set(offered.tolist()) - set(items[user].tolist())
        assert all(exact[user][item] <= scores[user, -1] + 1e-4 for item in left_out)


def test_equal_scores_come_in_the_order_of_the_codes(batch):
    model = generator()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    items, scores = model.recommend(batch, Wanted(k=ITEMS, beam=ITEMS))
    for row, values in zip(items, scores, strict=True):
        for value in values.unique():
            places = model.trie.place[row[values == value]]
            assert places.diff().gt(0).all()


def test_the_loss_is_the_sum_of_both(batch):
    model = generator()
    asked = (batch.targets != PAD).nonzero().tolist()
    expected = []
    for user, position in asked:
        alone = Batch(batch.items[user : user + 1, : position + 1], batch.targets[user : user + 1, : position + 1])
        generated, dense = (part[0, batch.targets[user, position]] for part in parts(model, alone))
        expected.append(-generated - dense)
    torch.testing.assert_close(model.loss(batch), torch.stack(expected).mean(), atol=1e-4, rtol=1e-4)


def test_every_part_of_it_is_learnt(batch):
    model = generator()
    model.loss(batch).backward()
    assert model.dense.own.grad.abs().sum() > 0


@pytest.mark.parametrize("better", [0, 1])
def test_the_share_is_the_likeliest(better):
    rng = np.random.default_rng(0)
    heads = [rng.normal(-5, 2, 400), rng.normal(-5, 2, 400)]
    heads[better] += 0.5
    head = DenseHead(3, 2)
    head.calibrate(*map(torch.from_numpy, heads))
    shares = np.linspace(0.001, 0.999, 999)
    likelihood = [np.logaddexp(heads[0] + np.log(1 - s), heads[1] + np.log(s)).mean() for s in shares]
    assert head.share.item() == pytest.approx(shares[int(np.argmax(likelihood))], abs=2e-3)
    assert (head.share.item() > 0.5) == (better == 1)


def test_a_head_that_is_never_right_gets_no_say():
    head = DenseHead(3, 2)
    head.calibrate(torch.full((9,), -1.0), torch.full((9,), -90.0))
    assert head.share.item() < 1e-5
    scores = head.mixture(torch.tensor([-1.0, -2.0]), torch.tensor([-90.0, -1.0]))
    assert scores.isfinite().all()


def test_calibration_reads_the_targets_and_travels_with_the_weights(batch):
    model = generator()
    last = batch.lengths.unsqueeze(1) - 1
    targets = batch.targets.gather(1, last)
    generated, dense = (part.gather(1, targets)[:, 0] for part in parts(model, batch))
    expected = DenseHead(3, 2)
    expected.calibrate(generated, dense)
    model.calibrate([batch])
    assert model.dense.share.item() == pytest.approx(expected.share.item(), abs=1e-4)
    assert model.dense.share.item() != 0.5
    assert "dense.share" in model.state_dict()
    plain = generator(dense_head=False)
    plain.calibrate([batch])
    assert not any(name.startswith("dense") for name in plain.state_dict())


def test_train_calibrates_and_the_file_keeps_it(files, tmp_path):
    small = {"width": 8, "heads": 2, "layers": 1, "decoder_layers": 1, "epochs": 2, "dense_head": True}
    output = tmp_path / "model.h5"
    trained = train(
        TrainConfig(input=files["tokens"], output=output, options=small, device="cpu", precision="fp32", force=True)
    )
    share = hdf5.read_model(output).weights["dense.share"]
    assert share.shape == ()
    assert 0 < share < 1
    assert share != 0.5
    validated = evaluate(
        EvaluateConfig(
            model=output, output=tmp_path / "m.h5", split="validation", k=(10,), beam=20, device="cpu", precision="fp32"
        )
    )
    assert validated.aggregates["ndcg@10"] == pytest.approx(trained.validation["ndcg@10"], abs=1e-6)


def test_items_that_come_later_are_what_their_codes_say(catalogue, codes):
    """A catalogue that has grown by one item, which no head has a row for."""
    small = {"width": 8, "heads": 2, "layers": 1, "decoder_layers": 1, "dense_head": True}
    torch.manual_seed(0)
    old = new_generator(codes, **small)
    weights = {name: value.numpy() for name, value in old.state_dict().items()}
    trained = TrainedModel(catalogue=catalogue, name="bbqrec", settings=small, weights=weights, codes=codes)
    more = dataclasses.replace(
        codes, codes=np.concatenate([codes.codes, codes.codes[:1]]),
        item_vectors=np.concatenate([codes.item_vectors, codes.item_vectors[:1]]),
    )  # fmt: skip
    wider = dataclasses.replace(
        catalogue, item_ids=[*catalogue.item_ids, "new"], titles=[*catalogue.titles, ""],
        attributes={name: [*values, ""] for name, values in catalogue.attributes.items()},
    )  # fmt: skip
    grown = with_tokens(trained, Tokens(catalogue=wider, codes=more), where="more.h5")
    model = load_model(grown, torch.device("cpu"))
    items, scores = model.recommend(Batch(torch.tensor([[1, 5]]), torch.tensor([[5, PAD]])), Wanted(k=13, beam=13))
    assert sorted(items[0].tolist()) == list(range(13))
    by_item = dict(zip(items[0].tolist(), scores[0].tolist(), strict=True))
    assert by_item[12] == pytest.approx(by_item[0], abs=1e-5), "the same codes, and nothing learnt of either"


def test_without_a_width_the_search_is_exact_where_that_is_faster(batch, monkeypatch):
    """With a dense head over the catalogue; all others have a beam of 50."""
    widths: list[int] = []
    search = generator_search.bounded_beam_search

    def spied(*rest, width, **more):
        widths.append(width)
        return search(*rest, width=width, **more)

    monkeypatch.setattr(generator_search, "bounded_beam_search", spied)
    model = generator()
    items, scores = model.recommend(batch, Wanted(k=4))
    assert widths == []
    wide_items, wide_scores = model.recommend(batch, Wanted(k=4, beam=ITEMS))
    assert torch.equal(items, wide_items)
    torch.testing.assert_close(scores, wide_scores)
    for settings in ({"dense_head": False}, {"normalisation": "codes", "tuple_vectors": "none"}):
        widths.clear()
        generator(**settings).recommend(batch, Wanted(k=4))
        assert widths == [50]
