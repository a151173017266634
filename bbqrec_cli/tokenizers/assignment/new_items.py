"""Codes for items without interactions: new items, while old codes stay, and cold items of the fit.

n new items, I old ones, L levels, M signals, N codes, S content signals, D width of a code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from bbqrec_cli.data.leakage import training_digests
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import DataError
from bbqrec_cli.hdf5 import describe
from bbqrec_cli.records import Codes, ItemEncoder, Sequences, Tokens
from bbqrec_cli.tokenizers.assignment.encoding import quantised, residual_quantizer
from bbqrec_cli.tokenizers.base import Encode, Encoded, Tokenized

FIT_ITEMS, FIT_INTERACTIONS = "fit.items", "fit.interactions"
"""Names in the encoder of a grown file."""
CELLS = 1 << 26
"""Similarities held in memory at once."""


def fit_of(old: Tokens) -> dict[str, np.ndarray]:
    """What a tokenizer was trained on: `FIT_ITEMS` (n,) int64, rows of the `warm_items`, and
    `FIT_INTERACTIONS`, their `training_digests`.

    A grown file keeps them in its encoder, since its own interactions are those of the new items' file.
    """
    kept = {} if old.encoder is None else old.encoder.weights
    if FIT_ITEMS in kept:
        return {name: kept[name] for name in (FIT_ITEMS, FIT_INTERACTIONS)}
    warm = warm_items(split_of(old.catalogue.sequences).train)
    return {FIT_ITEMS: warm, FIT_INTERACTIONS: training_digests(old.catalogue)}


def warm_items(train: Sequences) -> np.ndarray:
    """Rows (n,) int64 of the items whose ID signals are learnt: a single interaction of a user trains nothing."""
    return np.unique(train.items[np.repeat(train.lengths >= 2, train.lengths)]).astype(np.int64)


def encode_new(encode: Encode, codes: Codes, warm: np.ndarray, *, neighbours: int, device: torch.device) -> Encode:
    """The function that encodes new items.

    Args:
        encode: the tokenizer's encoding, without ID signals.
        warm: rows of the items whose ID signals were learnt when the tokenizer was fitted.
        neighbours: number of similar ones among them whose mean is a new item's ID signal; 0: it stays absent.
    """
    with_id = id_of_neighbours(codes, warm, neighbours=neighbours, device=device) if neighbours else None
    return encode if with_id is None else lambda features: with_id(encode(features))


def id_of_neighbours(
    codes: Codes, warm: np.ndarray, *, neighbours: int, device: torch.device
) -> Callable[[Encoded], Encoded] | None:
    """A function that adds ID signals to items: the mean over the warm items with the most similar content.

    Similarity is the cosine of the new item's z with the old item's v, summed over the content signals that both have.
    Only the rows `warm` count, since others have no learnt ID. An item without content
    gets no ID signal. None if `codes` have no ID signal or no item is warm.
    """
    if "id" not in codes.modalities or not len(warm):
        return None
    assert codes.codebooks is not None  # files with an encoder have them
    assert codes.item_vectors is not None
    signal, signals = codes.modalities.index("id"), len(codes.modalities)
    content = [number for number in range(signals) if number != signal]
    vectors = torch.from_numpy(codes.item_vectors[warm]).to(device).unflatten(1, (signals, -1))
    keys, values = normalize(vectors[:, content], dim=2).flatten(1), vectors[:, signal]
    quantizer = residual_quantizer(codes.codebooks, signals=signals, device=device)

    def with_id(new: Encoded) -> Encoded:
        having, present = new.present[:, content].any(axis=1), new.present.copy()
        latents, rows = torch.from_numpy(new.latents).to(device, copy=True), torch.from_numpy(having).to(device)
        queries = normalize(latents[rows][:, content], dim=2).flatten(1)
        latents[rows, signal] = mean_of_nearest(queries, keys, values, neighbours=neighbours)
        present[:, signal] = having
        return quantised(quantizer, latents, present)

    return with_id


def with_id_signals_of_cold_items(
    made: Tokenized, warm: np.ndarray, *, neighbours: int, device: torch.device
) -> Tokenized:
    """Replace the ID signal of cold items, which is still the random initialisation, by that of new items.

    An item without any content keeps its own: it has no other signal.

    Args:
        warm: rows of the items with training interactions.
        neighbours: as for `encode_new`.
    """
    codes, present, latents = made.codes, made.codes.present, made.latents
    if "id" not in codes.modalities or present is None or latents is None:
        return made
    assert codes.codebooks is not None  # codes with latents have them
    assert codes.item_vectors is not None
    signal = codes.modalities.index("id")
    rows = np.setdiff1d(np.flatnonzero(np.delete(present, signal, axis=1).any(axis=1)), warm)
    if not len(rows):
        return made
    found = Encoded(
        codes=codes.codes[rows], latents=latents[rows], vectors=codes.item_vectors[rows], present=present[rows]
    )
    found.latents[:, signal], found.present[:, signal] = 0, False
    with_id = id_of_neighbours(codes, warm, neighbours=neighbours, device=device) if neighbours else None
    if with_id is None:
        quantizer = residual_quantizer(codes.codebooks, signals=len(codes.modalities), device=device)
        found = quantised(quantizer, torch.from_numpy(found.latents).to(device), found.present)
    else:
        found = with_id(found)
    pairs = ((codes.codes, found.codes), (codes.item_vectors, found.vectors), (present, found.present))
    ids, vectors, there = (_replaced(old, rows, new) for old, new in pairs)
    return dataclasses.replace(
        made, codes=dataclasses.replace(codes, codes=ids, item_vectors=vectors, present=there),
        latents=_replaced(latents, rows, found.latents),
    )  # fmt: skip


def _replaced(values: np.ndarray, rows: np.ndarray, new: np.ndarray) -> np.ndarray:
    made = values.copy()
    made[rows] = new
    return made


def mean_of_nearest(queries: Tensor, keys: Tensor, values: Tensor, *, neighbours: int) -> Tensor:
    """The mean value of the nearest keys by inner product, scaled to the mean length of all values.

    queries (n, S·D), keys (K, S·D), values (K, D) -> (n, D).
    """
    length, found = values.norm(dim=1).mean(), [values[:0]]
    for part in queries.split(max(1, CELLS // len(keys))):
        nearest = (part @ keys.T).topk(min(neighbours, len(keys)), dim=1).indices
        found.append(normalize(values[nearest].mean(1), dim=1) * length)
    return torch.cat(found)


def check_inputs(path: Path, encoder: ItemEncoder, tokens: Path) -> None:
    """Check that the features file `path` has the inputs of an encoder; tokens: the encoder's file, for the message.

    Raises:
        DataError: a feature is missing, or was made differently.
    """
    said = describe(path)
    there = said["attributes"].get("features", {})
    for name, wanted in encoder.inputs.items():
        if f"features/{name}/values" not in said["datasets"]:
            raise DataError(
                f"{path}: has no feature {name}, from which the codes of {tokens} were made; it has "
                f"{', '.join(there) or 'no features'}",
                f"bbqrec embed --modalities {','.join(encoder.inputs)}",
            )
        width = said["datasets"][f"features/{name}/values"]["shape"][1]
        found = {"encoder": ""} | there.get(name, {}) | {"width": width}
        for key in ("encoder", "width"):  # "normalized" is what the vectors happen to be
            if found[key] != wanted[key]:
                raise DataError(
                    f"{path}: {key} of {name} is {found[key]!r}; the codes of {tokens} were made with {wanted[key]!r}",
                    "bbqrec embed with the model and the options of the old items",
                )
