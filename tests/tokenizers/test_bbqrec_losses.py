from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.records import Feature
from bbqrec_cli.tokenizers.methods.bbqrec import method as bbqrec
from bbqrec_cli.tokenizers.methods.bbqrec.club import CLUB
from bbqrec_cli.tokenizers.methods.bbqrec.method import BBQRecQuantizer
from bbqrec_cli.tokenizers.methods.bbqrec.modality import Modality
from bbqrec_cli.training.trainer import RunSettings

SIGNALS = ("id", "text", "image")
ABSENT = {"text": 10, "image": 5}
"""The item without it (conftest)."""


@pytest.mark.parametrize("changes", [{}, {"mim": False}, {"rec": False}, {"shared_codebook": False}], ids=str)
def test_every_parameter_gets_a_gradient(inputs, changes, small, network, one_batch):
    """One that gets none is dead weight. θ gets its own from the likelihood."""
    config = small(**changes)
    model = network(inputs, config, SIGNALS if config.rec else SIGNALS[1:])
    bbqrec.initialise(model, RunSettings())
    model.train()
    model.loss(one_batch(inputs))["loss"].backward()
    unused = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert not {name for name in unused if not name.startswith("clubs.")}
    model.zero_grad()
    if config.mim:
        model.likelihood(one_batch(inputs)).backward()
        with_gradient = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        assert with_gradient == {n for n, _ in model.named_parameters() if n.startswith("clubs.")}, "and θ alone"
    else:
        assert model.likelihood(one_batch(inputs)) is None


@pytest.fixture
def signed(monkeypatch):
    """CLUB's bound becomes ±100 mean z̄²·(component weights): the signs of the modalities are given."""

    def install(model: BBQRecQuantizer, **signs: float) -> None:
        of = {id(model.club(name)): sign for name, sign in signs.items()}
        weights = torch.arange(16.0)
        monkeypatch.setattr(
            CLUB, "bound", lambda self, specific, z: of[id(self)] * (1 + (specific.square() * weights).mean())
        )

    return install


def gradient(model: BBQRecQuantizer, batch: Batch, name: str) -> torch.Tensor:
    """Of the specific encoder's first matrix."""
    model.zero_grad()
    model.loss(batch)["loss"].backward()
    return next(model.modality(name).specific.parameters()).grad.clone()


def test_no_gradient_below_zero_and_modality_by_modality(inputs, signed, small, network, one_batch):
    """text's estimate is above zero and image's below: only text's is charged, though their sum is negative."""
    batch, gradients = one_batch(inputs), {}
    for gamma in (0.0, 1.0):
        model = network(inputs, small(gamma=gamma))
        signed(model, text=0.1, image=-10.0)
        gradients[gamma] = {name: gradient(model, batch, name) for name in ("text", "image")}
        parts = model.loss(batch)
        assert parts["information"] < 0, "what is reported is the estimate as it is"
    assert torch.equal(gradients[0.0]["image"], gradients[1.0]["image"])
    assert not torch.allclose(gradients[0.0]["text"], gradients[1.0]["text"], rtol=1e-3)


def test_without_the_floor_the_estimate_is_charged_as_it_is(inputs, signed, small, network, one_batch):
    batch, gradients = one_batch(inputs), {}
    for gamma in (0.0, 1.0):
        model = network(inputs, small(gamma=gamma, plain_equations=True))
        signed(model, text=0.1, image=-10.0)
        gradients[gamma] = gradient(model, batch, "image")
    assert not torch.allclose(gradients[0.0], gradients[1.0], rtol=1e-3)
    club = network(inputs, small(plain_equations=True)).club("text")
    torch.nn.init.constant_(club.spread.bias, 50.0)
    assert club(torch.zeros(2, 16))[1].min() > 40, "nor is the variance bounded"


def test_signals_as_the_encoders_give_them(inputs, small, network):
    model = network(inputs, small(plain_equations=True)).eval()
    z, modality = model.encode(torch.arange(12)), model.modality("text")
    rows = modality.present.nonzero().squeeze(1)
    torch.testing.assert_close(z[:, 0], model.ids.weight)
    torch.testing.assert_close(z[rows, 1], modality.aligned(modality.features[rows]))
    torch.testing.assert_close(modality.encode_specific(modality.features), modality.specific(modality.features))


