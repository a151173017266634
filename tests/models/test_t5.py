"""TIGER's transformer against Hugging Face's T5 with the same weights, and LETTER's loss against a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import new_model
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention as TheirAttention

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.errors import UsageError
from bbqrec_cli.models import prefix_states
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.code_decoder import Decoding
from bbqrec_cli.models.registry import model_config
from bbqrec_cli.models.semantic_id_generator import SemanticIDGenerator
from bbqrec_cli.models.t5 import RelativePositions
from bbqrec_cli.models.task import adamw
from bbqrec_cli.records import Codes

ITEMS, LEVELS, SIZE, WIDTH, HEADS, HEAD_WIDTH, INNER, LAYERS = 40, 4, 5, 12, 3, 6, 20, 2


def made(signals: int = 1, **options) -> SemanticIDGenerator:
    """A generator with weights large enough that no term is lost in rounding."""
    codes = np.random.default_rng(0).integers(0, SIZE, (ITEMS, LEVELS, signals)).astype(np.uint16)
    names = ("content", "picture")[:signals]
    torch.manual_seed(0)
    model = new_model(
        "tiger", ITEMS, Codes(codes=codes, modalities=names, method="test", codebook_size=SIZE), dropout=0.0,
        width=WIDTH, heads=HEADS, head_width=HEAD_WIDTH, inner=INNER, layers=LAYERS, decoder_layers=LAYERS,
        init_std=1.0, **options,
    )  # fmt: skip
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() == 1), std=0.5)
    return model.eval()


@pytest.fixture
def model() -> SemanticIDGenerator:
    return made(architecture="t5")


@pytest.fixture
def long_batch() -> Batch:
    """Histories of 20, 7 and 1 items; the item after each is asked."""
    items = torch.randint(ITEMS, (3, 20), generator=torch.Generator().manual_seed(1))
    targets = torch.full_like(items, PAD)
    for user, length in enumerate((20, 7, 1)):
        items[user, length:], targets[user, length - 1] = PAD, 11 * (user + 1)
    return Batch(items, targets)


def attention(theirs: nn.Module, ours: nn.Module) -> dict[nn.Module, torch.Tensor]:
    key, value = ours.key_value.weight.chunk(2)
    return {theirs.q: ours.query.weight, theirs.k: key, theirs.v: value, theirs.o: ours.out.weight}


def layer(own: nn.Module, feed: nn.Module, ours: nn.Module) -> dict[nn.Module, torch.Tensor]:
    return {
        own.layer_norm: ours.norms[0].weight, feed.layer_norm: ours.norms[1].weight,
        feed.DenseReluDense.wi: ours.feed_forward[0].weight, feed.DenseReluDense.wo: ours.feed_forward[3].weight,
        **attention(own.SelfAttention, ours.attention),
    }  # fmt: skip


def pairs(theirs: T5ForConditionalGeneration, ours: SemanticIDGenerator) -> dict[nn.Module, torch.Tensor]:
    """Their modules with a weight -> our weight for it."""
    found = {
        theirs.shared: torch.cat([ours.start.unsqueeze(0), ours.tokens.weight]),
        theirs.encoder.final_layer_norm: ours.encoder_norm.weight,
        theirs.decoder.final_layer_norm: ours.decoder.norm.weight,
        theirs.encoder.block[0].layer[0].SelfAttention.relative_attention_bias: ours.relative.table.weight,
        theirs.decoder.block[0].layer[0].SelfAttention.relative_attention_bias: ours.decoder.relative.table.weight,
    }
    for block, own in zip(theirs.encoder.block, ours.encoder, strict=True):
        found |= layer(block.layer[0], block.layer[1], own)
    for block, own in zip(theirs.decoder.block, ours.decoder.layers, strict=True):
        found |= layer(block.layer[0], block.layer[2], own.own) | attention(block.layer[1].EncDecAttention, own.cross)
        found[block.layer[1].layer_norm] = own.norm.weight
    return found


@pytest.fixture
def theirs(model) -> T5ForConditionalGeneration:
    """Their T5 with the same weights; token 0 is the start, 1 + level · N + code a code."""
    config = T5Config(
        vocab_size=1 + LEVELS * SIZE, d_model=WIDTH, d_kv=HEAD_WIDTH, d_ff=INNER, num_layers=LAYERS, num_heads=HEADS,
        dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip
    theirs = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for module, weight in pairs(theirs, model).items():
            module.weight.copy_(weight)
    assert {id(p) for p in theirs.parameters()} == {id(module.weight) for module in pairs(theirs, model)}
    return theirs


def tokens(model: SemanticIDGenerator, items: torch.Tensor) -> torch.Tensor:
    return (model.codes[items, :, 0] + 1 + SIZE * torch.arange(LEVELS)).flatten(-2)


def their_log_probabilities(theirs, model, batch: Batch, items: torch.Tensor) -> torch.Tensor:
    """log P of the items (B,), with a softmax over each level's codes."""
    read, seen = tokens(model, batch.items.clamp(min=0)), batch.mask.repeat_interleave(LEVELS, 1)
    wanted = tokens(model, items.unsqueeze(1))
    logits = theirs(input_ids=read * seen, attention_mask=seen.long(), labels=wanted).logits
    total = torch.zeros(len(items))
    for level in range(LEVELS):
        of_level = logits[:, level, 1 + level * SIZE : 1 + (level + 1) * SIZE].log_softmax(1)
        total = total + of_level.gather(1, model.codes[items, level])[:, 0]
    return total


