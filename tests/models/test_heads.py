"""Heads beside the generator: a pool of distributions over items, exact for whatever it returns."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from helpers import new_generator

from bbqrec_cli import hdf5
from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.errors import DataError
from bbqrec_cli.models import generator_search
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.heads import best_shares, pooled
from bbqrec_cli.models.new_items import with_tokens
from bbqrec_cli.models.options.markov import MarkovConfig
from bbqrec_cli.models.registry import load_model
from bbqrec_cli.models.semantic_id_generator import SemanticIDGenerator
from bbqrec_cli.records import Codes, Sequences, Tokens, TrainedModel
from bbqrec_cli.stages.evaluate import EvaluateConfig
from bbqrec_cli.stages.evaluate import run as evaluate
from bbqrec_cli.stages.train import TrainConfig
from bbqrec_cli.stages.train import run as train

ITEMS = 15
TRAIN = Sequences.from_lists(np.random.default_rng(6).integers(0, ITEMS - 1, (30, 4)).tolist())


VECTORS = np.random.default_rng(8).normal(size=(ITEMS, 4)).astype(np.float32)


def generator(*, vectors: np.ndarray | None = VECTORS, **settings) -> SemanticIDGenerator:
    """Items 3 and 9 share an ID; large random weights."""
    codes = np.random.default_rng(5).integers(0, 3, (ITEMS, 2, 2)).astype(np.uint16)
    codes[9] = codes[3]
    torch.manual_seed(0)
    model = new_generator(
        Codes(codes=codes, modalities=("a", "b"), method="t", codebook_size=3, item_vectors=vectors),
        width=8, heads=2, dropout=0.0, variant="no-similarity", **{"dense_head": True} | settings,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4).add_(0.1 * torch.randn_like(parameter))
    model.prepare(TRAIN)
    return model.eval()


def parts(model: SemanticIDGenerator, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of all items by each head alone, (B, I)."""
    with torch.no_grad():
        memory = model.encode(batch)
        states = torch.stack([memory[b, 2 * n - 2 : 2 * n].sum(0) / 2**0.5 for b, n in enumerate(batch.lengths)])
        vectors = torch.stack([sum(model.table(v)[m, c[v, m]] for v in (0, 1) for m in (0, 1)) for c in model.codes])
        own = model.dense.own if model.dense else 0
        dense = (states @ (vectors + own).T).log_softmax(1)
        every = torch.arange(ITEMS).expand(len(batch.items), -1)
        visible = batch.mask.unsqueeze(1).expand(-1, ITEMS, -1)
        return model.log_probabilities(memory, visible, every), dense


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_scores_are_the_weighted_mean_of_log_probabilities(batch, share):
    model = generator()
    model.dense.weight.fill_(share)
    generated, dense = parts(model, batch)
    generated[:, [3, 9]] -= np.log(2)  # one ID, two items
    torch.testing.assert_close(model.score_all(batch), (1 - share) * generated + share * dense, atol=1e-4, rtol=1e-4)


def transitions(batch: Batch) -> torch.Tensor:
    """P of all items by a Markov chain, counted in loops, (B, I)."""
    chosen = MarkovConfig()
    users = [TRAIN[user].tolist() for user in range(len(TRAIN))]
    counts, seen = np.zeros((ITEMS, ITEMS)), np.bincount(np.concatenate(users), minlength=ITEMS)
    for user in users:
        for before, after in itertools.pairwise(user):
            counts[before, after] += 1
    chain = counts + chosen.smoothing * seen / seen.sum()
    chain /= chain.sum(1, keepdims=True)
    made = []
    for history, length in zip(batch.items.tolist(), batch.lengths.tolist(), strict=True):
        rows = history[:length][::-1]
        made.append(np.average(chain[rows], axis=0, weights=[chosen.decay**back for back in range(length)]))
    return torch.from_numpy(np.stack(made)).float()


@pytest.mark.parametrize("dense_head", [False, True])
def test_a_markov_head_says_what_followed(batch, dense_head):
    model = generator(dense_head=dense_head, markov_head=True)
    generated, dense = parts(model, batch)
    generated[:, [3, 9]] -= np.log(2)
    of_dense = 0.3 if dense_head else 0.0
    for name, share in (("dense", of_dense), ("markov", 0.2)):
        if name in model.heads:
            model.heads[name].weight.fill_(share)
    chain = transitions(batch)
    assert (chain[:, ITEMS - 1] == 0).all(), "nobody had it: not ruled out"
    expected = (0.8 - of_dense) * generated + of_dense * dense + 0.2 * (0.99 * chain + 0.01 / ITEMS).log()
    torch.testing.assert_close(model.score_all(batch), expected, atol=1e-4, rtol=1e-4)
    ordered = expected.sort(dim=1, descending=True)
    for beam in (0, ITEMS):
        items, scores = model.recommend(batch, Wanted(k=6, beam=beam))
        torch.testing.assert_close(scores, ordered.values[:, :6], atol=1e-4, rtol=1e-4)
        assert torch.equal(items, ordered.indices[:, :6])


