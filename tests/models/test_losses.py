"""Each loss against a loop over its definition, and the draw of negatives."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import new_model

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models import losses
from bbqrec_cli.models.losses import (
    binary_cross_entropy,
    bpr,
    gbce_beta,
    item_losses,
    sampled_softmax,
    scores_of,
    uniform_negatives,
)

POSITIONS, NEGATIVES, ITEMS, WIDTH = 5, 3, 11, 4


@pytest.fixture
def scores() -> tuple[torch.Tensor, torch.Tensor]:
    """own (P,), others (P, N)."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(POSITIONS, generator=draw) * 3, torch.randn(POSITIONS, NEGATIVES, generator=draw) * 3


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax_loss(own: float, others: list[float]) -> float:
    return -math.log(math.exp(own) / (math.exp(own) + sum(math.exp(other) for other in others)))


def bce_loss(own: float, others: list[float], beta: float = 1.0) -> float:
    return -(math.log(sigmoid(own) ** beta) + sum(math.log(1 - sigmoid(other)) for other in others)) / (1 + len(others))


def bpr_loss(own: float, others: list[float]) -> float:
    """RecBole's, over each pair."""
    return sum(-math.log(1e-10 + sigmoid(own - other)) for other in others) / len(others)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (sampled_softmax, softmax_loss),
        (binary_cross_entropy, bce_loss),
        (lambda own, others: binary_cross_entropy(own, others, beta=0.3), lambda a, b: bce_loss(a, b, 0.3)),
        (bpr, bpr_loss),
    ],
)
def test_each_is_its_definition(found, expected, scores):
    own, others = scores
    by_hand = [expected(a, b) for a, b in zip(own.tolist(), others.tolist(), strict=True)]
    torch.testing.assert_close(found(own, others), torch.tensor(by_hand), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [sampled_softmax, binary_cross_entropy, bpr])
def test_extreme_scores_stay_finite(loss):
    own, others = torch.tensor([-200.0, 200.0]), torch.tensor([[200.0], [-200.0]])
    assert torch.isfinite(loss(own, others)).all()


def test_beta_runs_from_one_to_the_sampling_rate():
    """gSASRec: t = 0 leaves the scores as they are, t = 1 calibrates them."""
    assert gbce_beta(items=1001, negatives=10, t=0.0) == pytest.approx(1.0)
    assert gbce_beta(items=1001, negatives=10, t=1.0) == pytest.approx(0.01)
    assert gbce_beta(items=1001, negatives=10, t=0.75) == pytest.approx(0.01 * (0.75 * (1 - 100) + 100))


def test_sampled_softmax_over_all_other_items_is_the_full_one():
    draw = torch.Generator().manual_seed(0)
    states, table = torch.randn(POSITIONS, WIDTH, generator=draw), torch.randn(ITEMS, WIDTH, generator=draw)
    targets = torch.tensor([0, 3, 10, 5, 5])
    others = torch.tensor([[item for item in range(ITEMS) if item != target] for target in targets])
    own = scores_of(states, table, targets.unsqueeze(1))[:, 0]
    found = sampled_softmax(own, scores_of(states, table, others))
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(states @ table.T, targets, reduction="none"))


@pytest.mark.parametrize("cells", [1, 2 * NEGATIVES * WIDTH, 1 << 20])
def test_scores_and_their_gradients_in_parts(cells, monkeypatch):
    monkeypatch.setitem(losses.CELLS, "cpu", cells)
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(POSITIONS, WIDTH, generator=draw, dtype=torch.float64, requires_grad=True)
    table = torch.randn(ITEMS, WIDTH, generator=draw, dtype=torch.float64, requires_grad=True)
    rows = torch.randint(ITEMS, (POSITIONS, NEGATIVES), generator=draw)
    rows[0] = 7  # one item several times
    torch.testing.assert_close(scores_of(states, table, rows), (states.unsqueeze(1) * table[rows]).sum(2))
    assert torch.autograd.gradcheck(lambda *both: scores_of(*both, rows), (states, table))


@pytest.mark.parametrize("items", [1, 2, 5])
def test_negatives_are_uniform_over_the_other_items(items):
    torch.manual_seed(0)
    targets = torch.arange(items)
    drawn = uniform_negatives(targets, items=items, count=8000)
    assert drawn.shape == (items, 8000)
    for target in range(items):
        counts = torch.bincount(drawn[target], minlength=items).tolist()
        expected = [8000 / max(1, items - 1)] * items
        expected[target] = 0 if items > 1 else 8000
        assert counts == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("loss", ["ce", "sampled", "gbce", "bce", "bpr"])
def test_a_model_is_trained_on_the_loss_that_it_names(loss):
    """The mean over the positions that have a target, with negatives of their own."""
    model = new_model("sasrec", ITEMS, width=8, heads=2, dropout=0.0, loss=loss, negatives=4, gbce_t=0.6).eval()
    with torch.no_grad():
        model.table.weight.normal_()
    batch = Batch(torch.tensor([[3, 7, 1], [5, 2, -1]]), torch.tensor([[7, 1, 9], [2, 8, -1]]))
    torch.manual_seed(3)
    found = model.loss(batch)
    torch.manual_seed(3)
    targets = torch.tensor([7, 1, 9, 2, 8])
    drawn = uniform_negatives(targets, items=ITEMS, count=4)
    beta = 0.4 * (0.6 * (1 - 1 / 0.4) + 1 / 0.4)
    expected = []
    for state, target, row in zip(model.states(batch)[batch.mask], targets.tolist(), drawn.tolist(), strict=True):
        logits = (model.table.weight @ state).tolist()
        own, others = logits[target], [logits[item] for item in row]
        if loss == "ce":
            expected.append(softmax_loss(own, [logit for item, logit in enumerate(logits) if item != target]))
        elif loss in ("bce", "gbce"):
            expected.append(bce_loss(own, others, beta if loss == "gbce" else 1.0))
        else:
            expected.append({"sampled": softmax_loss, "bpr": bpr_loss}[loss](own, others))
    assert found.item() == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_gbce_without_calibration_is_bce():
    torch.manual_seed(0)
    states, table, targets = torch.randn(POSITIONS, WIDTH), torch.randn(ITEMS, WIDTH), torch.arange(POSITIONS)

    def drawn(**options) -> torch.Tensor:
        torch.manual_seed(1)
        return item_losses(states, table, targets, negatives=NEGATIVES, **options)

    torch.testing.assert_close(drawn(loss="gbce", gbce_t=0.0), drawn(loss="bce", gbce_t=0.75))
    assert not torch.allclose(drawn(loss="gbce", gbce_t=0.5), drawn(loss="bce", gbce_t=0.5))
