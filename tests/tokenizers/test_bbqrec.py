from __future__ import annotations

import dataclasses
import itertools
import sys

import numpy as np
import pytest
import torch

from bbqrec_cli.data.batches import Batch, WindowBatches
from bbqrec_cli.data.splits import PAD, leave_last_out
from bbqrec_cli.errors import DataError, MissingPackageError, UsageError
from bbqrec_cli.records import Feature, Features, Sequences
from bbqrec_cli.tokenizers import bbqrec
from bbqrec_cli.tokenizers.base import RunSettings, Tokenized, TokenizerInput
from bbqrec_cli.tokenizers.bbqrec import BBQRec, BBQRecQuantizer, Modality, choose_signals
from bbqrec_cli.tokenizers.configs import BBQRecConfig
from bbqrec_cli.tokenizers.mutual_information import CLUB

SIGNALS = ("id", "text", "image")
SMALL = BBQRecConfig(
    levels=2, codebook_size=8, dim=16, hidden=24, epochs=12, batch_size=16, learning_rate=0.01, dropout=0.0,
    sequence_layers=1, sequence_heads=2,
)  # fmt: skip
ABSENT = {"text": 10, "image": 5}
"""The item without it (conftest)."""


@pytest.fixture(scope="session")
def inputs(features: Features, successor: np.ndarray) -> TokenizerInput:
    """The tiny catalogue with 48 users: four from every item, 7 to 12 steps each, so that every item is a target."""
    walks = [[item] for item in range(12) for _ in range(4)]
    for number, walk in enumerate(walks):
        while len(walk) < 7 + number % 6:
            walk.append(int(successor[walk[-1]]))
    split = leave_last_out(Sequences.from_lists(walks))
    assert set(split.validation.targets) == set(range(12))
    return TokenizerInput(
        item_ids=features.catalogue.item_ids, features=features.features, train=split.train, validation=split.validation
    )


def small(**changes) -> BBQRecConfig:
    return dataclasses.replace(SMALL, **changes)


def network(inputs: TokenizerInput, config: BBQRecConfig = SMALL, signals=SIGNALS) -> BBQRecQuantizer:
    torch.manual_seed(0)
    return BBQRecQuantizer(config, items=12, features=dict(inputs.features), signals=signals, history=20)


def one_batch(inputs: TokenizerInput) -> Batch:
    return WindowBatches(inputs.train, batch_size=48, seed=0).epoch(0)[0]


def fit(inputs: TokenizerInput, config: BBQRecConfig = SMALL, **run) -> Tokenized:
    return BBQRec(config).fit(inputs, RunSettings(**run))


@pytest.fixture(scope="module")
def fitted(inputs) -> tuple[Tokenized, BBQRecQuantizer]:
    """The result, and the network that made it."""
    kept = []

    def keep(*rest, **more):
        kept.append(loop(*rest, **more))
        return kept[0]

    loop = bbqrec.fit_tokenizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bbqrec, "fit_tokenizer", keep)
        return fit(inputs), kept[0][0]


def test_learns_what_comes_next(fitted):
    """After apple always comes banana: the validation target is the first of 12, from the quantised vectors alone."""
    made, _ = fitted
    assert made.history[-1]["quantised"]
    assert made.history[-1]["ndcg@10"] == pytest.approx(1)
    assert made.history[0]["ndcg@10"] < 0.9
    assert made.history[-1]["colliding_items"] == 0
    assert len(np.unique(made.codes.codes.reshape(12, -1), axis=0)) == 12


def test_history(fitted):
    rows = fitted[0].history
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert [row["quantised"] for row in rows] == [False] * 6 + [True] * 6
    losses = {"loss", "reconstruction", "quantisation", "recommendation", "information"}
    assert all(losses <= row.keys() for row in rows)
    assert all(row["quantisation"] == 0 for row in rows[:6])
    assert all(row["quantisation"] > 0 for row in rows[6:])
    assert rows[-1]["reconstruction"] < 0.5 * rows[0]["reconstruction"]
    books = {f"{kind}/{s}/{level}" for kind in ("usage", "perplexity") for s in SIGNALS for level in (1, 2)}
    assert books | {"colliding_items"} <= rows[6].keys()
    for row in rows:
        total = row["reconstruction"] + row["quantisation"] + row["recommendation"] + max(0, row["information"])
        assert row["loss"] == pytest.approx(total, rel=0.02)


