from __future__ import annotations

import math

import numpy as np
import pytest

from bbqrec_cli.data.features import usable
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.records import Codes, Feature, Sequences
from bbqrec_cli.tokenizers.base import TokenizerInput, check_codes, code_figures, collapsed
from bbqrec_cli.tokenizers.options.bbqrec import BBQRecConfig
from bbqrec_cli.tokenizers.options.rqvae import RQVAEConfig
from bbqrec_cli.tokenizers.registry import TOKENIZERS, tokenizer_config

CODES = np.array([[[0, 5], [1, 5]], [[0, 6], [1, 5]], [[2, 7], [1, 5]], [[0, 5], [1, 5]]], dtype=np.uint16)
"""Four items, two levels, two signals; the first and the last collide."""


def test_code_figures():
    found = code_figures(CODES, ("id", "text"))
    assert found["usage/id/1"] == 2
    assert found["usage/text/1"] == 3
    assert found["usage/text/2"] == found["perplexity/text/2"] == 1
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found["perplexity/id/1"] == pytest.approx(math.exp(entropy), abs=0.005)
    assert found["colliding_items"] == 2


def test_items_without_a_signal_do_not_count_for_it():
    present = np.array([[True, False], [True, True], [True, True], [True, False]])
    found = code_figures(CODES, ("id", "text"), present)
    assert (found["usage/text/1"], found["perplexity/text/1"]) == (2, 2)
    assert found["usage/id/1"] == 2


def test_collapsed():
    figures = {
        "loss": 1.0, "quantised": True, "usage/id/1": 30, "perplexity/id/1": 25.5, "usage/id/2": 90,
        "perplexity/id/2": 25.7, "usage/text/1": 2, "perplexity/text/1": 1.9, "usage/image/1": 2,
        "perplexity/image/1": 1.9,
    }  # fmt: skip
    found = collapsed(figures, 256, {"id": 1000, "text": 100, "image": 10})
    assert list(found) == ["id/1", "text/1"], "below a tenth of 256, of 100; not of 10"
    assert found["text/1"] == "signal text, level 1: 2 of 256 codes in use, perplexity 1.9"
    assert collapsed({"loss": 1.0}, 256, {}) == {}
    one = {"usage/text/1": 1, "perplexity/text/1": 1.0}
    assert list(collapsed(one, 8, {"text": 100})) == ["text/1"], "a tenth of 8 is less than one code"
    assert collapsed(one, 8, {"text": 1}) == {}


def test_usable():
    some, none = np.array([True, False]), np.zeros(2, dtype=bool)
    features = {name: Feature(values=np.zeros((2, 1)), present=p) for name, p in (("text", some), ("image", none))}
    inputs = TokenizerInput(item_ids=["a", "b"], features=features, train=Sequences.from_lists([[0, 1]]))
    assert usable(inputs.present) == ("text",)


@pytest.mark.parametrize(("cls", "expected"), [(BBQRecConfig, 20), (RQVAEConfig, 6)])
def test_warm_up_follows_the_epochs(cls, expected):
    assert cls(epochs=40).warmup == expected
    assert cls(epochs=1).warmup == 0
    assert cls(epochs=40, warmup_epochs=39).warmup == 39
    assert cls(epochs=40, warmup_epochs=0).warmup == 0
    assert all(cls(epochs=epochs).warmup < epochs for epochs in range(1, 50))


@pytest.mark.parametrize("cls", [BBQRecConfig, RQVAEConfig])
def test_a_warm_up_that_leaves_nothing(cls):
    with pytest.raises(UsageError, match="--warmup-epochs is 8 and --epochs 8"):
        cls(epochs=8, warmup_epochs=8)


def test_options_are_checked_by_name():
    with pytest.raises(UsageError, match=r"--method is 'bbqrek'.*did you mean 'bbqrec'"):
        tokenizer_config("bbqrek", {})
    with pytest.raises(UsageError, match=r"--method rqvae: unknown option 'gamma'"):
        tokenizer_config("rqvae", {"gamma": 1.0})
    with pytest.raises(UsageError, match=r"unknown option 'codebook_sise' \(did you mean 'codebook_size'"):
        tokenizer_config("bbqrec", {"codebook_sise": 4})
    with pytest.raises(UsageError, match="--levels is 9; it must be 1 to 8"):
        tokenizer_config("bbqrec", {"levels": 9})
    assert tokenizer_config("bbqrec", {"codebook-size": 4}).codebook_size == 4


def test_the_registry_and_the_configurations_agree():
    for method in TOKENIZERS:
        assert TOKENIZERS.config(method).name == method


@pytest.mark.parametrize(
    ("codes", "says"),
    [
        (np.zeros((11, 2, 1), int), r"codes \(11, 2, 1\); \(12, levels, 1\) are needed"),
        (np.zeros((12, 2, 2), int), r"codes \(12, 2, 2\); \(12, levels, 1\) are needed"),
        (np.full((12, 2, 1), 8), "codes from 8 to 8 of int64; whole numbers from 0 to 7"),
        (np.full((12, 2, 1), -1), "codes from -1 to -1"),
        (np.zeros((12, 2, 1)), "of float64; whole numbers"),
    ],
)
def test_wrong_codes_of_ones_own_tokenizer_are_not_written(codes, says):
    made = Codes(codes=codes, modalities=("text",), method="mine", codebook_size=8)
    with pytest.raises(DataError, match=f"the tokenizer mine gave .*{says}"):
        check_codes(made, 12)
