from __future__ import annotations

import numpy as np
import pytest
import torch

from bbqrec_cli import hdf5
from bbqrec_cli.tokenizers.methods.bbqrec.restore import both_parts, restore_encoder
from bbqrec_cli.tokenizers.registry import tokenizer_config


@pytest.mark.parametrize("mim", [True, False])
def test_both_parts(files, features, bbqrec, tmp_path, mim):
    """z is what is quantised; z̄ has components of mean 0 and size 1; items without the modality are in neither."""
    small = ["--dim", 8, "--hidden", 16, "--epochs", 2, "--codebook-size", 4, "--levels", 2, "--device", "cpu"]
    made = bbqrec("tokenize", files["features"], "-o", tmp_path / "t.h5", *small, "--mim" if mim else "--no-mim")
    assert made.status == 0, made.err
    tokens = hdf5.read_tokens(tmp_path / "t.h5")
    config = tokenizer_config("bbqrec", hdf5.describe(tmp_path / "t.h5")["config"]["options"])
    assert tokens.encoder is not None
    encoded = restore_encoder(config, tokens.codes, tokens.encoder, torch.device("cpu"))(features.features)
    parts = both_parts(config, tokens.encoder, features.features)
    assert parts.keys() == {"text", "image"}
    for name, (z, specific) in parts.items():
        here, signal = features.features[name].present, tokens.codes.modalities.index(name)
        assert encoded.latents is not None
        np.testing.assert_array_equal(z, encoded.latents[here, signal])
        if not mim:
            assert specific is None
            continue
        assert specific is not None
        assert specific.shape == z.shape == (here.sum(), 8)
        np.testing.assert_allclose(specific.mean(1), 0, atol=1e-5)
        np.testing.assert_allclose(specific.std(1), 1, atol=0.05)