def test_codes_are_the_nearest_by_the_written_codebooks(fitted):
    """Eq. 5–7 and 10 in NumPy, from z and the codebooks of the result."""
    made, model = fitted
    with torch.no_grad():
        z = model.encode(torch.arange(12)).double().numpy()
    books, present = made.codes.codebooks, made.present
    assert books.shape == (1, 2, 8, 16)
    vectors = np.zeros((12, 3, 16), dtype=np.float32)
    for item, signal in itertools.product(range(12), range(3)):
        residual = z[item, signal]
        for level in range(2):
            code = int(((residual - books[0, level]) ** 2).sum(1).argmin())
            assert code == made.codes.codes[item, level, signal]
            residual = residual - books[0, level, code]
            vectors[item, signal] += books[0, level, code] * present[item, signal]
    np.testing.assert_array_equal(made.codes.item_vectors, vectors.reshape(12, -1))
    for name, item in ABSENT.items():
        assert not present[item, SIGNALS.index(name)]
        assert not vectors[item, SIGNALS.index(name)].any()
    assert present.sum() == 34


def test_all_signals_are_of_unit_length_and_z_bar_has_its_own_scale(fitted):
    _, model = fitted
    z, present = model.encode(torch.arange(12)), model.presence(torch.arange(12))
    torch.testing.assert_close(z.norm(dim=2), present.float())
    modality = model.modality("text")
    z_bar = modality.encode_specific(modality.features[modality.present])
    torch.testing.assert_close(z_bar.square().mean(1), torch.ones(11), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "signals", [s for n in (1, 2, 3) for s in itertools.combinations(SIGNALS, n)], ids=lambda s: "+".join(s)
)
def test_any_subset_of_the_signals(inputs, signals):
    made = fit(inputs, small(signals=signals, epochs=4))
    assert made.codes.modalities == signals
    assert made.codes.codes.shape == (12, 2, len(signals))
    assert made.codes.item_vectors.shape == (12, 16 * len(signals))
    assert ("information" in made.history[0]) == (signals != ("id",))


def test_the_order_of_signals_is_fixed(inputs):
    assert choose_signals(small(signals=("image", "id")), inputs) == ("id", "image")
    more = dataclasses.replace(inputs, features={"audio": inputs.features["image"], **inputs.features})
    assert choose_signals(SMALL, more) == ("id", "text", "image", "audio")


@pytest.mark.parametrize(
    ("changes", "missing"),
    [({"mim": False}, {"information"}), ({"rec": False}, {"recommendation", "recall@10", "ndcg@10"})],
    ids=["¬MIM", "¬Rec"],
)
def test_variants_leave_out_their_part(inputs, changes, missing):
    made = fit(inputs, small(epochs=4, **changes))
    every = {"reconstruction", "quantisation", "recommendation", "information", "recall@10", "ndcg@10"}
    assert every - made.history[-1].keys() == missing
    assert made.codes.modalities == (("text", "image") if "rec" in changes else SIGNALS)


def test_variant_without_a_shared_codebook(inputs):
    made = fit(inputs, small(shared_codebook=False))
    assert made.codes.codebooks.shape == (3, 2, 8, 16)
    assert made.history[-1]["ndcg@10"] == pytest.approx(1)
    first = made.codes.codes.astype(int)
    signal = np.arange(3)
    vectors = sum(made.codes.codebooks[signal, level, first[:, level]] for level in range(2))
    np.testing.assert_array_equal(made.codes.item_vectors.reshape(12, 3, 16), vectors * made.present[:, :, None])


@pytest.mark.parametrize("changes", [{}, {"mim": False}, {"rec": False}, {"shared_codebook": False}], ids=str)
def test_every_parameter_gets_a_gradient(inputs, changes):
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


def test_no_gradient_below_zero_and_modality_by_modality(inputs, signed):
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


def test_without_the_floor_the_estimate_is_charged_as_it_is(inputs, signed):
    batch, gradients = one_batch(inputs), {}
    for gamma in (0.0, 1.0):
        model = network(inputs, small(gamma=gamma, club_floor=False))
        signed(model, text=0.1, image=-10.0)
        gradients[gamma] = gradient(model, batch, "image")
    assert not torch.allclose(gradients[0.0], gradients[1.0], rtol=1e-3)
    club = network(inputs, small(club_floor=False)).club("text")
    torch.nn.init.constant_(club.spread.bias, 50.0)
    assert club(torch.zeros(2, 16))[1].min() > 40, "nor is the variance bounded"


