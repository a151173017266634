"""The generator against enumerations: its probabilities, its masks, its beam, its training."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import new_generator

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD, pad, split_of
from bbqrec_cli.decoding.beam import Permitted, beam_search, item_log_probabilities
from bbqrec_cli.errors import DataError
from bbqrec_cli.models import generator_search as module
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.semantic_id_generator import SemanticIDGenerator
from bbqrec_cli.records import Codes

ITEMS, EPOCHS = 15, 120
SHAPES = [(1, 1), (4, 1), (1, 3), (2, 2), (3, 2)]


def some_codes(levels: int, signals: int, *, size: int = 3, items: int = ITEMS) -> Codes:
    rng = np.random.default_rng([levels, signals])
    return Codes(
        codes=rng.integers(0, size, (items, levels, signals)).astype(np.uint16),
        modalities=tuple(f"s{m}" for m in range(signals)), method="test", codebook_size=size,
        codebooks=rng.standard_normal((1, levels, size, 6)).astype(np.float32),
        item_vectors=rng.standard_normal((items, 5)).astype(np.float32),
    )  # fmt: skip


def generator(levels: int = 2, signals: int = 2, *, sharp: float = 4.0, **settings) -> SemanticIDGenerator:
    """With large random weights, so that nothing is equal by accident."""
    torch.manual_seed(0)
    codes = some_codes(levels, signals)
    settings = {"width": 8, "layers": 1, "decoder_layers": 1, "heads": 2, "dropout": 0.0} | settings
    model = new_generator(codes, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(sharp).add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def test_the_decoder_starts_from_the_last_visible_item():
    model = generator(2, 1)
    memory = torch.arange(2 * 6.0).view(1, 6, 2)  # 3 items of 2 tokens
    visible = torch.tensor([[[True, True, False], [False, False, False], [True, True, True]]])
    expected = torch.stack([memory[0, 2] + memory[0, 3], torch.zeros(2), memory[0, 4] + memory[0, 5]]) / 2**0.5
    torch.testing.assert_close(model.last_states(memory, visible)[0], expected)


def test_free_tuple_vectors_are_of_the_first_level_only_and_start_at_nothing(batch):
    torch.manual_seed(0)
    with_them = new_generator(some_codes(2, 2), width=8, heads=2, dropout=0.0).eval()
    torch.manual_seed(0)
    without = new_generator(some_codes(2, 2), width=8, heads=2, dropout=0.0, tuple_vectors="none").eval()
    torch.testing.assert_close(with_them.score_all(batch), without.score_all(batch))
    assert with_them.tuples.shape == (len(np.unique(with_them.codes[:, 0].numpy(), axis=0)), 8)
    assert without.tuples is None
    # A bias of its own moves one tuple's items and, by the softmax, all others alike.
    with torch.no_grad():
        with_them.tuple_bias[1] = 3.0
    change = with_them.score_all(batch) - without.score_all(batch)
    moved = with_them.trie.node(1) == 1
    assert (change[:, moved] > 0.5).all()
    assert (change[:, ~moved] < 0).all()
    torch.testing.assert_close(change[:, ~moved], change[:, ~moved][:, :1].expand(-1, int((~moved).sum())))


def test_composed_tuple_vectors_are_the_mean_of_the_codes_below():
    model = generator(3, 2, tuple_vectors="composed")
    assert model.tuples is None
    vectors, bias = model.of_tuples()
    firsts = sorted({tuple(row) for row in model.codes[:, 0].tolist()})
    assert len(vectors) == len(firsts) < ITEMS
    for row, first in enumerate(firsts):
        below = [item.tolist() for item in model.codes if tuple(item[0].tolist()) == first]
        sums = [sum(model.table(level)[m, item[level][m]] for level in (1, 2) for m in (0, 1)) for item in below]
        torch.testing.assert_close(vectors[row], torch.stack(sums).mean(0))
        assert bias[row].item() == pytest.approx(np.log(len(below)))
    assert generator(1, 2, tuple_vectors="composed").of_tuples() is None, "nothing is below"


@pytest.mark.parametrize("signals", [2, 3])
def test_an_interaction_of_codes_by_an_explicit_loop(signals, batch):
    model = generator(2, signals, tuple_vectors="interaction")
    vectors, bias = model.of_tuples()
    made, table = model.interaction, model.table(0) * 8**0.5
    for row, codes in enumerate(model.trie.codes(0).tolist()):
        product = 1.0
        for m, code in enumerate(codes):
            product = product * (made.maps[m].weight @ table[m, code] + made.maps[m].bias)
        expected = made.out.weight @ product + made.out.bias
        torch.testing.assert_close(torch.cat([vectors[row], bias[row : row + 1]]), expected, atol=1e-4, rtol=1e-4)
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith("interaction")}
    plain = generator(2, signals, tuple_vectors="none")
    plain.load_state_dict(kept)
    with torch.no_grad():
        made.out.weight.zero_()
        made.out.bias.zero_()
    torch.testing.assert_close(model.score_all(batch), plain.score_all(batch))
    assert generator(2, 1, tuple_vectors="interaction").of_tuples() is None, "one code has nothing to say together"


WAYS = [
    {}, {"normalisation": "codes"}, {"tuple_vectors": "composed"}, {"tuple_vectors": "interaction"},
    {"dense_head": True}, {"normalisation": "codes", "dense_head": True},
]  # fmt: skip


@pytest.mark.parametrize("settings", WAYS, ids=str)
@pytest.mark.parametrize(("levels", "signals"), SHAPES)
def test_a_beam_as_wide_as_the_catalogue_agrees_with_teacher_forcing(levels, signals, settings, batch):
    model = generator(levels, signals, **settings)
    exact = model.score_all(batch, block=4)
    items, scores = model.recommend(batch, Wanted(k=ITEMS, beam=ITEMS))
    torch.testing.assert_close(scores, exact.gather(1, items), atol=1e-4, rtol=1e-4)
    assert items.sort(dim=1).values.eq(torch.arange(ITEMS)).all()
    assert exact.std() > 0.1


@pytest.mark.parametrize("settings", [*WAYS, {"masking": "bidirectional"}, {"tuple_vectors": "none"}], ids=str)
@pytest.mark.parametrize(("levels", "signals"), SHAPES)
def test_an_exact_search_agrees_with_teacher_forcing(levels, signals, settings, batch):
    model = generator(levels, signals, **settings)
    allowed = torch.arange(ITEMS) != 3
    exclude = torch.tensor([[1, 2, 1, PAD], [4, PAD, PAD, PAD], [PAD] * 4])
    for wanted in (Wanted(k=4, beam=0), Wanted(k=ITEMS + 1, beam=0, allowed=allowed, exclude=exclude)):
        exact = model.score_all(batch)
        if wanted.allowed is not None:
            exact[:, 3] = exact[0, [1, 2]] = exact[1, 4] = -torch.inf
        items, scores = model.recommend(batch, wanted)
        best = exact.topk(min(wanted.k, ITEMS), dim=1).values
        torch.testing.assert_close(scores[:, :ITEMS], best, atol=1e-4, rtol=1e-4)
        found = torch.where(items >= 0, exact.gather(1, items.clamp(min=0)), -torch.inf)
        torch.testing.assert_close(found, scores, atol=1e-4, rtol=1e-4)
        widest, _ = model.recommend(batch, replace(wanted, beam=ITEMS))
        assert items.tolist() == widest.tolist()


@pytest.mark.parametrize("settings", WAYS, ids=str)
def test_a_beam_finds_what_the_plain_one_finds_for_each_user_alone(settings, monkeypatch):
    monkeypatch.setattr(module, "USERS_AT_ONCE", 3)
    monkeypatch.setattr(module, "MANY", 7)
    model, rng = generator(3, 2, **settings | {"dense_head": False}), np.random.default_rng(0)
    histories = [rng.integers(0, ITEMS, n) for n in (5, 1, 3, 2, 4, 4, 2)]
    batch = Batch(torch.from_numpy(pad(histories)), torch.full((7, 5), PAD))
    exclude = torch.tensor([[n, PAD] for n in range(7)])
    for wanted in (Wanted(k=2, beam=6, exclude=exclude), Wanted(k=2, beam=3), Wanted(k=2, beam=0, exclude=exclude)):
        items, scores = model.recommend(batch, wanted)
        for user, history in enumerate(histories):
            alone = torch.from_numpy(history).unsqueeze(0)
            permitted = Permitted.of(model.trie, None, None if wanted.exclude is None else exclude[user : user + 1], 1)
            with torch.no_grad():
                step = model.stepper(model.encode(Batch(alone, alone)), torch.ones_like(alone, dtype=torch.bool))
                expected, best = beam_search(
                    model.trie, step, width=wanted.beam or ITEMS, k=2, permitted=permitted,
                    over_children=model.over_children,
                )  # fmt: skip
            assert items[user].tolist() == expected[0].tolist()
            torch.testing.assert_close(scores[user], best[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("settings", WAYS, ids=str)
def test_following_given_items_gives_their_probabilities(settings, batch):
    model = generator(3, 2, **settings | {"dense_head": False})
    items = torch.tensor([[4, 4, 0], [14, 2, 1], [7, 8, 9]])
    with torch.no_grad():
        step = model.stepper(model.encode(batch), batch.mask)
        found = item_log_probabilities(model.trie, step, items, over_children=model.over_children)
    torch.testing.assert_close(found, model.score_all(batch).gather(1, items), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("levels", "signals"), SHAPES)
def test_over_the_catalogue_the_distinct_tuples_sum_to_one(levels, signals, batch):
    model = generator(levels, signals, normalisation="catalogue")
    _, first = np.unique(model.codes.flatten(1).numpy(), axis=0, return_index=True)
    total = model.score_all(batch)[:, first].exp().sum(1)
    torch.testing.assert_close(total, torch.ones(3), atol=1e-4, rtol=0)


def test_over_codes_all_tuples_sum_to_one(batch):
    every = np.array(list(itertools.product(range(2), repeat=4)), dtype=np.uint16).reshape(16, 2, 2)
    codes = Codes(codes=every, modalities=("a", "b"), method="test", codebook_size=2)
    torch.manual_seed(0)
    model = new_generator(codes, width=8, heads=2, variant="no-similarity", normalisation="codes").eval()
    torch.testing.assert_close(model.score_all(batch).exp().sum(1), torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("normalisation", ["catalogue", "codes"])
@pytest.mark.parametrize("masking", ["causal", "bidirectional"])
def test_the_loss_is_that_of_each_prefix_on_its_own(batch, masking, normalisation):
    model = generator(3, 2, masking=masking, normalisation=normalisation)
    expected = []
    for user, position in (batch.targets != PAD).nonzero().tolist():
        if masking == "bidirectional" and position + 1 < batch.lengths[user]:
            continue
        alone = Batch(batch.items[user : user + 1, : position + 1], batch.targets[user : user + 1, : position + 1])
        expected.append(-model.score_all(alone)[0, batch.targets[user, position]])
    torch.testing.assert_close(model.loss(batch), torch.stack(expected).mean(), atol=1e-4, rtol=1e-4)


def test_causal_states_do_not_depend_on_later_items(batch):
    model = generator(3, 2)
    targets = torch.full_like(batch.targets, PAD)
    targets[0, 2] = 0
    changed = batch.items.clone()
    changed[0, 3:] = torch.tensor([1, 2])
    before, after = model.loss(Batch(batch.items, targets)), model.loss(Batch(changed, targets))
    assert before.item() == pytest.approx(after.item(), abs=1e-6)
    changed[0, 1] = 6
    assert model.loss(Batch(changed, targets)).item() != pytest.approx(before.item(), abs=1e-3)
    # Nor does its gradient: the places of later items get none.
    model.loss(Batch(batch.items, targets)).backward()
    assert (model.positions.weight.grad.abs().sum(1) > 0).tolist() == [True] * 3 + [False] * (model.history - 3)


def test_bidirectional_states_do(batch):
    model = generator(2, 2, masking="bidirectional")
    before = model.encode(batch)
    changed = batch.items.clone()
    changed[0, 4] = 1
    after = model.encode(Batch(changed, batch.targets))
    assert (before - after)[0, :8].abs().max() > 1e-3
    torch.testing.assert_close(before[1:], after[1:])


def test_padding_changes_nothing(batch):
    model = generator(2, 2)
    wide = Batch(*(torch.nn.functional.pad(x, (0, 3), value=PAD) for x in (batch.items, batch.targets)))
    torch.testing.assert_close(model.loss(wide), model.loss(batch))
    torch.testing.assert_close(model.score_all(wide), model.score_all(batch), atol=1e-5, rtol=1e-5)


def test_similarity_decides_only_in_the_full_variant(batch):
    losses = {}
    for variant in ("full", "no-similarity"):
        model = generator(2, 2, variant=variant)
        torch.manual_seed(1)
        for name, parameter in sorted(model.named_parameters()):
            if "similarity" not in name:
                torch.nn.init.normal_(parameter)
            else:
                torch.nn.init.ones_(parameter)
        losses[variant] = model.loss(batch).item()
        assert any("similarity" in name for name, _ in model.named_parameters()) == (variant == "full")
    assert losses["full"] == pytest.approx(losses["no-similarity"], rel=1e-5)


def test_inherit_starts_from_the_codebooks():
    torch.manual_seed(0)
    codes = some_codes(2, 2)
    model = new_generator(codes, width=8, heads=2, variant="inherit")
    table = model.tokens.weight.detach().view(2, 2, 3, 8)[..., :6]
    ratio = table.numpy() / codes.codebooks[0][:, None]
    assert ratio.std() < 1e-6, "one factor for all levels, whose vectors are summed"
    assert ratio.mean() == pytest.approx(0.02 / codes.codebooks.std(ddof=1), rel=1e-4)


def test_a_codebook_of_zeros_stays_random():
    """As those of pq are within the model's width, whose parts of the content lie behind it."""
    made = some_codes(2, 2)
    books = made.codebooks.copy()
    books[:, 1] = 0
    model = new_generator(dataclasses.replace(made, codebooks=books), width=8, heads=2, variant="inherit")
    assert model.tokens.weight.isfinite().all()
    left = model.tokens.weight.view(model.levels, model.signals, model.size, -1)[1]
    assert left.std().item() == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize("variant", ["full", "inherit"])
