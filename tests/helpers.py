"""What several tests make."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from bbqrec_cli.models.base import Recommender
from bbqrec_cli.models.layers import CausalEncoder, Layer
from bbqrec_cli.models.registry import build_model, model_config, model_settings
from bbqrec_cli.models.session_graph import SessionGraphEncoder
from bbqrec_cli.records import Codes, Feature, ItemData, Vocabulary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def figures(monkeypatch: pytest.MonkeyPatch, plots: ModuleType, make: Callable[[], object]) -> list[Figure]:
    """The wide and the narrow figure of what `make` plots with the module's `plot`."""
    from matplotlib.figure import Figure

    found = []

    def plot(draw: Callable[[Figure, bool], None], **_: Any) -> str:
        for narrow in (False, True):
            found.append(Figure())
            draw(found[-1], narrow)
        return ""

    monkeypatch.setattr(plots, "plot", plot)
    make()
    return found