def test_signals_as_the_encoders_give_them(inputs):
    model = network(inputs, small(unit_signals=False)).eval()
    z, modality = model.encode(torch.arange(12)), model.modality("text")
    rows = modality.present.nonzero().squeeze(1)
    torch.testing.assert_close(z[:, 0], model.ids.weight)
    torch.testing.assert_close(z[rows, 1], modality.aligned(modality.features[rows]))
    torch.testing.assert_close(modality.encode_specific(modality.features), modality.specific(modality.features))


def test_weights_of_the_total(inputs, signed):
    batch = one_batch(inputs)
    model = network(inputs, small(beta=3.0, gamma=5.0, reconstruction=0.5))
    bbqrec.initialise(model, RunSettings())
    signed(model, text=0.1, image=0.2)
    parts = {name: value.item() for name, value in model.train().loss(batch).items()}
    weighted = 0.5 * parts["reconstruction"] + 3 * parts["recommendation"] + 5 * parts["information"]
    expected = weighted + parts["quantisation"]
    assert parts["loss"] == pytest.approx(expected, rel=1e-5)


def test_losses_by_hand(inputs):
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


def test_the_recommendation_loss_in_a_loop(inputs):
    """Eq. 10–12 on quantised vectors: negatives are the batch's other targets, not what is in histories only."""
    model = network(inputs).eval().requires_grad_(False)
    bbqrec.initialise(model, RunSettings())
    items, targets = torch.tensor([[3, 1, 4], [9, 2, PAD]]), torch.tensor([[1, 4, 6], [2, 1, PAD]])
    v, losses = model.assign()[0], []
    for user, steps in ((0, 3), (1, 2)):
        for t in range(steps):
            state = model.alignment.encoder(v[items[user, : t + 1]].unsqueeze(0))[0, -1]
            cosines = torch.nn.functional.cosine_similarity(state.unsqueeze(0), v, dim=1) / SMALL.tau
            own = int(targets[user, t])
            losses.append(cosines[[1, 2, 4, 6]].logsumexp(0) - cosines[own])
    found = model.loss(Batch(items, targets))["recommendation"]
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


def test_an_absent_modality_is_in_no_loss(inputs):
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


def test_an_absent_modality_adds_nothing_to_z_and_v(inputs):
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


@pytest.mark.parametrize("having", [0, 1, 2])
def test_a_modality_that_hardly_any_item_of_a_batch_has(inputs, having):
    """Batch norms know no mean of one row, and none of none."""
    present = np.zeros(12, dtype=bool)
    present[[0, 1][:having]] = True
    values = np.where(present[:, None], inputs.features["image"].values, 0)
    few = dataclasses.replace(inputs, features={**inputs.features, "image": Feature(values=values, present=present)})
    if not having:
        assert choose_signals(SMALL, few) == ("id", "text")
        with pytest.raises(DataError, match="--signals names 'image'; no item has it"):
            fit(few, small(signals=("image",)))
        return
    made = fit(few, small(epochs=4, batch_size=4))
    assert all(np.isfinite(row["loss"]) for row in made.history)
    assert made.present[:, 2].sum() == having


def test_theta_is_left_alone_by_the_main_step(inputs, monkeypatch):
    """With its own optimiser idle θ stays as it was made, though the main loss has gradients in it."""
    seen = []

    def look(model: BBQRecQuantizer, batch: Batch) -> None:
        theta = [p for name, p in model.named_parameters() if name.startswith("clubs.")]
        seen.append([(p.detach().clone(), p.grad is not None) for p in theta])

    monkeypatch.setattr(BBQRecQuantizer, "likelihood", look)
    fit(inputs, small(epochs=3))
    assert len(seen) == 9
    for (before, _), (after, reached) in zip(seen[0], seen[-1], strict=True):
        assert torch.equal(before, after)
        assert reached