def test_every_item_is_as_likely_as_by_their_t5(model, theirs, long_batch):
    with torch.no_grad():
        expected = [their_log_probabilities(theirs, model, long_batch, torch.full((3,), item)) for item in range(ITEMS)]
    found = model.score_all(long_batch)
    assert found.std() > 0.5
    torch.testing.assert_close(found, torch.stack(expected, dim=1), atol=2e-5, rtol=1e-5)


def test_loss_and_every_gradient_are_theirs(model, theirs, long_batch):
    asked = long_batch.targets.amax(1)
    expected = -their_log_probabilities(theirs, model, long_batch, asked).mean()
    loss = model.loss(long_batch)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    expected.backward()
    weights = pairs(theirs, model)
    names = dict(model.named_parameters())
    # The gradient of our weights, arranged as their weights are: linear in ours, so by their dot product with theirs.
    dot = sum((weight * module.weight.grad).sum() for module, weight in weights.items())
    gradients = torch.autograd.grad(dot, list(names.values()))
    loss.backward()
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(names[name].grad, gradient, atol=1e-5, rtol=1e-4, msg=name)
        assert gradient.any(), name


def test_the_search_finds_what_teacher_forcing_says(model, long_batch):
    items, scores = model.recommend(long_batch, Wanted(k=ITEMS, beam=ITEMS))
    torch.testing.assert_close(scores, model.score_all(long_batch).gather(1, items), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("both_ways", [True, False])
def test_buckets_are_theirs(both_ways):
    distance = torch.arange(-300, 301)
    expected = TheirAttention._relative_position_bucket(distance, bidirectional=both_ways)
    assert torch.equal(RelativePositions(4, heads=1, both_ways=both_ways).buckets(distance), expected)


def test_weights_start_as_theirs(theirs):
    torch.manual_seed(0)
    codes = np.zeros((2, LEVELS, 1), dtype=np.uint16)
    fresh = new_model(
        "tiger", 2, Codes(codes=codes, modalities=("content",), method="test", codebook_size=256), init_std=1.0,
        width=64, heads=HEADS, head_width=32, inner=200, layers=LAYERS, decoder_layers=LAYERS, architecture="t5",
    )  # fmt: skip
    config = T5Config(
        vocab_size=1 + LEVELS * 256, d_model=64, d_kv=32, d_ff=200, num_layers=LAYERS, num_heads=HEADS
    )  # fmt: skip
    for module, weight in pairs(T5ForConditionalGeneration(config), fresh).items():
        assert weight.std().item() == pytest.approx(module.weight.std().item(), rel=0.3), module
        assert weight.mean().item() == pytest.approx(module.weight.mean().item(), abs=0.05), module


@pytest.mark.parametrize("architecture", ["bbqrec", "t5"])
@pytest.mark.parametrize("normalisation", ["codes", "catalogue"])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_ranking_guided_loss_is_a_softmax_at_a_temperature(architecture, normalisation, temperature, long_batch):
    """LETTER, section 3.3: P = exp(z / τ) / Σ exp(z / τ) over a level's codes (or those that exist below the prefix);
    what is recommended has no τ."""
    model = made(architecture=architecture, normalisation=normalisation, temperature=temperature)
    plain = made(architecture=architecture, normalisation=normalisation)
    ids = plain.codes[:, :, 0].tolist()
    expected = 0.0
    for user, target in enumerate(long_batch.targets.amax(1).tolist()):
        alone = Batch(long_batch.items[user : user + 1], long_batch.targets[user : user + 1])
        step = plain.stepper(plain.encode(alone), alone.mask)
        before = torch.zeros(1, 1, 1, dtype=torch.int64)
        for level in range(LEVELS):
            logits = step(level, torch.zeros(1, 1, dtype=torch.int64), before)[0].flatten().tolist()
            own = ids[target][level]
            below = {each[level] for each in ids if each[:level] == ids[target][:level]}
            choices = below if normalisation == "catalogue" else range(SIZE)
            total = sum(math.exp(logits[code] / temperature) for code in choices)
            expected -= math.log(math.exp(logits[own] / temperature) / total) / 3
            before = torch.full((1, 1, 1), own)
    assert model.loss(long_batch).item() == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(model.score_all(long_batch), plain.score_all(long_batch))


def test_t5_has_no_similarity():
    with pytest.raises(UsageError, match="similarity"):
        model_config("tiger", {"architecture": "t5", "variant": "full"})


def test_a_head_has_a_width_of_its_own():
    config = model_config("tiger", {"width": 10, "heads": 3, "head_width": 4})
    assert (config.width, config.head_width) == (10, 4)
    with pytest.raises(UsageError, match="--heads 3"):
        model_config("tiger", {"width": 10, "heads": 3})
    model = made()
    assert model.encoder[0].attention.query.weight.shape == (HEADS * HEAD_WIDTH, WIDTH)
    assert model.decoder.layers[0].cross.out.weight.shape == (WIDTH, HEADS * HEAD_WIDTH)
    assert model.encoder[0].feed_forward[0].weight.shape == (INNER, WIDTH)


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.parametrize("normalisation", ["codes", "catalogue"])
@pytest.mark.parametrize("beam", [0, 16, ITEMS])
def test_what_a_prefix_is_before_it_sees_a_history_is_made_once(beam, normalisation, signals, long_batch, monkeypatch):
    model, wanted = made(architecture="t5", normalisation=normalisation, signals=signals), Wanted(k=5, beam=beam)
    own, of_first = Decoding._own, []

    def counted(self, number, *rest):
        of_first.append(number == 0)
        return own(self, number, *rest)

    def plainly():
        with monkeypatch.context() as patch:
            patch.setattr(prefix_states, "LARGEST", 0)
            return model.recommend(long_batch, wanted)

    monkeypatch.setattr(Decoding, "_own", counted)

    def check(made_again: bool):
        of_first.clear()
        items, scores = model.recommend(long_batch, wanted)
        assert of_first.count(True) == LEVELS * made_again
        assert of_first.count(False), "the second layer's depends on the user"
        found = model.score_all(long_batch)
        torch.testing.assert_close(scores, found.gather(1, items), atol=1e-4, rtol=1e-4)
        expected, best = plainly()
        assert torch.equal(items, expected)
        torch.testing.assert_close(scores, best, atol=1e-4, rtol=1e-4)
        return scores

    first = check(made_again=True)
    assert torch.equal(check(made_again=False), first)
    with torch.no_grad():
        model.tokens.weight.mul_(1.5)
    assert not torch.equal(check(made_again=True), first)
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()})
    check(made_again=True)


