"""Against the equations written out with torch's own Fourier transform, norms and attention, one history at a time."""

from __future__ import annotations

import pytest
import torch
from helpers import new_model, spread
from torch import Tensor, nn
from torch.nn.functional import gelu, multi_head_attention_forward

from bbqrec_cli.data.batches import Batch, PrefixBatches
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.base import Wanted
from bbqrec_cli.models.bsarec import BSALayer, BSARec, FrequencyFilter
from bbqrec_cli.records import Sequences

ITEMS, WIDTH, HEADS, HISTORY, ALPHA, CUTOFF = 15, 16, 2, 7, 0.3, 3


@pytest.fixture
def model() -> BSARec:
    torch.manual_seed(0)
    model = new_model(
        "bsarec", ITEMS, width=WIDTH, heads=HEADS, layers=2, dropout=0.0, history=HISTORY, alpha=ALPHA, cutoff=CUTOFF
    )
    spread(model, 0.5)
    return model.double().eval()


@pytest.fixture
def batch(batch) -> Batch:
    """Only the last position is asked."""
    last = torch.arange(batch.items.shape[1]) == batch.lengths.unsqueeze(1) - 1
    return Batch(batch.items, batch.targets.masked_fill(~last, PAD))


def low(x: Tensor) -> Tensor:
    """x (H, D) without its high frequencies."""
    spectrum = torch.fft.rfft(x, dim=0, norm="ortho")
    kept = torch.arange(len(spectrum)) < CUTOFF // 2 + 1
    return torch.fft.irfft(spectrum * kept.unsqueeze(1), n=len(x), dim=0, norm="ortho")


def attended(layer: BSALayer, x: Tensor, hidden: Tensor) -> Tensor:
    """torch's attention with our weights: x (H, D), hidden (H, H) -> (H, D)."""
    ours = layer.attention
    into = [torch.cat([getattr(ours.query, kind), getattr(ours.key_value, kind)]) for kind in ("weight", "bias")]
    made, _ = multi_head_attention_forward(
        x.unsqueeze(1), x.unsqueeze(1), x.unsqueeze(1), WIDTH, HEADS, *into, None, None, False, 0.0, ours.out.weight,
        ours.out.bias, training=False, attn_mask=hidden,
    )  # fmt: skip
    return made.squeeze(1)


def norm(x: Tensor, like: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-12).sqrt() * like.weight + like.bias


def state(model: BSARec, history: list[int]) -> Tensor:
    """Of the last position, (D,)."""
    padding = HISTORY - len(history)
    vectors = torch.zeros(HISTORY, WIDTH, dtype=torch.float64)
    vectors[padding:] = model.table.weight[history]
    x = norm(vectors + model.positions.weight, model.norm)
    hidden = torch.ones(HISTORY, HISTORY, dtype=torch.bool).triu(1)
    hidden[:, :padding] = True
    hidden[:padding] = False  # what padding sees
    for layer in model.layers:
        smooth = low(x)
        filtered = smooth + layer.filter.beta**2 * (x - smooth)
        mixed = ALPHA * norm(x + filtered, layer.norms[0])
        mixed = mixed + (1 - ALPHA) * norm(x + attended(layer, x, hidden), layer.norms[1])
        inner, _, outer = layer.feed_forward
        x = norm(mixed + outer(gelu(inner(mixed))), layer.norms[2])
    return x[-1]


def test_states_are_those_of_the_equations(model, batch):
    found = model.states(batch)
    for user, length in enumerate(batch.lengths):
        expected = state(model, batch.items[user, :length].tolist())
        torch.testing.assert_close(found[user, length - 1], expected, rtol=1e-6, atol=1e-6)


def test_loss_asks_for_the_item_after_the_history(model, batch):
    expected = []
    for user, length in enumerate(batch.lengths):
        logits = model.table.weight @ state(model, batch.items[user, :length].tolist())
        expected.append(logits.logsumexp(0) - logits[batch.targets[user, length - 1]])
    torch.testing.assert_close(model.loss(batch), torch.stack(expected).mean(), rtol=1e-6, atol=1e-6)


def test_gradients_are_those_of_the_equations(model, batch):
    model.states(batch)[:, -1].square().sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    histories = [batch.items[user, :length].tolist() for user, length in enumerate(batch.lengths)]
    sum(state(model, history).square().sum() for history in histories).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-6)


def test_padding_changes_nothing(model, batch):
    """More of it on the right, or none."""
    alone = model.states(Batch(batch.items[1:2, :3], batch.targets[1:2, :3]))[0, 2]
    wide = nn.functional.pad(batch.items, (0, 2), value=PAD)
    torch.testing.assert_close(model.states(Batch(wide, wide))[1, 2], alone)
    torch.testing.assert_close(model.states(batch)[1, 2], alone)


@pytest.mark.parametrize("length", [1, 6, 7])
@pytest.mark.parametrize("cutoff", [1, 2, 5, 40])
def test_the_filter_is_a_low_pass(length, cutoff):
    """Odd and even lengths; a high cutoff leaves everything as it is."""
    made, x = FrequencyFilter(3, cutoff=cutoff, history=length), torch.randn(2, length, 3)
    with torch.no_grad():
        made.beta.zero_()
    spectrum = torch.fft.rfft(x, dim=1)
    spectrum[:, cutoff // 2 + 1 :] = 0
    torch.testing.assert_close(made(x), torch.fft.irfft(spectrum, n=length, dim=1), rtol=1e-5, atol=1e-6)


def test_trains_on_prefixes(model):
    """The filter shows each position the following ones."""
    made = model.batches(Sequences.from_lists([[1, 2, 3]]), batch_size=4, seed=0)
    assert isinstance(made, PrefixBatches)
    assert made.targets == 2


def test_recommend_ranks_by_the_last_state(model, batch):
    found, scores = model.float().recommend(batch, Wanted(k=ITEMS))
    model.double()
    for user, length in enumerate(batch.lengths):
        expected = (model.table.weight @ state(model, batch.items[user, :length].tolist())).float()
        torch.testing.assert_close(scores[user], expected[found[user]], rtol=1e-4, atol=1e-4)
