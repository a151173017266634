"""VQ-Rec: items are known by their codes alone.

B users, T items of history, P positions with a target, I items, G groups of codes (levels times signals), N codes,
D width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.grouping import group_codes
from bbqrec_cli.models.base import ELSEWHERE, Phase, Recommender, Wanted, top_blocks
from bbqrec_cli.models.layers import CausalEncoder, embedding
from bbqrec_cli.models.softmax import catalogue_cross_entropy
from bbqrec_cli.records import ItemData, Sequences

REPLACED = 0.75
"""Share of an item's codes that are drawn anew for a semi-synthetic negative (the authors' `fake_idx_ratio`)."""
INNER = 256
"""Width of the feed-forward layers."""


class VQRec(Recommender):
    """Hou et al. (WWW 2023): the vector of an item is the mean of its codes' embeddings, one table per group of codes.

    The histories go through a causal post-norm transformer; scores are cosines divided by `temperature`. Items with
    equal codes have equal scores.

    Args:
        temperature: of the cosines, in both losses.
    """

    needs = frozenset({"codes"})
    rows: Tensor
    starts: Tensor
    code: Tensor
    bearer: Tensor

    def __init__(
        self,
        *,
        data: ItemData,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        temperature: float,
        history: int,
    ) -> None:
        super().__init__()
        self.temperature, self.history = temperature, history
        assert data.codes is not None  # `needs` has them
        codes, self.size = torch.from_numpy(data.codes.codes.astype("int64")).flatten(1), data.codes.codebook_size
        # Row (group · N + code) of the table.
        self.register_buffer("starts", torch.arange(codes.shape[1]) * self.size, persistent=False)
        self.register_buffer("rows", codes + self.starts, persistent=False)
        # What number the item's codes have, and an item of each number.
        code, counts = group_codes(data.codes.codes)
        bearer = np.zeros(len(counts), dtype=np.int64)
        bearer[code] = np.arange(len(code))
        self.register_buffer("code", torch.from_numpy(code), persistent=False)
        self.register_buffer("bearer", torch.from_numpy(bearer), persistent=False)
        self.table = embedding(codes.shape[1] * self.size, width)
        self.encoder = CausalEncoder(
            width, layers=layers, heads=heads, dropout=dropout, history=history, inner=INNER, post_norm=True
        )

    def phases(self, train: Sequences, fit: Any, *, seed: int) -> tuple[Phase, ...]:
        """Contrastive pre-training, unless it has no epochs, then fine-tuning, on the same windows."""
        (tune,) = super().phases(train, fit, seed=seed)
        if not fit.pretrain_epochs:
            return (tune,)
        first = Phase(
            name="pretrain", epochs=fit.pretrain_epochs, batches=tune.batches, loss=self.contrast, couples=True
        )
        return first, tune

    def pool(self, rows: Tensor) -> Tensor:
        """Vectors of items, (n, D), from the table's rows of their codes (n, G)."""
        return embedding_bag(rows, self.table.weight, mode="mean")

    def states(self, batch: Batch, vectors: Tensor) -> Tensor:
        """States of the histories (B, T, D), of unit length divided by the temperature. vectors: (I, D)."""
        return normalize(self.encoder(vectors[batch.items.clamp(min=0)]).float(), dim=2) / self.temperature

    def loss(self, batch: Batch) -> Tensor:
        """Fine-tuning: mean cross-entropy of the targets, over all items."""
        asked, vectors = batch.targets != PAD, self.pool(self.rows)
        states = self.states(batch, vectors)[asked]
        return catalogue_cross_entropy(states, normalize(vectors, dim=1), batch.targets[asked]).mean()

    def contrast(self, batch: Batch) -> Tensor:
        """Pre-training: mean of `contrastive_losses`, with semi-synthetic negatives drawn for the batch."""
        asked = batch.targets != PAD
        items, place = batch.items.clamp(min=0).unique(return_inverse=True)
        states = self.states(Batch(place, batch.targets), self.pool(self.rows[items]))[asked]
        targets, users = batch.targets[asked], asked.nonzero()[:, 0]
        return self.contrastive_losses(states, targets, users, self.semi_synthetic(self.rows[targets])).mean()

    def semi_synthetic(self, rows: Tensor) -> Tensor:
        """Rows of the codes of items (P, G), each drawn anew in its group with probability `REPLACED`."""
        drawn = torch.randint_like(rows, self.size) + self.starts
        return torch.where(torch.rand(rows.shape, device=rows.device) < REPLACED, drawn, rows)

    def contrastive_losses(self, states: Tensor, targets: Tensor, users: Tensor, synthetic: Tensor) -> Tensor:
        """-log softmax of each target among those of the batch's other users and its own semi-synthetic negative.

        A target that stands at several positions is a negative of none of them. (The authors' code leaves a logit of 0
        for it.) Nor are a user's own items, of which a batch of prefixes, the authors', hardly has any.

        Args:
            states: (P, D), as `states` makes them.
            targets, users: (P,) items, and rows of the batch.
            synthetic: (P, G) rows of the negatives' codes.

        Returns:
            (P,) float32.
        """
        vectors = normalize(self.pool(self.rows[targets]), dim=1)
        same = (targets.unsqueeze(1) == targets) | (users.unsqueeze(1) == users)
        logits = (states @ vectors.T).float().masked_fill(same.fill_diagonal_(False), -torch.inf)
        wrong = (states * normalize(self.pool(synthetic), dim=1)).sum(1, keepdim=True)
        return torch.cat([logits, wrong], dim=1).logsumexp(1) - logits.diagonal()

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """Scores all items, in float32; see `Recommender.recommend`.

        Those of equal codes have the score of one product: two of equal vectors may differ in the last bit.
        """
        vectors = self.pool(self.rows)
        last = batch.last(self.states(batch, vectors))
        found = []
        with torch.autocast(last.device.type, enabled=False):
            items = normalize(vectors[self.bearer], dim=1)
            for users in torch.arange(len(last), device=last.device).split(max(1, ELSEWHERE // len(items))):
                scores = last[users] @ items.T
                own = wanted if wanted.exclude is None else replace(wanted, exclude=wanted.exclude[users])
                found.append(top_blocks(lambda a, b: scores[:, self.code[a:b]], scores, len(self.code), own))  # noqa: B023
        best, values = zip(*found, strict=True)
        return torch.cat(best), torch.cat(values)
