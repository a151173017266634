"""What several tests make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bbqrec_cli.models.base import Recommender
from bbqrec_cli.models.layers import CausalEncoder, Layer
from bbqrec_cli.models.registry import build_model, model_config, model_settings
from bbqrec_cli.records import Codes, Feature, ItemData, Vocabulary


def new_model(
    name: str,
    items: int = 12,
    codes: Codes | None = None,
    features: Mapping[str, Feature] | None = None,
    **options: Any,
) -> Any:
    """A model with fresh weights over items i0, i1, …; options: those that are not to be its defaults."""
    data = ItemData(ids=Vocabulary(f"i{item}" for item in range(items)), codes=codes, features=features or {})
    model: Recommender = build_model(name, model_settings(model_config(name, options)), data)
    return model


def new_generator(codes: Codes, **options: Any) -> Any:
    """BBQRec's generator."""
    return new_model("bbqrec", len(codes.codes), codes, **options)


def torchs_layer(layer: Layer) -> nn.TransformerEncoderLayer:
    """`nn.TransformerEncoderLayer` with the weights of ours, without dropout."""
    width, inner = layer.feed_forward[0].in_features, layer.feed_forward[0].out_features
    made = nn.TransformerEncoderLayer(
        width, layer.attention.heads, dim_feedforward=inner, dropout=0.0, activation="gelu", batch_first=True,
        norm_first=not layer.post_norm,
    )  # fmt: skip
    ours, theirs = layer.state_dict(), {}
    for kind in ("weight", "bias"):
        both = [ours[f"attention.query.{kind}"], ours[f"attention.key_value.{kind}"]]
        theirs[f"self_attn.in_proj_{kind}"] = torch.cat(both)
        theirs[f"self_attn.out_proj.{kind}"] = ours[f"attention.out.{kind}"]
        for name, own in (("linear1", "feed_forward.0"), ("linear2", "feed_forward.2")):
            theirs[f"{name}.{kind}"] = ours[f"{own}.{kind}"]
        for number in (0, 1):
            theirs[f"norm{number + 1}.{kind}"] = ours[f"norms.{number}.{kind}"]
    made.load_state_dict(theirs)
    return made


def torchs_states(encoder: CausalEncoder, x: torch.Tensor) -> torch.Tensor:
    """The encoder's states by torch's own layers. x (B, T, D) -> (B, T, D)."""
    x = x + encoder.positions.weight[: x.shape[1]]
    x = encoder.norm(x) if encoder.post_norm else x
    mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
    for layer in encoder.layers:
        x = torchs_layer(layer)(x, src_mask=mask, is_causal=True)
    return x if encoder.post_norm else encoder.norm(x)
