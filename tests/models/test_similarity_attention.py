"""Equations 14–17 against loops over their indices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from bbqrec_cli.models import similarity_attention
from bbqrec_cli.models.layers import Attention
from bbqrec_cli.models.similarity_attention import SimilarityAttention, similarity_buckets

USERS, ITEMS, TOKENS, HEADS, WIDTH, BUCKETS = 2, 4, 3, 2, 8, 10


@pytest.fixture
def layer() -> SimilarityAttention:
    torch.manual_seed(0)
    return SimilarityAttention(WIDTH, heads=HEADS, dropout=0.0, buckets=BUCKETS, tokens=TOKENS).double().eval()


def causal() -> torch.Tensor:
    item = torch.arange(ITEMS * TOKENS) // TOKENS
    return (item.unsqueeze(1) >= item).unsqueeze(0)


def test_buckets_are_equation_15():
    angles = np.deg2rad([0, 60, 90, 180])
    vectors = torch.tensor(np.stack([np.cos(angles), np.sin(angles)], axis=1)).float().unsqueeze(0)
    # cos 60° = .5 -> round(.75 · 10) = 8 (half to even of 7.5), cos 90° -> 5, cos 180° -> 0, itself -> 10.
    assert similarity_buckets(vectors, 100)[0, 0].tolist() == [100, 75, 50, 0]
    assert similarity_buckets(vectors, 100).diagonal(dim1=1, dim2=2).eq(100).all()


def test_buckets_stay_in_range_under_autocast():
    vectors = normalize(torch.randn(1, 50, 7, generator=torch.Generator().manual_seed(0)), dim=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        buckets = similarity_buckets(vectors, 100)
    expected = np.clip(np.einsum("bid,bjd->bij", vectors.double(), vectors.double()), -1, 1)
    assert np.abs(buckets.numpy() - (expected + 1) * 50).max() < 0.51
    assert torch.equal(buckets, buckets.transpose(1, 2))


def test_the_product_is_equations_16_and_17(layer):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        layer.similarity.copy_(torch.randn(BUCKETS + 1, WIDTH, generator=generator))
    x = torch.randn(USERS, ITEMS * TOKENS, WIDTH, generator=generator, dtype=torch.float64)
    buckets = torch.randint(BUCKETS + 1, (USERS, ITEMS, ITEMS), generator=generator)
    mask = causal()
    part = WIDTH // HEADS
    query = layer.query(x)
    key, value = layer.key_value(x).split(WIDTH, dim=2)
    mixed = torch.zeros_like(x)
    for user in range(USERS):
        for head in range(HEADS):
            own = slice(head * part, (head + 1) * part)
            for i in range(ITEMS * TOKENS):
                seen = [j for j in range(ITEMS * TOKENS) if mask[0, i, j]]
                logits = torch.stack([query[user, i, own] @ key[user, j, own] / part**0.5 for j in seen])
                for weight, j in zip(logits.softmax(0), seen, strict=True):
                    similar = layer.similarity[buckets[user, i // TOKENS, j // TOKENS], own]
                    mixed[user, i, own] += similar * (weight * value[user, j, own])
    # The softmax is taken in float32.
    torch.testing.assert_close(layer(x, x, mask, buckets=buckets), layer.out(mixed), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("only_earlier", [True, False])
@pytest.mark.parametrize("at_once", [1, 100, 500, 10**9])
def test_results_and_gradients_in_parts_are_those_of_the_whole(layer, monkeypatch, at_once, only_earlier, dtype):
    """The reweighted values are not kept for the backward pass, which makes them again."""
    monkeypatch.setitem(similarity_attention.AT_ONCE, "cpu", at_once)
    generator = torch.Generator().manual_seed(1)
    users, length, part = 5, ITEMS * TOKENS, WIDTH // HEADS
    layer = layer.float()
    with torch.no_grad():
        layer.similarity.copy_(torch.randn(BUCKETS + 1, WIDTH, generator=generator))
    weights = torch.rand(users, HEADS, length, length, generator=generator)
    value = torch.randn(users, HEADS, length, part, generator=generator)
    buckets = torch.randint(BUCKETS + 1, (users, ITEMS, ITEMS), generator=generator)
    seen = causal() if only_earlier else torch.tensor(True)
    layer.causal = only_earlier

    def plain(weights, value):
        factor = layer.similarity[buckets].unflatten(3, (HEADS, part)).permute(0, 3, 1, 2, 4).to(dtype)
        rows = value.view(users, HEADS, 1, ITEMS, TOKENS, part) * factor.unsqueeze(4)
        return (weights.view(users, HEADS, ITEMS, TOKENS, length) @ rows.flatten(3, 4)).flatten(2, 3)

    def gradients(mix):
        inputs = [each.to(dtype).requires_grad_() for each in (weights, value)]
        made = mix(inputs[0] * seen, inputs[1])
        return made, *torch.autograd.grad(made.float().square().sum(), [*inputs, layer.similarity])

    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.5}
    torch.testing.assert_close(gradients(lambda w, v: layer.mix(w, v, buckets=buckets)), gradients(plain), **close)


def test_the_reweighted_values_are_not_kept(layer):
    """They took more memory than all else in a training step."""
    kept: list[int] = []
    x = torch.randn(USERS, ITEMS * TOKENS, WIDTH, dtype=torch.float64)
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each.numel()) or each, lambda each: each):
        layer(x, x, causal(), buckets=torch.zeros(USERS, ITEMS, ITEMS, dtype=torch.long))
    weights, reweighted = USERS * HEADS * (ITEMS * TOKENS) ** 2, USERS * ITEMS * ITEMS * TOKENS * WIDTH
    assert max(kept) == weights < reweighted


def test_no_users(layer):
    nobody = torch.zeros(0, ITEMS * TOKENS, WIDTH, dtype=torch.float64)
    assert layer(nobody, nobody, causal(), buckets=torch.zeros(0, ITEMS, ITEMS, dtype=torch.long)).shape == nobody.shape


def test_it_starts_as_plain_attention(layer):
    plain = Attention(WIDTH, heads=HEADS, dropout=0.0).double()
    plain.load_state_dict({name: value for name, value in layer.state_dict().items() if name != "similarity"})
    x = torch.randn(USERS, ITEMS * TOKENS, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    buckets = torch.randint(BUCKETS + 1, (USERS, ITEMS, ITEMS), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(layer(x, x, causal(), buckets=buckets), plain(x, x, causal()))


def test_only_the_looked_up_vectors_learn(layer):
    x = torch.randn(USERS, ITEMS * TOKENS, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    buckets = torch.full((USERS, ITEMS, ITEMS), 4)
    layer(x, x, causal(), buckets=buckets).square().sum().backward()
    touched = layer.similarity.grad.abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == [4]
