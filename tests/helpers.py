"""What several tests make."""

from __future__ import annotations

import dataclasses
import io
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from torch import nn

from bbqrec_cli import hdf5
from bbqrec_cli.models.base import Recommender
from bbqrec_cli.models.layers import CausalEncoder, Layer
from bbqrec_cli.models.registry import build_model, model_config, model_settings
from bbqrec_cli.models.session_graph import SessionGraphEncoder
from bbqrec_cli.records import Codes, Feature, Features, ItemData, Vocabulary
from bbqrec_cli.training import trainer

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


def spread(model: nn.Module, std: float) -> None:
    """Draw all parameters anew: the start is too small to tell right from wrong."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * std)


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


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def changed(features: Features, path: Path, name: str, **changes: Any) -> Path:
    """A file of the features, one of them changed."""
    feature = dataclasses.replace(features.features[name], **changes)
    hdf5.write_features(path, dataclasses.replace(features, features=features.features | {name: feature}), config={})
    return path


class Listener:
    """A progress that remembers: notes, warnings, the steps of its bars and the figures beside them.

    Args:
        stop_after: steps after which the next one is interrupted, as by Ctrl-C.
    """

    def __init__(self, stop_after: int | None = None) -> None:
        self.logged: list[str] = []
        self.details: list[str] = []
        self.warned: list[str] = []
        self.steps, self.shown = 0, list[dict[str, float | str]]()
        self.stop_after = stop_after

    def log(self, message: str) -> None:
        self.logged.append(message)

    def detail(self, message: str) -> None:
        self.details.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Listener]:
        yield self

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        if self.stop_after is not None and self.steps >= self.stop_after:
            raise KeyboardInterrupt
        self.steps += steps
        self.shown.append(figures)


@contextmanager
def interrupted_in(number: int, *, steps: int = 0, seconds: float = 0) -> Iterator[None]:
    """Training is interrupted in epoch `number` (from 0), after `steps` of it, as by Ctrl-C; each one before it takes
    `seconds` longer."""
    epoch, step = trainer._steps, trainer.step
    left = iter(range(steps))

    def last(*given: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return step(*given)

    def stop(task: Any, run: Any, at: int, *rest: Any) -> dict[str, float]:
        if at == number and not steps:
            raise KeyboardInterrupt
        if at == number:
            patch.setattr(trainer, "step", last)
        else:
            time.sleep(seconds)
        return epoch(task, run, at, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_steps", stop)
        yield


def stop_trial(number: int, patch: pytest.MonkeyPatch) -> list[Any]:
    """Interrupt the training `number` (from 1; 0: none) of a tuning as it begins; the list has those that did."""
    from bbqrec_cli.stages import train
    from bbqrec_cli.tuning import trial

    begun: list[Any] = []

    def learn(*rest: Any, **more: Any) -> Any:
        begun.append(rest)
        if len(begun) == number:
            raise KeyboardInterrupt
        return train.learn(*rest, **more)

    patch.setattr(trial, "learn", learn)
    return begun
