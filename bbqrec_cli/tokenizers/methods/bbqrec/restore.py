"""BBQRec's codes for items that come after its training: the modalities' encoders alone (paper, eq. 2 and 5–7).

n items, M signals, D width of a code, d width of a feature.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from bbqrec_cli.records import Codes, Feature, ItemEncoder
from bbqrec_cli.tokenizers.assignment.encoding import (
    item_encoder,
    load_weights,
    quantised,
    residual_quantizer,
    scale_feature,
)
from bbqrec_cli.tokenizers.base import Encode, Encoded
from bbqrec_cli.tokenizers.methods.bbqrec.modality import Modality
from bbqrec_cli.tokenizers.methods.bbqrec.network import BBQRecQuantizer
from bbqrec_cli.tokenizers.options.bbqrec import BBQRecConfig


def keep_encoder(model: BBQRecQuantizer, features: Mapping[str, Feature]) -> ItemEncoder:
    """What `restore_encoder` and `both_parts` need of a trained network."""
    modules = {
        f"{name}.{part}": getattr(model.modality(name), part)
        for name in model.modalities
        for part in kept(model.config)
    }
    return item_encoder(features, tuple(model.modalities), modules)


def kept(config: BBQRecConfig) -> tuple[str, ...]:
    """Parts of a modality that make z and, for those who study it, z̄; the decoder serves training only."""
    return ("aligned", "norm", "specific") if config.mim else ("aligned", "norm")


def restore_encoder(config: BBQRecConfig, codes: Codes, encoder: ItemEncoder, device: torch.device) -> Encode:
    """See `ContentTokenizer.restore`. The ID is learnt per item, so it is absent in all that come later."""
    modalities = {name: _modality(config, name, encoder).to(device) for name in encoder.inputs}
    assert codes.codebooks is not None  # they are where the encoder is
    quantizer = residual_quantizer(codes.codebooks, signals=len(codes.modalities), device=device)

    @torch.no_grad()
    def encode(features: Mapping[str, Feature]) -> Encoded:
        items = len(next(iter(features.values())).present)
        latents = torch.zeros(items, len(codes.modalities), config.dim, device=device)
        present = np.zeros((items, len(codes.modalities)), dtype=bool)
        for name, modality in modalities.items():
            signal, feature = codes.modalities.index(name), features[name]
            present[:, signal] = feature.present
            x = torch.from_numpy(scale_feature(feature, name, encoder)[feature.present]).to(device)
            latents[torch.from_numpy(feature.present).to(device), signal] = modality.encode(x)
        return quantised(quantizer, latents, present)

    return encode


@torch.no_grad()
def both_parts(
    config: BBQRecConfig, encoder: ItemEncoder, features: Mapping[str, Feature]
) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Modality -> z and z̄ (eq. 2) of the items that have it, (n, D) each; z̄ is None in the variant ¬MIM."""
    found = {}
    for name in encoder.inputs:
        modality, feature = _modality(config, name, encoder), features[name]
        x = torch.from_numpy(scale_feature(feature, name, encoder)[feature.present])
        specific = modality.encode_specific(x)
        found[name] = modality.encode(x).numpy(), None if specific is None else specific.numpy()
    return found


def _modality(config: BBQRecConfig, name: str, encoder: ItemEncoder) -> Modality:
    bare = Feature(
        values=np.zeros((1, encoder.inputs[name]["width"]), dtype=np.float32), present=np.ones(1, dtype=bool)
    )
    made = Modality(bare, dim=config.dim, hidden=config.hidden, specific=config.mim, unit=not config.plain_equations)
    for part in kept(config):
        load_weights(getattr(made, part), f"{name}.{part}", encoder)
    return made.eval()