def test_prefixes_are_forgotten_between_validations(long_batch, monkeypatch):
    """The weights' versions stay as they are when AdamW steps in one kernel."""
    model, wanted = made(architecture="t5"), Wanted(k=5, beam=16)
    optimiser = adamw(model, model_config("tiger", {"learning_rate": 0.1}))
    for _ in range(3):
        model.train().loss(long_batch).backward()
        optimiser.step()
        items, scores = model.eval().recommend(long_batch, wanted)
        assert model.prefix_states.of(model, 0)
        with monkeypatch.context() as patch:
            patch.setattr(prefix_states, "LARGEST", 0)
            expected, best = model.recommend(long_batch, wanted)
        assert torch.equal(items, expected)
        torch.testing.assert_close(scores, best, atol=1e-4, rtol=1e-4)


def test_prefixes_of_nobody_on_another_device():
    """Elsewhere than on a CPU it is not looked up whether anything is padded."""
    decoder = made(architecture="t5").decoder.to("meta")
    width = decoder.stack()[0].cross.query.in_features
    nobody = torch.zeros(0, 1, width, device="meta")
    decoding = Decoding(decoder, nobody, torch.ones(0, 1, dtype=torch.bool, device="meta"))
    assert decoding.hidden.shape == (0, 1, 1, 1)
    some = Decoding(decoder, nobody.new_zeros(3, 7, width), torch.ones(3, 7, dtype=torch.bool, device="meta"))
    assert some.hidden.shape == (3, 1, 1, 7)


@pytest.mark.parametrize(("architecture", "kept_after"), [("t5", 3), ("bbqrec", None)])
def test_prefixes_are_kept_once_as_many_were_decoded_as_there_are(architecture, kept_after):
    model, states = made(architecture=architecture), prefix_states.PrefixStates()
    prefixes = sum(len(np.unique(model.codes[:, :level, 0], axis=0)) for level in range(LEVELS))
    there = [states.of(model, prefixes // 3 + 1) is not None for _ in range(4)]
    assert there == [kept_after is not None and n >= kept_after for n in range(1, 5)]
