from __future__ import annotations

import pytest
import torch
from helpers import Listener

import bbqrec_cli
from bbqrec_cli.errors import BrokenFileError, DataError, WrongKindError
from bbqrec_cli.training.checkpoint import load_checkpoint, save_checkpoint, saved_precision, saved_seconds

IDENTITY = {"config": {"seed": 0, "options": {"width": 64}}, "parents": {"tokens": "abc"}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.h5.checkpoint"


def test_nested_state_comes_back(path):
    state = {
        "model": {"a.weight": torch.randn(3, 4), "steps": torch.tensor(7), "none": torch.zeros(0, 5)},
        "state": {0: {"exp_avg": torch.randn(2)}, 1: {"flag": torch.tensor([True, False])}},
        "list": [1, 2.5, "text", None, True, [torch.arange(3)]],
        "tiny": 0.1 + 0.2,
    }
    save_checkpoint(path, state, IDENTITY)
    found = load_checkpoint(path, IDENTITY)
    assert list(found["state"]) == [0, 1], "integer keys stay integers"
    assert found["list"][:5] == state["list"][:5]
    assert found["tiny"] == state["tiny"]
    for key, value in state["model"].items():
        assert found["model"][key].dtype == value.dtype
        assert torch.equal(found["model"][key], value)
    assert torch.equal(found["list"][5][0], torch.arange(3))
    assert torch.equal(found["state"][1]["flag"], torch.tensor([True, False]))


def test_an_optimiser_goes_on_with_the_same_numbers(path):
    def start():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)

    def step(layer, optimiser, number):
        optimiser.zero_grad()
        layer(torch.full((1, 3), float(number))).square().sum().backward()
        optimiser.step()

    layer, optimiser = start()
    for number in range(3):
        step(layer, optimiser, number)
    save_checkpoint(path, {"model": layer.state_dict(), "optimiser": optimiser.state_dict()}, {})
    step(layer, optimiser, 3)
    other, again = start()
    state = load_checkpoint(path, {})
    other.load_state_dict(state["model"])
    again.load_state_dict(state["optimiser"])
    step(other, again, 3)
    assert torch.equal(layer.weight, other.weight)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"config": {"seed": 1, "options": {"width": 64}}}, "seed was 0 and is 1"),
        ({"config": {"seed": 0, "options": {"width": 32}}}, "width was 64 and is 32"),
        ({"config": {"seed": 0, "options": {"width": 64, "heads": 2}}}, "heads was not given and is 2"),
        ({"parents": {"tokens": "abd"}}, "tokens was 'abc' and is 'abd'"),
        ({"parents": {}}, "tokens was 'abc' and is not given"),
    ],
)
def test_another_runs_checkpoint_is_refused_by_name(path, change, says):
    save_checkpoint(path, {}, IDENTITY)
    with pytest.raises(DataError, match=says):
        load_checkpoint(path, IDENTITY | change)


def test_another_kind_is_refused(files):
    with pytest.raises(WrongKindError, match="checkpoint"):
        load_checkpoint(files["tokens"], {})


def test_a_damaged_one_says_what_to_do(path):
    save_checkpoint(path, {"x": torch.zeros(1000)}, IDENTITY)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BrokenFileError, match="truncated") as caught:
        load_checkpoint(path, IDENTITY)
    assert caught.value.hint == "start from the beginning with --force, without --resume"


def test_another_versions_checkpoint_is_said(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(bbqrec_cli, "__version__", "0.0.9")
        save_checkpoint(path, {}, IDENTITY)
    load_checkpoint(path, IDENTITY, listener := Listener())
    assert "checkpoint is of bbqrec 0.0.9, this is" in listener.warned[0]


def test_the_time_of_what_is_saved(path):
    """Of the epochs, and of one that was saved underway."""
    assert saved_seconds(path) == 0
    for begun, seconds in (({}, 5.0), ({"steps": 500, "losses": {"loss": 1.0}, "seconds": 2.5}, 7.5)):
        save_checkpoint(path, {"history": [{"seconds": 2.0}, {"seconds": 3.0}], "begun": begun}, {})
        assert saved_seconds(path) == seconds


def test_the_precision_of_a_run(path):
    assert saved_precision(path) == ""
    save_checkpoint(path, {}, {"config": {"precision": "bf16"}})
    assert saved_precision(path) == "bf16"
