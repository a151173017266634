"""MISSRec: items from their text and pictures, interests found by clustering, an encoder-decoder over both.

Wang et al., "MISSRec: Pre-training and Transferring Multi-modal Interest-aware Sequence Representation for
Recommendation" (ACM MM 2023), after its public code (gimpong/MM23-MISSRec).

As there: a linear adapter per modality; interests are clusters of all adapted vectors, found anew before every epoch;
the encoder reads the set of interests that the history touches, the decoder the history (sum of modalities, item
embedding and position) and the encoder's states; one layer each, post-norm; the last position's state is the user. Both
attend in both directions, so that a sample is a prefix. Cosines with a temperature score the candidates; weights of a
user and a candidate mix its modalities. A term keeps the interests' states apart. Pre-training contrasts users with the
items that follow (within the batch) and with themselves after items were dropped; fine-tuning adds item embeddings.

Otherwise here:
- Pre-training reads the training part of the same data (there: five other domains), so it is off by default, and
  nothing is frozen afterwards (there: positions, encoder and decoder).
- Interests are density peaks (DPC-KNN), which the code has but replaces by mini-batch k-means; as many in
  pre-training as afterwards (there: one interest per 50 vectors in pre-training).
- Features are centred and scaled to a mean squared length of 1 (there: CLIP's, as they are).
- An item without a modality is described by the others (there: by the adapter's bias).
- The term on interests is a mean over users of their own interests (there: a sum over the batch, padding included,
  times the share that is none).
- Batches may hold an item twice: then it is no negative of itself. The softmax over all items has no padding item.
- A dropped item leaves the history, with its picture (there: it overwrites the text of the item before, and pictures
  stay). No words are dropped from texts, for which features files have no vectors.

B users, T items of history, M modalities, I items, C candidates, N interests, K interests of a user, D width.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from bbqrec_cli.data.batches import Batch, Batches, PrefixBatches
from bbqrec_cli.data.features import usable
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.base import Phase, Recommender, Wanted, top_blocks, top_products
from bbqrec_cli.models.density_peaks import density_peaks
from bbqrec_cli.models.item_features import ScaledFeature
from bbqrec_cli.models.layers import Attention, Dropout, NamedModules, embedding
from bbqrec_cli.models.softmax import catalogue_cross_entropy
from bbqrec_cli.records import Feature, ItemData, Sequences

NEIGHBOURS = 0.1
"""Share of all vectors among which a vector's density is measured."""
DROPPED = 0.2
"""Probability with which the contrast of sequences drops an item; never the first."""
SEQUENCE_WEIGHT = 1e-3
"""Weight of the contrast of sequences in pre-training."""
DIVERSITY_WEIGHT = 0.05
"""Weight of the term that keeps interests apart: 512 users per batch times the code's 1e-4, since ours is a mean."""


class Block(nn.Module):
    """Post-norm transformer layer: attention to each of its contexts in turn, then feed-forward."""

    def __init__(self, width: int, *, contexts: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(Attention(width, heads=heads, dropout=dropout) for _ in range(contexts))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(contexts + 1))
        self.feed_forward = nn.Sequential(nn.Linear(width, width), nn.GELU(), Dropout(dropout), nn.Linear(width, width))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, *contexts: tuple[Tensor, Tensor]) -> Tensor:
        """x (B, Q, D), contexts: (B, K, D) and where they may be looked at, (B, K) bool -> (B, Q, D).

        A context that may be looked at nowhere adds nothing.
        """
        for attention, norm, (context, mask) in zip(self.attentions, self.norms[:-1], contexts, strict=True):
            found = attention(x, context, mask.unsqueeze(1)) * mask.any(1)[:, None, None]
            x = norm(x + self.dropout(found))
        return self.norms[-1](x + self.dropout(self.feed_forward(x)))