def test_what_a_variant_needs_is_said(variant):
    codes = some_codes(2, 1)
    bare = Codes(codes=codes.codes, modalities=("s0",), method="published", codebook_size=3)
    with pytest.raises(DataError, match=variant) as error:
        new_generator(bare, width=8, heads=2, variant=variant)
    assert "--variant no-similarity" in error.value.hint


@pytest.mark.parametrize("dense_head", [False, True])
def test_filters_and_turns_leave_the_answer_as_it_is(dense_head, batch, monkeypatch):
    model = generator(2, 2, dense_head=dense_head)
    allowed = torch.arange(ITEMS) % 3 != 0
    exclude = torch.tensor([[1, 2, 1, PAD], [4, PAD, PAD, PAD], [PAD] * 4])
    wanted = Wanted(k=12, beam=4, allowed=allowed, exclude=exclude)
    exact = model.score_all(batch).masked_fill(~allowed, -torch.inf)
    exact[0, [1, 2]] = exact[1, 4] = -torch.inf
    items, scores = model.recommend(batch, wanted)
    for user, count in enumerate((8, 9, 10)):
        assert items[user, count:].eq(PAD).all()
        assert sorted(items[user, :count].tolist()) == exact[user].isfinite().nonzero().flatten().tolist()
        torch.testing.assert_close(scores[user, :count], exact[user][items[user, :count]], atol=1e-4, rtol=1e-4)
    monkeypatch.setattr(module, "CELLS", 1)
    again, _ = model.recommend(batch, wanted)
    assert torch.equal(items, again)


