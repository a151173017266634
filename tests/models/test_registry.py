from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import new_generator, new_model

from bbqrec_cli.benchmark.scores import made_of
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.registry import MODELS, load_model
from bbqrec_cli.records import TrainedModel


@pytest.mark.parametrize(("switch", "word"), [(True, "free"), (False, "none")])
def test_a_model_of_the_days_when_tuple_vectors_were_a_switch(switch, word, catalogue, codes):
    small = {"width": 8, "heads": 2, "layers": 1, "decoder_layers": 1}
    weights = {
        name: value.numpy() for name, value in new_generator(codes, tuple_vectors=word, **small).state_dict().items()
    }
    settings = {**small, "tuple_vectors": switch}
    trained = TrainedModel(catalogue=catalogue, name="bbqrec", settings=settings, weights=weights, codes=codes)
    model = load_model(trained, torch.device("cpu"))
    assert (model.tuples is not None) == switch
    np.testing.assert_array_equal(model.tokens.weight.detach().numpy(), weights["tokens.weight"])


@pytest.mark.parametrize(("setting", "kept", "gone"), [("signal_weights", False, True), ("label_smoothing", 0.0, 0.1)])
def test_a_model_of_the_days_when_there_were_more_options(setting, kept, gone, catalogue, codes):
    """At the value that is what models without the option do it opens; at another one it is refused, not misread."""
    small = {"width": 8, "heads": 2, "layers": 1, "decoder_layers": 1}
    weights = {name: value.numpy() for name, value in new_generator(codes, **small).state_dict().items()}

    def load(value):
        settings = {**small, setting: value}
        trained = TrainedModel(catalogue=catalogue, name="bbqrec", settings=settings, weights=weights, codes=codes)
        return load_model(trained, torch.device("cpu"))

    load(kept)
    with pytest.raises(DataError, match=f"{setting} = {gone}, an option that bbqrec no longer has"):
        load(gone)


@pytest.mark.parametrize(("negatives", "loss", "now"), [(0, "ce", 1), (7, "sampled", 7)])
def test_a_sasrec_of_the_days_when_negatives_chose_the_loss(negatives, loss, now, catalogue):
    small = {"width": 8, "heads": 2, "layers": 1}
    weights = {name: value.numpy() for name, value in new_model("sasrec", **small).state_dict().items()}
    settings = {**small, "dropout": 0.5, "negatives": negatives, "history": 20}
    trained = TrainedModel(catalogue=catalogue, name="sasrec", settings=settings, weights=weights)
    model = load_model(trained, torch.device("cpu"))
    assert (model.loss_name, model.negatives) == (loss, now)
    np.testing.assert_array_equal(model.table.weight.detach().numpy(), weights["table.weight"])


def test_what_is_beyond_a_paper_is_said():
    bbqrec, tiger = MODELS.config("bbqrec"), MODELS.config("tiger")
    assert bbqrec().beyond_paper == ("tuple vectors",)
    assert bbqrec(dense_head=True).beyond_paper == ("tuple vectors", "a dense head")
    assert bbqrec(markov_head=True).beyond_paper == ("tuple vectors", "a Markov head")
    assert bbqrec(normalisation="codes").beyond_paper == bbqrec(tuple_vectors="none").beyond_paper == ()
    assert tiger().beyond_paper == MODELS.config("sasrec")().beyond_paper == ()
    assert MODELS.config("gru4rec")(features=("text",)).beyond_paper == ("features",)
    cell = {"model": "bbqrec", "tokenizer": "ids", "beyond_paper": list(bbqrec().beyond_paper)}
    assert made_of(cell) == "bbqrec on ids, with tuple vectors"


@pytest.mark.parametrize(("name", "settings", "items"), [("sasrec", {"history": 50}, 50), ("ease", {}, 1000)])
def test_what_counts_counts_all_of_a_history(name, settings, items):
    assert new_model(name, **settings).history == items