class MISSRec(Recommender):
    """Wang et al. (ACM MM 2023). `modalities` are the features of the file that some item has.

    Args:
        temperature: of all softmaxes over cosines.
        interest_ratio: interests per feature vector.

    Raises:
        DataError: no item has a feature.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    per_item = ("table.weight",)
    of_catalogue: ClassVar[dict[str, int | None]] = {"centroids": None, "memberships": 1}
    centroids: Tensor
    memberships: Tensor
    present: Tensor

    def __init__(
        self, *, data: ItemData, width: int, layers: int, heads: int, dropout: float, history: int,
        temperature: float, interest_ratio: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.history, self.temperature = history, temperature
        there = usable({name: feature.present for name, feature in data.features.items()})
        read = {name: data.features[name] for name in there}
        if not read:
            raise DataError("missrec needs features, and no item has one", "bbqrec embed")
        self.modalities = there
        present = torch.stack([torch.from_numpy(feature.present) for feature in read.values()])
        self.register_buffer("present", present, persistent=False)
        self.inputs = NamedModules({n: ScaledFeature(f, mean_and_length, scaled) for n, f in read.items()})
        self.adapters = NamedModules({n: nn.Linear(f.values.shape[1], width) for n, f in read.items()})
        if len(read) > 1:
            self.fusion = nn.Parameter(torch.zeros(()))
        self.table, self.positions = embedding(len(data), width), embedding(history, width)
        self.norm, self.dropout = nn.LayerNorm(width), Dropout(dropout)
        shape: dict[str, Any] = {"heads": heads, "dropout": dropout}
        self.encoder = nn.ModuleList(Block(width, contexts=1, **shape) for _ in range(layers))
        self.decoder = nn.ModuleList(Block(width, contexts=2, **shape) for _ in range(layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.interests = math.ceil(interest_ratio * int(present.sum()))
        self.register_buffer("centroids", torch.zeros(self.interests, width))
        self.register_buffer("memberships", torch.zeros(present.shape, dtype=torch.int64))

    def batches(self, train: Sequences, *, batch_size: int, seed: int) -> Batches:
        """One sample per prefix: a state sees the whole history."""
        return PrefixBatches(train, batch_size=batch_size, seed=seed, history=self.history)

    def phases(self, train: Sequences, fit: Any, *, seed: int) -> tuple[Phase, ...]:
        """Pre-training without item embeddings, if there is one, and training with them."""
        batches = self.batches(train, batch_size=fit.batch_size, seed=seed)
        first = Phase(
            name="pre-train", epochs=fit.pretrain_epochs, batches=batches, loss=self.pretrain_loss,
            before_epoch=self.discover, couples=True,
        )  # fmt: skip
        then = Phase(name="train", epochs=fit.epochs, batches=batches, loss=self.loss, before_epoch=self.discover)
        return (first, then) if fit.pretrain_epochs else (then,)

    def refresh(self) -> None:
        """See `Recommender.refresh`."""
        self.discover()

    @torch.no_grad()
    def discover(self) -> None:
        """Cluster the adapted vectors of all items and modalities into interests."""
        vectors = self.contents()[self.present]
        neighbours = math.ceil(NEIGHBOURS * len(vectors))
        centroids, memberships = density_peaks(vectors, clusters=self.interests, neighbours=neighbours)
        self.centroids.copy_(centroids)
        self.memberships[self.present] = memberships

    def contents(self, rows: Tensor | None = None) -> Tensor:
        """Adapted features of the items `rows` (…), by default all: (M, …, D), zeros where an item has none."""
        found = []
        for name, present in zip(self.modalities, self.present, strict=True):
            values = self.inputs[name].get_buffer("values")
            chosen = (values, present) if rows is None else (values[rows], present[rows])
            found.append(self.adapters[name](chosen[0]) * chosen[1].unsqueeze(-1))
        return torch.stack(found)

    def interests_of(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The interests of histories (B, T), each once: their numbers (B, K) int64, and which are real, (B, K) bool."""
        rows, none = items.clamp(min=0), self.interests
        real = self.present[:, rows] & (items != PAD)
        numbers = self.memberships[:, rows].masked_fill(~real, none).movedim(0, 1).flatten(1).sort(dim=1).values
        again = nn.functional.pad(numbers[:, 1:] == numbers[:, :-1], (1, 0))
        numbers = numbers.masked_fill(again, none).sort(dim=1).values
        real = numbers < none
        longest = max(1, int(real.sum(1).max()))
        return numbers[:, :longest].clamp(max=none - 1), real[:, :longest]

    def encode(self, items: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The users' unit vectors (B, D), and the mean square of the sum of a user's interest states, a scalar.

        items (B, T), padded on the right; vectors (B, T, D): their contents, and embeddings where they count.
        """
        mask = items != PAD
        numbers, real = self.interests_of(items)
        memory = self.centroids[numbers]
        for block in self.encoder:
            memory = block(memory, (memory, real))
        memory = self.encoder_norm(memory)
        together = (memory * real.unsqueeze(2)).sum(1)
        x = self.dropout(self.norm(vectors + self.positions.weight[: items.shape[1]]))
        for block in self.decoder[:-1]:
            x = block(x, (x, mask), (memory, real))
        # Only the last position's state is read.
        last = x[torch.arange(len(x), device=x.device), mask.sum(1) - 1].unsqueeze(1)
        state = self.decoder_norm(self.decoder[-1](last, (x, mask), (memory, real))).squeeze(1)
        return normalize(state, dim=1), together.float().square().mean(1).mean()

    def scores(self, users: Tensor, contents: Tensor, present: Tensor, ids: Tensor | None = None) -> Tensor:
        """Scores (B, C) of candidates, between -1 and 1.

        With several modalities, their cosines are weighted by a softmax of themselves; the item's own cosine counts as
        one modality more. With one, the item's own vector is added to its content.

        Args:
            users: (B, D), unit vectors.
            contents: (M, C, D).
            present: (M, C) bool.
            ids: (C, D) embeddings of the candidates, or None.
        """
        if len(contents) == 1:
            return users @ self.fused(contents, ids).T
        cosines = torch.stack([users @ normalize(each, dim=1).T for each in contents])
        weights = (self.fusion * cosines).masked_fill(~present.unsqueeze(1), -1e9).softmax(0)
        mixed = (weights * cosines).sum(0)
        if ids is None:
            return mixed
        count = present.sum(0)
        return (users @ normalize(ids, dim=1).T + count * mixed) / (1 + count)

    def fused(self, contents: Tensor, ids: Tensor | None) -> Tensor:
        """Unit vectors (C, D) of candidates with one modality: contents (1, C, D) plus ids (C, D)."""
        return normalize(contents[0] if ids is None else contents[0] + ids, dim=1)

    def users(self, items: Tensor, contents: Tensor) -> tuple[Tensor, Tensor]:
        """`encode` from the contents (M, I, D) of all items, with item embeddings."""
        rows = items.clamp(min=0)
        return self.encode(items, nn.functional.embedding(rows, contents.sum(0) + self.table.weight))

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy of the targets among all items, and the weighted term on interests."""
        contents, targets = self.contents(), batch.last(batch.targets)
        users, apart = self.users(batch.items, contents)
        if len(contents) == 1:
            table = self.fused(contents, self.table.weight)
            losses = catalogue_cross_entropy(users / self.temperature, table, targets)
        else:
            logits = self.scores(users, contents, self.present, self.table.weight).float() / self.temperature
            losses = cross_entropy(logits, targets, reduction="none")
        return losses.mean() + DIVERSITY_WEIGHT * apart

    def pretrain_loss(self, batch: Batch) -> Tensor:
        """Contrast of users with the batch's targets and with their own shortened histories, without embeddings."""
        items, targets = batch.items, batch.last(batch.targets)
        content = self.contents(items.clamp(min=0)).sum(0)
        users, apart = self.encode(items, content)
        shorter, kept = drop_items(items, DROPPED)
        again, apart_again = self.encode(shorter, content.gather(1, kept.unsqueeze(2).expand_as(content)))
        own = torch.arange(len(items), device=items.device)
        same = (targets == targets.unsqueeze(1)) & (own != own.unsqueeze(1))
        with_items = self.scores(users, self.contents(targets), self.present[:, targets]).float() / self.temperature
        with_users = (users @ again.T).float() / self.temperature
        contrast = cross_entropy(with_items.masked_fill(same, -torch.inf), own)
        return contrast + SEQUENCE_WEIGHT * cross_entropy(with_users, own) + DIVERSITY_WEIGHT * (apart + apart_again)

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """Scores all items, in float32; see `Recommender.recommend`."""
        with torch.autocast(batch.items.device.type, enabled=False):
            contents = self.contents()
            users, _ = self.users(batch.items, contents)
            if len(contents) == 1:
                return top_products(users, self.fused(contents, self.table.weight), wanted)

            def scores(first: int, last: int) -> Tensor:
                here = slice(first, last)
                return self.scores(users, contents[:, here], self.present[:, here], self.table.weight[here])

            return top_blocks(scores, users, contents.shape[1], wanted)


def mean_and_length(feature: Feature) -> tuple[np.ndarray, np.float32]:
    """The mean (d,) float32 of the values that are there, and the root of their mean squared distance from it."""
    there = feature.values[feature.present]
    mean = there.mean(0, dtype=np.float64).astype(np.float32)
    length = float(np.square(there - mean).sum(1, dtype=np.float64).mean()) ** 0.5
    return mean, np.float32(max(length, 1e-12))


def scaled(feature: Feature, mean: np.ndarray, length: np.ndarray | np.float32) -> np.ndarray:
    """Values (I, d) float32, centred and divided by one number; zeros where absent."""
    return (feature.values - mean) * (feature.present[:, None] / length)


def drop_items(items: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Histories (B, T) without randomly dropped items, but with their first one, and the positions (B, T) kept."""
    kept = (torch.rand(items.shape, device=items.device) >= share) & (items != PAD)
    kept[:, 0] = True
    order = (~kept).sort(dim=1, stable=True).indices
    return items.masked_fill(~kept, PAD).gather(1, order), order