@pytest.mark.parametrize("train", [TRAIN, Sequences.from_lists([[1, 2, 3, 4], [5, 3, 1]])], ids=["repeats", "none"])
def test_similarity_heads_say_what_is_like_the_history(batch, train):
    """By loops, of each signal on its own; item 6 has no second one."""
    vectors = np.random.default_rng(7).normal(size=(ITEMS, 6)).astype(np.float32)
    vectors[6, 3:] = 0
    model = generator(dense_head=False, similarity_head=True, vectors=vectors)
    model.prepare(train)
    targets = [(user[:place], item) for user in train for place, item in enumerate(user.tolist()) if place]
    repeats = np.mean([item in before for before, item in targets])
    assert (repeats > 0) == (train is TRAIN)
    with torch.no_grad():
        answers = model.answers(model.encode(batch), batch, None)
    assert list(answers) == ["similarity-a", "similarity-b"]
    for found, part in zip(answers.values(), (vectors[:, :3], vectors[:, 3:]), strict=True):
        unit = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
        for user, length in enumerate(batch.lengths.tolist()):
            history = batch.items[user, :length].tolist()[::-1]
            mean = np.average(unit[history], axis=0, weights=[0.8**back for back in range(length)])
            strength, seen = np.exp(unit @ mean / 0.1), np.isin(np.arange(ITEMS), history)
            p = np.where(seen, repeats, 1 - repeats) * strength
            p[seen] /= strength[seen].sum()
            p[~seen] /= strength[~seen].sum()
            assert p.sum() == pytest.approx(1 if repeats else 1 - repeats)
            np.testing.assert_allclose(found[user].exp(), np.maximum(p, 1e-12), rtol=2e-3, atol=1e-7)


def test_without_a_history_nothing_is_more_similar(batch):
    model = generator(similarity_head=True, markov_head=True)
    nobody = Batch(torch.full((1, 5), PAD), torch.full((1, 5), PAD))
    for name, head in model.heads.items():
        if name != "dense":
            assert head(nobody).isfinite().all()
    assert head(nobody).std() < 1e-6
    items, scores = model.recommend(nobody, Wanted(k=ITEMS))
    assert sorted(items[0].tolist()) == list(range(ITEMS))
    assert scores.isfinite().all()


def test_shares_of_all_heads_are_chosen_together(batch):
    """They are as good as equal ones at least, by scores of all items."""
    model = generator(markov_head=True, similarity_head=True)
    assert model.shares().tolist() == pytest.approx([0.2] * 4), "equal at first"
    before = figure(model, batch)
    model.calibrate([(batch, None)])
    assert 0 < model.shares().sum() < 1
    assert figure(model, batch) >= before


def figure(model: SemanticIDGenerator, batch: Batch) -> float:
    """NDCG@10 of the batch's last targets."""
    scores, last = model.score_all(batch), batch.targets.gather(1, batch.lengths.unsqueeze(1) - 1)
    rank = 1 + (scores > scores.gather(1, last)).sum(1)
    return float(torch.where(rank <= 10, 1 / (1 + rank).log2(), 0.0).mean())


def test_similarity_needs_vectors():
    with pytest.raises(DataError, match="--similarity-head needs vectors"):
        generator(similarity_head=True, vectors=None)


def test_half_precision_does_not_round_what_the_heads_say(batch):
    model = generator(markov_head=True, similarity_head=True)
    with torch.autocast("cpu", torch.bfloat16):
        items, scores = model.recommend(batch, Wanted(k=5, beam=0))
        wide_items, wide = model.recommend(batch, Wanted(k=5, beam=ITEMS))
    torch.testing.assert_close(scores, wide, atol=1e-4, rtol=1e-4)
    assert torch.equal(items, wide_items)


def test_repeats_count_within_the_history_that_is_seen():
    """Two of five targets repeat an item that is at most two places before."""
    model = generator(similarity_head=True, history=2)
    model.prepare(Sequences.from_lists([[1, 1, 2, 3], [4, 5, 4], [6]]))
    assert model.alike[0].repeats.item() == pytest.approx(2 / 5)
    model.prepare(Sequences.from_lists([[1, 2, 3, 1, 2, 3], []]))
    assert model.alike[1].repeats.item() == 0