def test_a_seed_gives_one_result(inputs):
    one, same, other = (fit(inputs, small(epochs=6, dropout=0.3), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.codes.codes, same.codes.codes)
    np.testing.assert_array_equal(one.codes.codebooks, same.codes.codebooks)
    assert not np.array_equal(one.codes.codebooks, other.codes.codebooks)


def test_all_items_as_negatives(inputs):
    made = fit(inputs, small(negatives="all"))
    assert made.history[-1]["ndcg@10"] == pytest.approx(1)
    model = network(inputs, small(negatives="all")).eval()
    batch = one_batch(inputs)
    with torch.no_grad():
        v, _, _ = model.assign()
        states = model.alignment.states(torch.where(batch.mask.unsqueeze(2), v[batch.items], 0.0), batch)
        cosines = torch.nn.functional.cosine_similarity(states.unsqueeze(1), v.unsqueeze(0), dim=2) / SMALL.tau
        expected = (
            cosines.logsumexp(1) - cosines.gather(1, batch.targets[batch.targets != PAD].unsqueeze(1))[:, 0]
        ).mean()
    torch.testing.assert_close(model.loss(batch)["recommendation"], expected)


def test_validation_ranks_by_counting(inputs):
    """Full ranking; equal scores stand in the order of the items' rows, whoever is the target."""
    model = network(inputs).eval().requires_grad_(False)
    vectors = torch.randn(12, 48, generator=torch.Generator().manual_seed(0))
    vectors[4:8] = vectors[4]  # four items of one vector
    ranks = bbqrec.validation_ranks(model.alignment, vectors, inputs.validation, RunSettings())
    for user, (history, target) in enumerate(zip(inputs.validation.histories, inputs.validation.targets, strict=True)):
        items = [int(item) for item in history if item != PAD]
        state = model.alignment.encoder(vectors[items].unsqueeze(0))[0, -1]
        scores = [float(torch.nn.functional.cosine_similarity(state, v, dim=0)) for v in vectors]
        scores[4:8] = [scores[4]] * 4
        order = sorted(range(12), key=lambda item: (-scores[item], item))
        assert ranks[user] == order.index(int(target)) + 1
    tied = ranks[np.isin(inputs.validation.targets, range(4, 8))]
    assert len(set(tied)) > 1, "consecutive ranks, not one for all"


def test_precision_does_not_tie_the_ranks(inputs):
    """In bfloat16 all these scores are the same, and every target would be first."""
    model = network(inputs).eval()
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(1, 48, generator=generator) + 1e-3 * torch.randn(12, 48, generator=generator)
    ranks = bbqrec.validation_ranks(model.alignment, vectors, inputs.validation, RunSettings(precision="bf16"))
    exact = bbqrec.validation_ranks(model.alignment, vectors, inputs.validation, RunSettings())
    assert (ranks == exact).mean() > 0.8
    assert (exact == inputs.validation.targets + 1).mean() < 0.5, "which is what ties would give"


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        (
            {"signals": ("txt",)},
            DataError,
            r"'txt'; the file has id, text, image \(did you mean 'text'",
        ),
        ({"signals": ("id",), "rec": False}, DataError, "no signal is left"),
        ({"sequence_heads": 5}, UsageError, "--sequence-heads is 5, which does not divide 48"),
    ],
)
def test_what_can_not_be(inputs, changes, error, says):
    with pytest.raises(error, match=says):
        fit(inputs, small(**changes))


def test_no_sequences(inputs):
    short = dataclasses.replace(inputs, train=Sequences.from_lists([[1], [2], []]))
    for rec in (True, False):
        with pytest.raises(DataError, match="no user has two training items"):
            fit(short, small(rec=rec))


def test_faiss_is_asked_for_before_the_warm_up(inputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(bbqrec, "fit_tokenizer", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(MissingPackageError):
        fit(inputs)


def test_statistics_of_the_whole_catalogue(inputs):
    """`settle`: codes do not depend on the last batches."""
    model = network(inputs)
    model.settle()
    modality = model.modality("text")
    outputs = modality.aligned(modality.features[modality.present])
    torch.testing.assert_close(modality.norm.running_mean, outputs.mean(0))
    torch.testing.assert_close(modality.norm.running_var, outputs.var(0))
    model.settle(block=3)
    torch.testing.assert_close(modality.norm.running_mean, outputs.mean(0))


def test_a_constant_feature_is_no_noise():
    values = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    values[:, 1] = 0.3
    modality = Modality(Feature(values=values, present=np.ones(20, dtype=bool)), dim=4, hidden=4, specific=True)
    assert (modality.features[:, 1] == 0).all()
    torch.testing.assert_close(modality.features[:, 0].std(correction=0), torch.tensor(1.0))
