"""What several tests make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bbqrec_cli.models.base import Recommender
from bbqrec_cli.models.layers import Layer
from bbqrec_cli.models.registry import build_model, model_config, model_settings
from bbqrec_cli.records import Codes, Feature, ItemData, Vocabulary


def new_model(
    name: str, items: int = 12, codes: Codes | None = None, given: Mapping[str, Feature] | None = None, **options: Any
) -> Any:
    """A model with fresh weights over items i0, i1, …; given: their features; options: those that are not defaults."""
    data = ItemData(ids=Vocabulary(f"i{item}" for item in range(items)), codes=codes, features=given or {})
    model: Recommender = build_model(name, model_settings(model_config(name, options)), data)
    return model


def new_generator(codes: Codes, **options: Any) -> Any:
    """BBQRec's generator."""
    return new_model("bbqrec", len(codes.codes), codes, **options)


def torchs_layer(layer: Layer, *, norm_first: bool) -> nn.TransformerEncoderLayer:
    """`nn.TransformerEncoderLayer` with the weights of ours."""
    inner, width = layer.feed_forward[0].weight.shape
    made = nn.TransformerEncoderLayer(
        width, layer.attention.heads, dim_feedforward=inner, dropout=0.0, activation="gelu", batch_first=True,
        norm_first=norm_first,
    )  # fmt: skip
    ours, attention = layer.state_dict(), {}
    for kind in ("weight", "bias"):
        both = [ours[f"attention.query.{kind}"], ours[f"attention.key_value.{kind}"]]
        attention[f"self_attn.in_proj_{kind}"] = torch.cat(both)
        attention[f"self_attn.out_proj.{kind}"] = ours[f"attention.out.{kind}"]
        for name, own in (("linear1", "feed_forward.0"), ("linear2", "feed_forward.2")):
            attention[f"{name}.{kind}"] = ours[f"{own}.{kind}"]
        for number in (0, 1):
            attention[f"norm{number + 1}.{kind}"] = ours[f"norms.{number}.{kind}"]
    made.load_state_dict(attention)
    return made
