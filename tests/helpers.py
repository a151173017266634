"""What several tests make."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bbqrec_cli.models.base import Recommender
from bbqrec_cli.models.layers import Layer
from bbqrec_cli.models.registry import build_model, model_config, model_settings
from bbqrec_cli.models.session_graph import SessionGraphEncoder
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


def torchs_layer(layer: Layer) -> nn.TransformerEncoderLayer:
    """`nn.TransformerEncoderLayer` with the weights of ours."""
    inner, width = layer.feed_forward[0].weight.shape
    made = nn.TransformerEncoderLayer(
        width, layer.attention.heads, dim_feedforward=inner, dropout=0.0, activation="gelu", batch_first=True,
        norm_first=not layer.post,
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


def one_session(made: SessionGraphEncoder, table: torch.Tensor, session: list[int]) -> torch.Tensor:
    """SR-GNN (Wu et al. 2019, eq. 1–7) of one session as a graph of its distinct items. table (I, V) -> (V,)."""
    nodes, width = sorted(set(session)), table.shape[1]
    place = {item: number for number, item in enumerate(nodes)}
    edges = torch.zeros(len(nodes), len(nodes))
    for before, after in itertools.pairwise(session):
        edges[place[before], place[after]] += 1
    state = table[nodes]
    cell = torch.nn.GRUCell(2 * width, width)
    cell.weight_ih, cell.bias_ih = made.gates_of_message.weight, made.gates_of_message.bias
    cell.weight_hh, cell.bias_hh = made.gates_of_node.weight, made.gates_of_node.bias
    for _ in range(made.steps):
        messages = torch.zeros(len(nodes), 2 * width)
        for node in range(len(nodes)):
            for other in range(len(nodes)):
                if edges[other, node]:
                    share = edges[other, node] / edges[:, node].sum()
                    messages[node, :width] += share * made.incoming(state[other])
                if edges[node, other]:
                    share = edges[node, other] / edges[node].sum()
                    messages[node, width:] += share * made.outgoing(state[other])
        state = cell(messages, state)
    last, whole = state[place[session[-1]]], torch.zeros(width)
    for item in session:
        own = state[place[item]]
        whole += made.energy(torch.sigmoid(made.query(last) + made.key(own))) * own
    return made.out(torch.cat([whole, last]))
