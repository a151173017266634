"""The encoder-decoder that generates the next item's semantic ID, level by level (paper, section 4.2; TIGER shares it).

B users, T items of history, A asked positions a user, L levels, M signals, N codes, D width, I items.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import HISTORY, PAD
from bbqrec_cli.decoding.beam import Alive, beam_search
from bbqrec_cli.decoding.trie import Trie
from bbqrec_cli.models.base import Recommender, Wanted
from bbqrec_cli.models.layers import INIT_STD, Attention, Dropout, Layer, embedding
from bbqrec_cli.models.similarity_attention import SimilarityAttention, similarity_buckets
from bbqrec_cli.records import Codes

CELLS = 1 << 24
"""Numbers of the largest tensor that a recommendation may build; more users are answered in turns."""


class SemanticIDGenerator(Recommender):
    """P(i | history) = Π_l P(c_l | c_<l, history), eq. 1, with M parallel codes a level.

    Args:
        variant: full (similarity-enhanced attention), no-similarity (the paper's BBQRec_S; TIGER), inherit (BBQRec_E: the
            code embeddings start as the codebooks).
        masking: causal (an item sees itself and what came before: one pass trains every position of a user) or
            bidirectional (one sample a prefix).
        normalisation: of a level's probability: catalogue (over the code tuples that exist below the prefix) or codes (one
            softmax over N a signal, as the field does it).
    """

    needs_codes = True
    codes: Tensor
    vectors: Tensor

    def __init__(
        self, *, items: int, codes: Codes, width: int = 128, layers: int = 2, decoder_layers: int = 2, heads: int = 4,
        dropout: float = 0.2, similarity_buckets: int = 100, variant: str = "full", masking: str = "causal",
        normalisation: str = "catalogue", history: int = HISTORY,
    ) -> None:  # fmt: skip
        super().__init__()
        self.levels, self.signals, self.size = codes.levels, codes.codes.shape[2], codes.codebook_size
        self.masking, self.over_children, self.buckets, self.history = (
            masking,
            normalisation == "catalogue",
            similarity_buckets,
            history,
        )
        self.trained_on = "windows" if masking == "causal" else "prefixes"
        self.trie = Trie(codes.codes)
        self.register_buffer("codes", torch.from_numpy(codes.codes.astype("int64")), persistent=False)
        self.similar = variant == "full" and codes.item_vectors is not None
        if self.similar:
            vectors = normalize(torch.from_numpy(codes.item_vectors).float(), dim=1)
            self.register_buffer("vectors", vectors, persistent=False)
        # One table for all (level, signal) pairs: row (level · M + signal) · N + code.
        self.tokens = embedding(self.levels * self.signals * self.size, width)
        self.outputs = nn.Parameter(torch.randn(self.levels, self.signals, self.size, width) * INIT_STD)
        self.bias = nn.Parameter(torch.zeros(self.levels, self.signals, self.size))
        self.positions, self.depths = embedding(history, width), embedding(self.levels, width)
        self.start, self.steps = nn.Parameter(torch.randn(width) * INIT_STD), embedding(self.levels, width)
        self.dropout = Dropout(dropout)
        self.encoder = nn.ModuleList(
            Layer(
                width, heads=heads, dropout=dropout, inner=4 * width, attention=self._attention(width, heads, dropout)
            )
            for _ in range(layers)
        )
        self.decoder = nn.ModuleList(DecoderLayer(width, heads=heads, dropout=dropout) for _ in range(decoder_layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        if variant == "inherit":
            self._inherit(codes)

    def _attention(self, width: int, heads: int, dropout: float) -> Attention | None:
        if not self.similar:
            return None
        return SimilarityAttention(width, heads=heads, dropout=dropout, buckets=self.buckets, tokens=self.levels)

    @torch.no_grad()
    def _inherit(self, codes: Codes) -> None:
        """BBQRec_E: start from the codebooks, scaled as the other embeddings; levels without codebook stay random."""
        books = torch.from_numpy(codes.codebooks)
        width = min(books.shape[3], self.tokens.weight.shape[1])
        table = self.tokens.weight.view(self.levels, self.signals, self.size, -1)
        for level in range(min(self.levels, books.shape[1])):
            book = books[:, level, :, :width].expand(self.signals, -1, -1)
            table[level, :, : book.shape[1], :width] = book * (INIT_STD / book.std())

    def embed(self, codes: Tensor, levels: Tensor) -> Tensor:
        """Sum of the M code embeddings of each token. codes (..., M), levels broadcastable to (...) -> (..., D)."""
        signal = torch.arange(self.signals, device=codes.device)
        return self.tokens((levels.unsqueeze(-1) * self.signals + signal) * self.size + codes).sum(-2)

    def encode(self, batch: Batch) -> Tensor:
        """States of the T·L tokens of the histories, (B, T·L, D)."""
        users, items = batch.items.shape
        rows = batch.items.clamp(min=0)
        level = torch.arange(self.levels, device=rows.device)
        x = self.embed(self.codes[rows], level) + self.positions.weight[:items, None] + self.depths.weight
        mask = batch.mask[:, None, :].expand(-1, items, -1)
        if self.masking == "causal":
            mask = mask & torch.ones(items, items, dtype=torch.bool, device=rows.device).tril()
        mask = mask.repeat_interleave(self.levels, 1).repeat_interleave(self.levels, 2)
        extra = {"buckets": similarity_buckets(self.vectors[rows], self.buckets)} if self.similar else {}
        x = self.dropout(x.flatten(1, 2))
        for layer in self.encoder:
            x = layer(x, mask, **extra)
        return self.encoder_norm(x)

    def decode(self, memory: Tensor, visible: Tensor, prefix: Tensor) -> Tensor:
        """Decoder states after each code of the prefixes.

        Args:
            memory: (B, T·L, D).
            visible: (B, A, T) bool, the items that each asked position may look at.
            prefix: (B, A, l, M) codes of the first l levels, l < L.

        Returns:
            (B, A, l + 1, D); the last one of A predicts level l.
        """
        level = torch.arange(prefix.shape[2], device=prefix.device)
        start = self.start.expand(*prefix.shape[:2], 1, -1)
        x = torch.cat([start, self.embed(prefix, level)], dim=2) if prefix.shape[2] else start
        x = self.dropout(x + self.steps.weight[: x.shape[2]])
        mask = visible.repeat_interleave(self.levels, 2).repeat_interleave(x.shape[2], 1)
        for layer in self.decoder:
            x = layer(x, memory, mask)
        return self.decoder_norm(x)

    def logits(self, states: Tensor, level: int) -> Tensor:
        """Logits of a level's codes, one head a signal. states (..., D) -> (..., M, N)."""
        flat = states @ self.outputs[level].flatten(0, 1).T.to(states.dtype)
        return flat.unflatten(-1, (self.signals, self.size)) + self.bias[level]

    def loss(self, batch: Batch) -> Tensor:
        """Mean -log P(target) over the asked positions, summed over levels and signals."""
        memory = self.encode(batch)
        where, visible = self._asked(batch)
        targets = batch.targets.gather(1, where)
        states = self.decode(memory, visible, self.codes[targets.clamp(min=0)][:, :, :-1])
        asked = targets != PAD
        return -self.log_probabilities(states[asked], targets[asked]).mean()

    def _asked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Positions to decode (B, A) and the items they see (B, A, T): every position (causal) or each row's last one."""
        steps = torch.arange(batch.items.shape[1], device=batch.items.device)
        if self.masking != "causal":
            return batch.lengths.unsqueeze(1) - 1, batch.mask.unsqueeze(1)
        where = steps.expand_as(batch.items)
        return where, batch.mask.unsqueeze(1) & (steps <= where.unsqueeze(2))

    def log_probabilities(self, states: Tensor, items: Tensor) -> Tensor:
        """log P of items (P,) from their teacher-forced states (P, L, D), (P,) float32."""
        total = torch.zeros(len(items), device=items.device)
        for level in range(self.levels):
            if not self.over_children:
                logits = self.logits(states[:, level], level).float().flatten(0, 1)
                total = total - cross_entropy(logits, self.codes[items, level].flatten(), reduction="none").view(
                    -1, self.signals
                ).sum(1)
            elif level == 0:
                total = total - self._root_loss(states[:, 0], items)
            else:
                total = total - self._child_loss(states[:, level], level, items)
        return total

    def _root_loss(self, states: Tensor, items: Tensor) -> Tensor:
        """-log P of the first level's tuple among all that exist: a full softmax over composed embeddings, (P,)."""
        codes = self.trie.codes(0)
        table = sum(self.outputs[0, m][codes[:, m]] for m in range(self.signals))
        bias = sum(self.bias[0, m][codes[:, m]] for m in range(self.signals))
        logits = (states @ table.T.to(states.dtype)).float() + bias
        return cross_entropy(logits, self.trie.node(1)[items], reduction="none")

    def _child_loss(self, states: Tensor, level: int, items: Tensor) -> Tensor:
        """-log P of the level's tuple among the children of the item's prefix, (P,)."""
        bounds, parent = self.trie.child_bounds(level), self.trie.node(level)[items]
        first, count = bounds[parent], bounds[parent + 1] - bounds[parent]
        owner = torch.repeat_interleave(torch.arange(len(items), device=items.device), count)
        children = torch.arange(len(owner), device=items.device) - (count.cumsum(0) - count - first)[owner]
        logits, codes = self.logits(states, level).float(), self.trie.codes(level)[children]
        signal = torch.arange(self.signals, device=items.device)
        scores = logits.flatten()[(owner.unsqueeze(1) * self.signals + signal) * self.size + codes].sum(1)
        highest = torch.full_like(states[:, 0], -torch.inf, dtype=torch.float32).scatter_reduce(
            0, owner, scores.detach(), "amax"
        )
        partition = torch.zeros_like(highest).index_add(0, owner, (scores - highest[owner]).exp()).log() + highest
        chosen = (self.trie.node(level + 1)[items] - first) + count.cumsum(0) - count
        return partition - scores[chosen]

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """Trie-constrained beam search; see `Recommender.recommend`."""
        widest = max(
            int(self.trie.child_bounds(d).diff().max()) * (1 if d == 0 else wanted.beam) for d in range(self.levels)
        )
        turn = max(1, CELLS // (max(widest, wanted.beam * self.size) * self.signals))
        found = []
        for rows in torch.arange(len(batch.items), device=batch.items.device).split(turn):
            exclude = None if wanted.exclude is None else wanted.exclude[rows]
            found.append(self._search(Batch(batch.items[rows], batch.targets[rows]), wanted, exclude))
        return torch.cat([items for items, _ in found]), torch.cat([scores for _, scores in found])

    def _search(self, batch: Batch, wanted: Wanted, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
        memory, visible, users = self.encode(batch), batch.mask.unsqueeze(1), len(batch.items)

        def step(level: int, prefix: Tensor) -> Tensor:
            states = self.decode(memory, visible.expand(-1, prefix.shape[1], -1), prefix)
            return self.logits(states[:, :, -1], level)

        alive = Alive.of(self.trie, wanted.allowed, exclude, users)
        return beam_search(
            self.trie, step, users=users, width=wanted.beam, k=wanted.k, alive=alive, over_children=self.over_children
        )

    @torch.no_grad()
    def score_all(self, batch: Batch, *, block: int = 256) -> Tensor:
        """log P of every item after each history, (B, I), by teacher forcing: slow, and the reference of the beam."""
        memory, users = self.encode(batch), len(batch.items)
        parts = []
        for rows in torch.arange(self.trie.items, device=memory.device).split(block):
            prefix = self.codes[rows, :-1].expand(users, -1, -1, -1)
            states = self.decode(memory, batch.mask.unsqueeze(1).expand(-1, len(rows), -1), prefix)
            parts.append(self.log_probabilities(states.flatten(0, 1), rows.repeat(users)).view(users, -1))
        return torch.cat(parts, dim=1)


class DecoderLayer(nn.Module):
    """Pre-norm: causal self-attention over the levels, cross-attention into the history, feed-forward."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.own = Layer(width, heads=heads, dropout=dropout, inner=4 * width)
        self.cross, self.norm = Attention(width, heads=heads, dropout=dropout), nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, visible: Tensor) -> Tensor:
        """x (B, A, l, D), memory (B, T·L, D), visible (B, A·l, T·L) -> (B, A, l, D)."""
        users, asked, steps, _ = x.shape
        flat = x.flatten(1, 2)
        x = (flat + self.dropout(self.cross(self.norm(flat), memory, visible))).view_as(x)
        causal = torch.ones(steps, steps, dtype=torch.bool, device=x.device).tril().unsqueeze(0)
        return self.own(x.flatten(0, 1), causal).view(users, asked, steps, -1)
