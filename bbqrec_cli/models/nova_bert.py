"""NOVA-BERT: BERT4Rec with side information that decides where to look, and never what is seen there.

B users, T items of history, M modalities of the items' features, S = M + 2 sources (the items, their positions and the
modalities), D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.models.bert4rec import BERT4Rec
from bbqrec_cli.models.item_features import ItemFeatures
from bbqrec_cli.models.layers import Attention, Dropout, Layer, embedding
from bbqrec_cli.records import ItemData


class NovaBERT(BERT4Rec):
    """Liu et al. (AAAI 2021), with the items' features as side information.

    Args:
        fusion: 'add', 'concat' or 'gate'.
        features: modalities, or 'all'.
    """

    def __init__(
        self, *, data: ItemData, width: int, layers: int, heads: int, dropout: float, history: int, fusion: str,
        features: Sequence[str],
    ) -> None:  # fmt: skip
        encoder = NonInvasiveEncoder(
            ItemFeatures(data.features, features, width=width), width, layers=layers, heads=heads, dropout=dropout,
            length=history + 1, fusion=fusion,
        )  # fmt: skip
        super().__init__(
            data=data, width=width, layers=layers, heads=heads, dropout=dropout, history=history, encoder=encoder
        )
        self.reads = encoder.features.names

    def states(self, batch: Batch) -> Tensor:
        """States of the items and masks, (B, T, D). A masked item's features are hidden as well."""
        return self.encoder(self.inputs(batch.items), batch.mask, batch.items)


class NonInvasiveEncoder(nn.Module):
    """BERT's encoder with the attention of NOVA; every layer gets the same side information (section "NOVA-BERT").

    Positions are side information too, so that the states are made of ID embeddings alone. The paper does not say how
    vectors of several origins meet; here each source has a norm of its own, as the embeddings have in BERT.
    """

    def __init__(
        self, features: ItemFeatures, width: int, *, layers: int, heads: int, dropout: float, length: int, fusion: str
    ) -> None:
        super().__init__()
        sources = len(features.names) + 2
        self.features, self.positions = features, embedding(length, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(sources))
        self.dropout = Dropout(dropout)
        attention = [NonInvasiveAttention(width, sources, fusion, heads=heads, dropout=dropout) for _ in range(layers)]
        self.layers = nn.ModuleList(
            Layer(width, dropout=dropout, inner=4 * width, attention=each, post_norm=True) for each in attention
        )

    def forward(self, x: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        """x (B, T, D) ID embeddings; mask (B, T) bool, True where there is an item; rows (B, T) -> states (B, T, D)."""
        sources = x, self.positions.weight[: x.shape[1]].expand_as(x), *self.features.vectors(rows)
        x, *side = (self.dropout(norm(each)) for norm, each in zip(self.norms, sources, strict=True))
        for layer in self.layers:
            x = layer(x, mask.unsqueeze(1), side=torch.stack(side))
        return x


class NonInvasiveAttention(Attention):
    """Attention whose queries and keys come of states fused with side information, its values of the states alone."""

    def __init__(self, width: int, sources: int, fusion: str, *, heads: int, dropout: float) -> None:
        super().__init__(width, heads=heads, dropout=dropout)
        self.fuse = Fusion(width, sources, fusion)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor, **extra: Tensor) -> Tensor:
        """As `Attention.forward`, of x itself; extra: side (S-1, B, T, D)."""
        fused = self.fuse(torch.cat([x.unsqueeze(0), extra["side"]]))
        weights, biases = self.key_value.weight.chunk(2), self.key_value.bias.chunk(2)
        both = [linear(each, *of) for each, of in zip((fused, x), zip(weights, biases, strict=True), strict=True)]
        key_value = torch.stack(both).unflatten(3, (self.heads, -1)).transpose(2, 3)
        return self.attend(fused, key_value, mask)


class Fusion(nn.Module):
    """One vector of several (section "Fusion operations"): their sum, a linear layer of all of them side by side, or
    their mean with softmax weights that a learnt vector gives to each."""

    def __init__(self, width: int, sources: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "concat":
            self.layer = nn.Linear(sources * width, width)
        elif kind == "gate":
            self.layer = nn.Linear(width, 1, bias=False)

    def forward(self, sources: Tensor) -> Tensor:
        """(S, …, D) -> (…, D)."""
        if self.kind == "add":
            return sources.sum(0)
        if self.kind == "concat":
            return self.layer(torch.cat(tuple(sources), dim=-1))
        return (self.layer(sources).softmax(0) * sources).sum(0)