def test_what_is_left_out_of_the_ranking_has_no_part_in_the_shares(batch):
    model = generator(markov_head=True)
    last = batch.targets.gather(1, batch.lengths.unsqueeze(1) - 1)
    hits: list[torch.Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator_search, "best_shares", lambda hit, log_p: hits.append(hit) or torch.full((3,), 1 / 3))
        model.calibrate([(batch, None)])
        model.calibrate([(batch, last)])
    assert hits[0].any(1).all()
    assert not hits[1].any()


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
    assert (model.dense.own.grad.abs().sum(1) > 0).tolist() == [
        item in set(TRAIN.items.tolist()) for item in range(ITEMS)
    ]
    assert ITEMS - 1 not in TRAIN.items, "an item without interactions stays the sum of its codes"


def by_hand(hit: np.ndarray, log_p: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """NDCG@10 of each user; shares: of the heads."""
    found = []
    for row, values in zip(hit, log_p, strict=True):
        scores = (1 - sum(shares)) * values[:, 0] + values[:, 1:] @ shares
        rank = 1 + (scores > scores[row]).sum() if row.any() else 99
        found.append(1 / np.log2(1 + rank) if rank <= 10 else 0.0)
    return np.array(found)


@pytest.mark.parametrize("heads", [1, 3])
def test_no_single_share_is_clearly_better_otherwise(heads):
    rng = np.random.default_rng(heads)
    hit = np.zeros((200, 30), dtype=bool)
    hit[np.arange(180), rng.integers(0, 30, 180)] = True  # twenty targets are no candidates
    right = np.array([0.2, 2.5, 0.0, 1.0])[: 1 + heads]
    log_p = rng.normal(-5, 2, (200, 30, 1 + heads)) + hit[:, :, None] * right
    found = best_shares(torch.from_numpy(hit), torch.from_numpy(log_p)).numpy()
    assert found.sum() == pytest.approx(1)
    assert found.argmax() == 1, "the head that knows most"
    best, equal = by_hand(hit, log_p, found[1:]), by_hand(hit, log_p, np.full(heads, 1 / (1 + heads)))
    assert best.mean() > equal.mean()
    for number, factor in itertools.product(range(1 + heads), (1.3, 1 / 1.3)):
        other = found.copy()
        other[number] *= factor
        gain = by_hand(hit, log_p, other[1:] / other.sum()) - best
        assert gain.mean() <= gain.std() / 200**0.5


def test_noise_changes_no_share():
    rng = np.random.default_rng(0)
    hit = np.arange(30) == rng.integers(0, 30, (100, 1))
    one = rng.normal(-5, 2, (100, 30, 1)) + hit[:, :, None]
    log_p = torch.from_numpy(np.concatenate([one, one + 1e-9 * rng.normal(size=one.shape)], axis=2))
    assert best_shares(torch.from_numpy(hit), log_p).tolist() == [0.5, 0.5]


def test_a_head_that_is_never_right_gets_no_say():
    """The target is first for the generator, and last for the head."""
    log_p = torch.tensor([[[-1.0, -9.0]] + [[-2.0, -1.0]] * 20]).double()
    hit = torch.arange(21).unsqueeze(0) == 0
    shares = best_shares(hit, log_p)
    assert pooled(log_p, shares[1:])[0].argmax() == 0
    assert shares[1] < 0.2
    assert pooled(torch.tensor([-1.0, -90.0]), torch.tensor([0.0])).item() == -1


def test_calibration_reads_the_targets_and_travels_with_the_weights(batch):
    model = generator()
    last = batch.lengths.unsqueeze(1) - 1
    targets = batch.targets.gather(1, last)
    generated, dense = parts(model, batch)
    generated[:, [3, 9]] -= np.log(2)
    hit = torch.arange(ITEMS) == targets
    expected = best_shares(hit, torch.stack([generated, dense], dim=2))[1].item()
    model.calibrate([(batch, None)])
    assert model.dense.weight.item() == pytest.approx(expected)
    assert "dense.weight" in model.state_dict()
    plain = generator(dense_head=False)
    plain.calibrate([(batch, None)])
    assert not any(name.startswith("dense") for name in plain.state_dict())


def test_calibration_keeps_nothing_for_gradients(batch, monkeypatch):
    """Of which the validation users' logits would need much memory."""
    model, kept = generator(dense_head=True), list[bool]()

    def noted(model, batches):
        kept.append(torch.is_grad_enabled())
        return torch.tensor([0.5, 0.5])

    monkeypatch.setattr("bbqrec_cli.models.semantic_id_generator.fitted_shares", noted)
    model.calibrate([(batch, None)])
    assert kept == [False]


def test_train_calibrates_and_the_file_keeps_it(files, tmp_path):
    small = {"width": 8, "heads": 2, "layers": 1, "decoder_layers": 1, "epochs": 2, "dense_head": True}
    output = tmp_path / "model.h5"
    trained = train(
        TrainConfig(input=files["tokens"], output=output, options=small, device="cpu", precision="fp32", force=True)
    )
    share = hdf5.read_model(output).weights["dense.weight"]
    assert share.shape == ()
    assert 0 <= share < 1

    validated = evaluate(
        EvaluateConfig(
            model=output, output=tmp_path / "m.h5", split="validation", k=(10,), beam=20, device="cpu", precision="fp32"
        )
    )
    assert validated.aggregates["ndcg@10"] == pytest.approx(trained.validation["ndcg@10"], abs=1e-6)


def grown(catalogue, codes, settings) -> SemanticIDGenerator:
    """A model whose catalogue has grown by item 12, with the codes of item 0, which nobody had in training."""
    torch.manual_seed(0)
    old = new_generator(codes, **settings)
    old.prepare(Sequences.from_lists([[1, 2, 3], [4, 1, 2]]))  # nobody had item 0
    weights = {name: value.numpy() for name, value in old.state_dict().items()}
    trained = TrainedModel(catalogue=catalogue, name="bbqrec", settings=settings, weights=weights, codes=codes)
    more = dataclasses.replace(
        codes, codes=np.concatenate([codes.codes, codes.codes[:1]]),
        item_vectors=np.concatenate([codes.item_vectors, codes.item_vectors[:1]]),
    )  # fmt: skip
    wider = dataclasses.replace(
        catalogue, item_ids=[*catalogue.item_ids, "new"], titles=[*catalogue.titles, ""],
        attributes={name: [*values, ""] for name, values in catalogue.attributes.items()},
    )  # fmt: skip
    later = with_tokens(trained, Tokens(catalogue=wider, codes=more), where="more.h5")
    return load_model(later, torch.device("cpu"))


@pytest.mark.parametrize("counted", [False, True])
def test_items_that_come_later_are_what_their_codes_say(catalogue, codes, counted):
    """A catalogue that has grown by one item, which no head has a row for."""
    small = {"width": 8, "heads": 2, "layers": 1, "decoder_layers": 1, "dense_head": True}
    small |= {"markov_head": True, "similarity_head": True} if counted else {}
    model = grown(catalogue, codes, small)
    items, scores = model.recommend(Batch(torch.tensor([[1, 5]]), torch.tensor([[5, PAD]])), Wanted(k=13, beam=13))
    assert sorted(items[0].tolist()) == list(range(13))
    by_item = dict(zip(items[0].tolist(), scores[0].tolist(), strict=True))
    assert by_item[12] == pytest.approx(by_item[0], abs=1e-5), "the same codes, and nothing learnt of either"


def test_after_an_item_that_came_later_the_markov_head_says_what_is_popular(catalogue, codes):
    """As after an item that nobody had: what is left for popularity is all."""
    small = {"width": 8, "heads": 2, "layers": 1, "decoder_layers": 1, "markov_head": True}
    new, nobody = grown(catalogue, codes, small).markov(Batch(torch.tensor([[12], [0]]), torch.full((2, 1), PAD)))
    torch.testing.assert_close(new, nobody)
    assert float(new.exp().sum()) == pytest.approx(1.0)
    assert new.exp().argmax() in (1, 2)


def test_without_a_width_the_search_is_exact_where_that_is_faster(batch, monkeypatch):
    """With a head over the catalogue; all others have a beam of 50."""
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
    widths.clear()
    generator(dense_head=False, markov_head=True).recommend(batch, Wanted(k=4))
    assert widths == []
    for settings in ({"dense_head": False}, {"normalisation": "codes", "tuple_vectors": "none"}):
        widths.clear()
        generator(**settings).recommend(batch, Wanted(k=4))
        assert widths == [50]


@pytest.mark.parametrize("tuple_vectors", ["free", "interaction", "none"])
def test_answers_in_bfloat16_do_not_depend_on_the_number_of_users(tuple_vectors):
    """The logits of the first level are made in two ways, for few users and for many; neither may be rounded."""
    model = generator(dense_head=False, tuple_vectors=tuple_vectors)
    items = torch.from_numpy(np.random.default_rng(2).integers(0, ITEMS, (generator_search.MANY, 1)))
    batch = Batch(items, torch.full_like(items, PAD))
    with torch.autocast("cpu", torch.bfloat16):
        every, scores = model.recommend(batch, Wanted(k=5, beam=0))
        for user in range(len(items)):
            alone = Batch(items[user : user + 1], batch.targets[user : user + 1])
            found, own = model.recommend(alone, Wanted(k=5, beam=0))
            torch.testing.assert_close(own[0], scores[user], atol=1e-4, rtol=1e-4)
            assert found[0].tolist() == every[user].tolist()