def test_weights_of_the_total(inputs, signed, small, network, one_batch):
    batch = one_batch(inputs)
    model = network(inputs, small(beta=3.0, gamma=5.0))
    bbqrec.initialise(model, RunSettings())
    signed(model, text=0.1, image=0.2)
    parts = {name: value.item() for name, value in model.train().loss(batch).items()}
    weighted = parts["reconstruction"] + 3 * parts["recommendation"] + 5 * parts["information"]
    expected = weighted + parts["quantisation"]
    assert parts["loss"] == pytest.approx(expected, rel=1e-5)


def test_losses_by_hand(inputs, network, one_batch):
    """Eq. 3, 8, 9 over the batch's distinct items, modality by modality, in NumPy where it can be."""
    batch = one_batch(inputs)
    model = network(inputs)
    bbqrec.initialise(model, RunSettings())
    parts = model.eval().loss(batch)
    rows = torch.cat([batch.items[batch.mask], batch.targets[batch.mask]]).unique().tolist()
    assert rows == list(range(12))
    reconstruction = quantisation = information = 0.0
    with torch.no_grad():
        z = model.encode(torch.arange(12))
        found = model.quantizer(z)
        for signal, name in enumerate(SIGNALS):
            here = [row for row in rows if ABSENT.get(name) != row]
            residual = z[here, signal].numpy()
            for level in range(2):
                residual = residual - model.quantizer.codebooks[0, level][found.codes[here, level, signal]].numpy()
                quantisation += 1.25 * (residual**2).sum() / 12
            if name == "id":
                continue
            modality, x = model.modality(name), model.modality(name).features[here]
            z_bar = modality.encode_specific(x)
            again = modality.decoder(torch.cat([found.vectors[here, signal] * 4, z_bar], dim=1))
            reconstruction += ((again - x).numpy() ** 2).sum() / 12
            information += model.club(name).bound(z_bar, z[here, signal]).item()
    assert parts["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-4)
    assert parts["quantisation"].item() == pytest.approx(quantisation, rel=1e-4)
    assert parts["information"].item() == pytest.approx(information, rel=1e-4)


def test_the_recommendation_loss_in_a_loop(inputs, small, network):
    """Eq. 10–12 on quantised vectors: negatives are the batch's other targets, not what is in histories only."""
    model = network(inputs, small(tau=0.4)).eval().requires_grad_(False)
    bbqrec.initialise(model, RunSettings())
    items, targets = torch.tensor([[3, 1, 4], [9, 2, PAD]]), torch.tensor([[1, 4, 6], [2, 1, PAD]])
    v, losses = model.quantise(model.encode_catalogue(), model.everywhere())[0], []
    for user, steps in ((0, 3), (1, 2)):
        for t in range(steps):
            state = model.alignment.encoder(v[items[user, : t + 1]].unsqueeze(0))[0, -1]
            cosines = torch.nn.functional.cosine_similarity(state.unsqueeze(0), v, dim=1) / 0.4
            own = int(targets[user, t])
            losses.append(cosines[[1, 2, 4, 6]].logsumexp(0) - cosines[own])
    found = model.loss(Batch(items, targets))["recommendation"]
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


def test_an_absent_modality_is_in_no_loss(inputs, network, one_batch):
    """Rubbish (even NaN) in the rows of items without the modality changes no loss and no gradient."""

    def everything(rubbish: float) -> list[torch.Tensor]:
        filled = {}
        for name, feature in inputs.features.items():
            values = feature.values.copy()
            values[~feature.present] = rubbish
            filled[name] = Feature(values=values, present=feature.present)
        model = network(dataclasses.replace(inputs, features=filled))
        bbqrec.initialise(model, RunSettings())
        parts = model.train().loss(one_batch(inputs))
        parts["loss"].backward()
        model.likelihood(one_batch(inputs)).backward()
        return [*parts.values(), *[p.grad for p in model.parameters()]]

    for mine, theirs in zip(everything(0.0), everything(np.nan), strict=True):
        assert torch.equal(mine, theirs)


def test_a_batch_without_content_can_be_derived(inputs, small, network, one_batch):
    """¬Rec has no other loss in the warm-up."""
    model = network(inputs, small(rec=False), SIGNALS[1:]).train()
    for name in model.modalities:
        model.modality(name).present.fill_(False)
    parts = model.loss(one_batch(inputs))
    parts["loss"].backward()
    assert parts["loss"].item() == 0
    assert not any(p.grad is not None and p.grad.any() for p in model.parameters())


def test_an_absent_modality_adds_nothing_to_z_and_v(inputs, network):
    model = network(inputs).eval()
    bbqrec.initialise(model, RunSettings())
    rows = torch.tensor([5, 10])
    z, present = model.encode(rows), model.presence(rows)
    assert present.tolist() == [[True, True, False], [True, False, True]]
    q, loss, _ = model.vectors(z, present)
    for at in ((0, 2), (1, 1)):
        assert not z[at].any()
        assert not q[at].any()
    assert (loss > 0).all(), "which is why `loss` masks it"


def test_validation_ranks_by_counting(inputs, network):
    """Full ranking; equal scores stand in the order of the items' rows, whoever is the target."""
    model = network(inputs).eval().requires_grad_(False)
    vectors = torch.randn(12, 48, generator=torch.Generator().manual_seed(0))
    vectors[4:8] = vectors[4]  # four items of one vector
    ranks = bbqrec.validation_ranks(model.alignment, vectors, inputs.validation, RunSettings())
    for user, (history, target) in enumerate(zip(inputs.validation.read(), inputs.validation.targets, strict=True)):
        items = [int(item) for item in history if item != PAD]
        state = model.alignment.encoder(vectors[items].unsqueeze(0))[0, -1]
        scores = [float(torch.nn.functional.cosine_similarity(state, v, dim=0)) for v in vectors]
        scores[4:8] = [scores[4]] * 4
        order = sorted(range(12), key=lambda item: (-scores[item], item))
        assert ranks[user] == order.index(int(target)) + 1
    prior = torch.zeros(12)
    prior[3] = 5.0  # more than any cosine
    ahead = bbqrec.validation_ranks(model.alignment, vectors, inputs.validation, RunSettings(), prior=prior)
    assert (ahead[inputs.validation.targets == 3] == 1).all()
    tied = ranks[np.isin(inputs.validation.targets, range(4, 8))]
    assert len(set(tied)) > 1, "consecutive ranks, not one for all"


def test_validation_is_bounded_in_large_catalogues(inputs, monkeypatch):
    """Users and items together, but never fewer users than are needed for a figure."""
    monkeypatch.setattr(bbqrec, "FEWEST", 2)
    assert len(bbqrec.validation_sample(inputs.validation, 12).users) == len(inputs.validation.users)
    assert 2 <= len(bbqrec.validation_sample(inputs.validation, bbqrec.PAIRS).users) < len(inputs.validation.users)
    assert bbqrec.validation_sample(None, 12) is None


def test_precision_does_not_tie_the_ranks(inputs, network):
    """In bfloat16 all these scores are the same, and every target would be first."""
    model = network(inputs).eval()
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(1, 48, generator=generator) + 1e-3 * torch.randn(12, 48, generator=generator)
    ranks = bbqrec.validation_ranks(model.alignment, vectors, inputs.validation, RunSettings(precision="bf16"))
    exact = bbqrec.validation_ranks(model.alignment, vectors, inputs.validation, RunSettings())
    assert (ranks == exact).mean() > 0.8
    assert (exact == inputs.validation.targets + 1).mean() < 0.5, "which is what ties would give"


def test_statistics_of_the_whole_catalogue(inputs, network):
    """Codes do not depend on the last batches, and the catalogue's signals are those that a batch of it has."""
    model = network(inputs).eval()
    z = model.encode_catalogue()
    torch.testing.assert_close(z, model.encode(torch.arange(12)))
    modality = model.modality("text")
    outputs = modality.aligned(modality.features[modality.present])
    torch.testing.assert_close(modality.norm.running_mean, outputs.mean(0))
    torch.testing.assert_close(modality.norm.running_var, outputs.var(0))
    torch.testing.assert_close(modality.encode_catalogue(block=3), z[:, 1])
    torch.testing.assert_close(modality.norm.running_mean, outputs.mean(0))


def test_a_constant_feature_is_no_noise():
    values = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    values[:, 1] = 0.3
    modality = Modality(Feature(values=values, present=np.ones(20, dtype=bool)), dim=4, hidden=4, specific=True)
    assert (modality.features[:, 1] == 0).all()
    torch.testing.assert_close(modality.features[:, 0].std(correction=0), torch.tensor(1.0))
