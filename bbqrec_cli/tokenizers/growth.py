"""Codes for items that come later, with every old code as it is.

n new items, I old ones, L levels, M signals, N codes, D width of a code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from bbqrec_cli.data.splits import leave_last_out
from bbqrec_cli.records import Codes, Feature, Tokens
from bbqrec_cli.tokenizers.base import Encode, Encoded, Tokenized
from bbqrec_cli.tokenizers.encoding import quantised, residual_quantizer

CELLS = 1 << 26
"""Similarities that are held at once."""


def encode_new(
    encode: Encode, blocks: Iterable[Mapping[str, Feature]], old: Tokens, *, neighbours: int, device: torch.device
) -> Encoded:
    """What all new items get before any collision is resolved.

    Args:
        encode: the tokenizer's.
        blocks: the new items' features, some at a time.
        neighbours: of how many similar old items an ID signal is the mean; 0: it stays absent.
    """
    parts = []
    for features in blocks:
        part = encode(features)
        if neighbours and "id" in old.codes.modalities:
            part = with_id(part, old, neighbours=neighbours, device=device)
        parts.append(part)
    names = [f.name for f in dataclasses.fields(Encoded)]
    return Encoded(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def with_id(new: Encoded, old: Tokens, *, neighbours: int, device: torch.device) -> Encoded:
    """The ID signal of new items as the mean of those of the old items that are most like them in content.

    Like: the sum over the content signals that both have of the cosine of their vectors. Only old items with a training
    interaction count, since the ID of another one says nothing. A new item without content has no ID signal.
    """
    codes, signal = old.codes, old.codes.modalities.index("id")
    assert codes.codebooks is not None
    assert codes.item_vectors is not None
    known = np.zeros(len(codes.codes), dtype=bool)
    known[leave_last_out(old.catalogue.sequences).train.items] = True
    vectors = torch.from_numpy(codes.item_vectors[known]).to(device).unflatten(1, (len(codes.modalities), -1))
    latents = torch.from_numpy(new.latents).to(device)
    content = [number for number in range(latents.shape[1]) if number != signal]
    having = new.present[:, content].any(axis=1)
    if not having.any() or not known.any():
        return new
    rows = torch.from_numpy(having).to(device)
    latents[rows, signal] = mean_of_nearest(
        latents[rows][:, content], vectors[:, content], vectors[:, signal], neighbours=neighbours
    )
    present = new.present.copy()
    present[:, signal] = having
    books = residual_quantizer(codes.codebooks, signals=latents.shape[1], device=device)
    return quantised(books, latents, present)


def mean_of_nearest(queries: Tensor, keys: Tensor, values: Tensor, *, neighbours: int) -> Tensor:
    """The direction of the mean value of the nearest keys, as long as the values are in the mean.

    queries (n, S, D) and keys (K, S, D) of S signals, zeros where one is absent; values (K, D) -> (n, D).
    """
    queries, keys = normalize(queries, dim=2).flatten(1), normalize(keys, dim=2).flatten(1)
    length, found = values.norm(dim=1).mean(), []
    for part in queries.split(max(1, CELLS // len(keys))):
        nearest = (part @ keys.T).topk(min(neighbours, len(keys)), dim=1).indices
        found.append(normalize(values[nearest].mean(1), dim=1) * length)
    return torch.cat(found)


def grown_codes(old: Codes, new: Encoded) -> Tokenized:
    """Old and new items' codes in one, ready for `resolve(…, frozen=I)`. A level that counts (suffix) starts at 0."""
    values = new.codes
    if old.levels > values.shape[1]:
        values = np.concatenate([values, np.zeros_like(values[:, :1])], axis=1)
    old_present = np.ones(old.codes[:, 0].shape, dtype=bool) if old.present is None else old.present
    present = np.concatenate([old_present, new.present])
    vectors = None if old.item_vectors is None else np.concatenate([old.item_vectors, new.vectors])
    codes = dataclasses.replace(old, codes=np.concatenate([old.codes, values]), item_vectors=vectors, present=present)
    return Tokenized(codes=codes, history=[], present=present, latents=new.latents)
