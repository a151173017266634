from __future__ import annotations

import dataclasses
import itertools
import sys

import numpy as np
import pytest
import torch

from bbqrec_cli.errors import DataError, MissingPackageError, UsageError
from bbqrec_cli.records import Feature, Sequences
from bbqrec_cli.tokenizers.base import Tokenized
from bbqrec_cli.tokenizers.methods.bbqrec import method as bbqrec
from bbqrec_cli.tokenizers.methods.bbqrec.method import BBQRecQuantizer, choose_signals

SIGNALS = ("id", "text", "image")
ABSENT = {"text": 10, "image": 5}
"""The item without it (conftest)."""


@pytest.fixture(scope="module")
def fitted(inputs, fit) -> tuple[Tokenized, BBQRecQuantizer]:
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
    books, present = made.codes.codebooks, made.codes.present
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
def test_any_subset_of_the_signals(inputs, signals, small, fit):
    made = fit(inputs, small(signals=signals, epochs=4))
    assert made.codes.modalities == signals
    assert made.codes.codes.shape == (12, 2, len(signals))
    assert made.codes.item_vectors.shape == (12, 16 * len(signals))
    assert ("information" in made.history[0]) == (signals != ("id",))


def test_features_whose_names_no_module_may_have(inputs, small, fit):
    named = {"type": inputs.features["text"], "clip.vec": inputs.features["image"]}
    made = fit(dataclasses.replace(inputs, features=named), small(signals=("id", *named), epochs=4))
    usual = fit(inputs, small(epochs=4))
    assert made.codes.modalities == ("id", "type", "clip.vec")
    np.testing.assert_array_equal(made.codes.codes, usual.codes.codes)


def test_the_order_of_signals_is_fixed(inputs, small):
    assert choose_signals(small(signals=("image", "id")), inputs) == ("id", "image")
    more = dataclasses.replace(inputs, features={"audio": inputs.features["image"], **inputs.features})
    assert choose_signals(small(), more) == ("id", "text", "image", "audio")


@pytest.mark.parametrize(
    ("changes", "missing"),
    [({"mim": False}, {"information"}), ({"rec": False}, {"recommendation", "recall@10", "ndcg@10"})],
    ids=["¬MIM", "¬Rec"],
)
def test_variants_leave_out_their_part(inputs, changes, missing, small, fit):
    made = fit(inputs, small(epochs=4, **changes))
    every = {"reconstruction", "quantisation", "recommendation", "information", "recall@10", "ndcg@10"}
    assert every - made.history[-1].keys() == missing
    assert made.codes.modalities == (("text", "image") if "rec" in changes else SIGNALS)


def test_variant_without_a_shared_codebook(inputs, small, fit):
    made = fit(inputs, small(shared_codebook=False))
    assert made.codes.codebooks.shape == (3, 2, 8, 16)
    assert made.history[-1]["ndcg@10"] == pytest.approx(1)
    first = made.codes.codes.astype(int)
    signal = np.arange(3)
    vectors = sum(made.codes.codebooks[signal, level, first[:, level]] for level in range(2))
    np.testing.assert_array_equal(made.codes.item_vectors.reshape(12, 3, 16), vectors * made.codes.present[:, :, None])


@pytest.mark.parametrize("having", [0, 1, 2])
def test_a_modality_that_hardly_any_item_of_a_batch_has(inputs, having, small, fit):
    """Batch norms know no mean of one row, and none of none."""
    present = np.zeros(12, dtype=bool)
    present[[0, 1][:having]] = True
    values = np.where(present[:, None], inputs.features["image"].values, 0)
    few = dataclasses.replace(inputs, features={**inputs.features, "image": Feature(values=values, present=present)})
    if not having:
        assert choose_signals(small(), few) == ("id", "text")
        with pytest.raises(DataError, match="--signals names 'image'; no item has it"):
            fit(few, small(signals=("image",)))
        return
    made = fit(few, small(epochs=4, batch_size=4))
    assert all(np.isfinite(row["loss"]) for row in made.history)
    assert made.codes.present[:, 2].sum() == having


def test_theta_is_left_alone_by_the_main_step(inputs, monkeypatch, small, fit):
    """With its own optimiser idle θ stays as it was made, though the main loss has gradients in it."""
    seen = []

    def look(model: BBQRecQuantizer, *_: object) -> None:
        theta = [p for name, p in model.named_parameters() if name.startswith("clubs.")]
        seen.append([(p.detach().clone(), p.grad is not None) for p in theta])

    monkeypatch.setattr(BBQRecQuantizer, "likelihood", look)
    fit(inputs, small(epochs=3))
    assert len(seen) == 9
    for (before, _), (after, reached) in zip(seen[0], seen[-1], strict=True):
        assert torch.equal(before, after)
        assert reached


def test_a_seed_gives_one_result(inputs, small, fit):
    one, same, other = (fit(inputs, small(epochs=6, dropout=0.3), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.codes.codes, same.codes.codes)
    np.testing.assert_array_equal(one.codes.codebooks, same.codes.codebooks)
    assert not np.array_equal(one.codes.codebooks, other.codes.codebooks)


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
def test_what_can_not_be(inputs, changes, error, says, small, fit):
    with pytest.raises(error, match=says):
        fit(inputs, small(**changes))


def test_no_sequences(inputs, small, fit):
    short = dataclasses.replace(inputs, train=Sequences.from_lists([[1], [2], []]))
    for rec in (True, False):
        with pytest.raises(DataError, match="no user has 2 training interactions"):
            fit(short, small(rec=rec))


def test_faiss_is_asked_for_before_the_warm_up(inputs, monkeypatch, fit):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(bbqrec, "fit_tokenizer", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(MissingPackageError):
        fit(inputs)