@pytest.mark.parametrize("dense_head", [False, True])
@pytest.mark.parametrize("masking", ["causal", "bidirectional"])
def test_somebody_without_a_history_is_answered(batch, masking, dense_head):
    model = generator(2, 2, masking=masking, dense_head=dense_head)
    nobody = Batch(torch.full_like(batch.items, PAD), batch.targets)
    items, scores = model.recommend(nobody, Wanted(k=5, beam=5))
    assert items.ge(0).all()
    assert scores.isfinite().all()


@pytest.mark.parametrize("normalisation", ["codes", "catalogue"])
@pytest.mark.parametrize("beam", [0, 20])
def test_a_generator_that_has_diverged(batch, normalisation, beam):
    """Its weights are numbers, its scores are none."""
    model = generator(normalisation=normalisation)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1e30)
    with pytest.raises(DataError, match="the model's scores are not numbers"):
        model.recommend(batch, Wanted(k=3, beam=beam))


def test_weights_round_trip(batch):
    model, other = generator(3, 2), generator(3, 2, sharp=1.0)
    state = model.state_dict()
    assert not {"codes", "vectors", "branching"} & set(state)
    assert not any(name.startswith("trie") for name in state)
    other.load_state_dict(state)
    torch.testing.assert_close(other.score_all(batch), model.score_all(batch))


@pytest.mark.parametrize(
    ("masking", "normalisation", "variant"),
    [("causal", "catalogue", "full"), ("causal", "codes", "no-similarity"), ("bidirectional", "catalogue", "full")],
)
def test_it_learns_what_follows_what(catalogue, codes, masking, normalisation, variant):
    torch.manual_seed(0)
    model = new_generator(
        codes, width=32, layers=1, decoder_layers=1, heads=2, dropout=0.0, masking=masking,
        normalisation=normalisation, variant=variant, similarity_buckets=10,
    )  # fmt: skip
    split = split_of(catalogue.sequences)
    batches = model.batches(split.train, batch_size=30, seed=0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for epoch in range(EPOCHS):
        for batch in batches.epoch(epoch):
            loss = model.loss(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < 0.05 < losses[0]
    histories = torch.from_numpy(pad([walk[:-1] for walk in split.train]))
    items, _ = model.eval().recommend(Batch(histories, histories), Wanted(k=3, beam=3))
    assert items[:, 0].tolist() == [walk[-1] for walk in split.train]
