"""Encoding with what a tokens file holds: the pieces of `ContentTokenizer.restore`.

n items, L levels, M signals, N codes, D width of a code, d width of a feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bbqrec_cli.data.features import mean_and_scale, standardize
from bbqrec_cli.errors import BrokenFileError, DataError
from bbqrec_cli.records import Codes, Feature, ItemEncoder
from bbqrec_cli.tokenizers.base import Encoded
from bbqrec_cli.tokenizers.quantization.residual import ResidualQuantizer

ANEW = "run `bbqrec tokenize` again; all items then get new codes"


def item_encoder(
    features: Mapping[str, Feature], names: Sequence[str], modules: Mapping[str, nn.Module]
) -> ItemEncoder:
    """The encoder that `restore` needs, with each feature's mean and scale, 'feature.mean' and 'feature.scale'
    (`scale_feature`).

    Args:
        features: the features that the tokenizer was fitted on.
        names: those among them that it encodes.
        modules: name -> network; its parameters and buffers are stored as 'name.parameter'.
    """
    weights: dict[str, np.ndarray] = {}
    for name in names:
        weights[f"{name}.mean"], weights[f"{name}.scale"] = mean_and_scale(features[name])
    for name, module in modules.items():
        weights |= {f"{name}.{key}": value.detach().cpu().numpy() for key, value in module.state_dict().items()}
    inputs = {name: describe_input(features[name]) for name in names}
    return ItemEncoder(weights=weights, inputs=inputs)


def describe_input(feature: Feature) -> dict[str, str | bool | int]:
    """The properties of a feature that must be equal in the fit's file and in one to encode."""
    return {"encoder": feature.encoder, "normalized": feature.normalized, "width": feature.values.shape[1]}


def scale_feature(feature: Feature, name: str, encoder: ItemEncoder) -> np.ndarray:
    """(n, d) float32, standardised with the mean and scale of the fit; zeros where the feature is absent."""
    return standardize(feature, encoder.weights[f"{name}.mean"], encoder.weights[f"{name}.scale"])


def check_restorable(path: Path, codes: Codes, encoder: ItemEncoder) -> None:
    """Check what `restore` needs of the tokens file `path`. Plugins need neither codebooks nor means and scales; the
    scale of a constant column is infinite.

    Raises:
        BrokenFileError: NaN, or means and scales that are not as many as the features that it reads are wide.
    """
    arrays = {f"encoder/{key}": each for key, each in encoder.weights.items()}
    arrays |= {} if codes.codebooks is None else {"codebooks": codes.codebooks}
    for name, about in encoder.inputs.items():
        for part in ("mean", "scale"):
            key = f"encoder/{name}.{part}"
            if key in arrays and np.shape(arrays[key]) != (about["width"],):
                raise BrokenFileError(f"{path}: /{key} is not of {about['width']} numbers, as {name} has", ANEW)
    for key, values in arrays.items():
        if np.isnan(values).any():
            raise BrokenFileError(f"{path}: /{key} holds NaN", ANEW)


def load_weights(module: nn.Module, name: str, encoder: ItemEncoder) -> None:
    """Load the parameters that `item_encoder` stored for the module `name`, and put it in eval mode.

    Raises:
        DataError: they do not fit the module.
    """
    prefix = f"{name}."
    kept = {key.removeprefix(prefix): value for key, value in encoder.weights.items() if key.startswith(prefix)}
    try:
        module.load_state_dict({key: torch.from_numpy(np.asarray(value)) for key, value in kept.items()})
    except RuntimeError as error:
        raise DataError(
            f"the tokens file's encoder does not fit its configuration: {error}",
            ANEW,
        ) from error
    module.eval()


def residual_quantizer(codebooks: np.ndarray, *, signals: int, device: torch.device) -> ResidualQuantizer:
    """The quantiser of a tokens file. codebooks (1 or M, L, N, D)."""
    books = torch.from_numpy(codebooks)
    made = ResidualQuantizer(
        signals=signals, levels=books.shape[1], codebook_size=books.shape[2], dim=books.shape[3],
        shared=len(books) == 1, commitment=0.0,
    )  # fmt: skip
    with torch.no_grad():
        made.codebooks.copy_(books)
        made.initialised.fill_(True)
    return made.to(device).eval()


@torch.no_grad()
def quantised(quantizer: ResidualQuantizer, latents: Tensor, present: np.ndarray) -> Encoded:
    """Eq. 5–7 for latents (n, M, D), present (n, M) bool; the vector of an absent signal is zero."""
    found = quantizer(latents)
    vectors = found.vectors * torch.from_numpy(present).to(latents.device).unsqueeze(2)
    return Encoded(
        codes=found.codes.cpu().numpy().astype(np.uint16), latents=latents.cpu().numpy(),
        vectors=vectors.flatten(1).float().cpu().numpy(), present=present,
    )  # fmt: skip
