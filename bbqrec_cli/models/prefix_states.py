"""What T5's decoder makes of a prefix before it looks at a history: the same for every user.

Its first layer attends to the prefix's own tokens first, and none of these knows the user. So the result of that
attention, and the first queries into the history, can be kept.

n prefixes of a level, D width, H heads, E width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from bbqrec_cli.decoding.trie import Trie
from bbqrec_cli.models.code_decoder import CodeDecoder, Decoding

LARGEST = 1 << 24
"""Elements that are kept at most: 64 MiB in float32."""
Kept = list[tuple[Tensor, Tensor]]
"""Per level, of all its prefixes: the states (n, D) after the first self-attention, and the queries (n, H · E)."""


class Prefixed(Protocol):
    """What is asked of a generator."""

    trie: Trie
    signals: int
    decoder: CodeDecoder

    def embed(self, codes: Tensor, levels: Tensor) -> Tensor: ...
    def token(self, level: Tensor, embedded: Tensor, last: Tensor) -> Tensor: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...


class PrefixStates:
    """They are made once about as many prefixes were decoded as there are, and again when a weight has changed.

    That is known from the weights' versions. An optimiser that steps in one kernel (`fused`) does not raise these: a
    model forgets its prefixes when it is put into training or evaluation.
    """

    def __init__(self) -> None:
        self._weights: tuple[object, ...] = ()
        self._decoded, self._kept = 0, list[tuple[Tensor, Tensor]]()

    def of(self, model: Prefixed, decoding: int) -> Kept | None:
        """Those of a model; None: they need more memory than they may, or time than they save, or know the user.

        decoding: about how many prefixes are decoded next.
        """
        layer, weights = model.decoder.stack()[0], list(model.parameters())
        prefixes = 1 + sum(len(model.trie.codes(level)) for level in range(model.trie.levels - 1))
        elements = prefixes * (layer.cross.out.out_features + layer.cross.out.in_features)
        # The version of an inference tensor cannot be known.
        if not layer.own_first or elements > LARGEST or any(each.is_inference() for each in weights):
            return None
        device = weights[0].device.type
        now = (torch.is_autocast_enabled(device), *((each.data_ptr(), each._version) for each in weights))
        if now != self._weights:
            self._weights, self._decoded, self._kept = now, 0, []
        self._decoded += decoding
        if not self._kept and self._decoded >= prefixes:
            self._kept = prefix_states(model)
        return self._kept or None


@torch.no_grad()
def prefix_states(model: Prefixed) -> Kept:
    """Those of all prefixes of the catalogue."""
    trie, found, start = model.trie, [], model.trie.order.new_zeros(1)
    nobody = next(model.parameters()).new_zeros(0, 1, model.decoder.stack()[0].cross.query.in_features)
    decoding = Decoding(model.decoder, nobody, nobody.new_ones(0, 1, dtype=torch.bool))
    for level in range(trie.levels):
        codes = trie.codes(level - 1) if level else start.new_zeros(1, model.signals)
        children = trie.child_bounds(level - 1).diff() if level else start + 1
        parent = torch.arange(len(children), device=start.device).repeat_interleave(children)
        x = newest_tokens(model, level, codes, nobody.new_zeros(1))
        found.append(decoding.before_history(level, parent, x))
    return found


def newest_tokens(model: Prefixed, level: int, codes: Tensor, last: Tensor) -> Tensor:
    """The decoder's inputs (n, D) at a level. codes (n, M): of the level before, any at level 0; last: as `last_states`
    gives it for each prefix's user, (n, D) or what broadcasts to it."""
    now = torch.full_like(codes[:, 0], level)
    return model.token(now, model.embed(codes, (now - 1).clamp(min=0)), last)
