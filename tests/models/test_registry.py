from __future__ import annotations

import numpy as np
import pytest
import torch

from bbqrec_cli.models.registry import load_model
from bbqrec_cli.models.semantic_id_generator import SemanticIDGenerator
from bbqrec_cli.records import TrainedModel


@pytest.mark.parametrize(("switch", "word"), [(True, "free"), (False, "none")])
def test_a_model_of_the_days_when_tuple_vectors_were_a_switch(switch, word, catalogue, codes):
    small = {"width": 8, "heads": 2, "layers": 1, "decoder_layers": 1}
    weights = {
        name: value.numpy()
        for name, value in SemanticIDGenerator(items=12, codes=codes, tuple_vectors=word, **small).state_dict().items()
    }
    settings = {**small, "tuple_vectors": switch}
    trained = TrainedModel(catalogue=catalogue, name="bbqrec", settings=settings, weights=weights, codes=codes)
    model = load_model(trained, torch.device("cpu"))
    assert (model.tuples is not None) == switch
    np.testing.assert_array_equal(model.tokens.weight.detach().numpy(), weights["tokens.weight"])
