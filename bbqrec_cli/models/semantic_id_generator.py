"""The encoder-decoder that generates the next item's semantic ID, level by level (paper, section 4.2; TIGER shares it).

B users, T items of history, A target positions per user, L levels, M signals, N codes, D width, I items.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize
from torch.nn.functional import embedding as embedding_lookup

from bbqrec_cli.data.batches import Batch, Batches, PrefixBatches, WindowBatches
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.decoding.beam import Step
from bbqrec_cli.decoding.trie import Trie
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.base import Recommender, Wanted
from bbqrec_cli.models.children_softmax import children_cross_entropy
from bbqrec_cli.models.code_decoder import code_decoder
from bbqrec_cli.models.generator_search import fitted_shares, recommend, stepper
from bbqrec_cli.models.heads import DenseHead, Head, MarkovHead, SimilarityHead, pooled
from bbqrec_cli.models.layers import Attention, Dropout, Layer, embedding
from bbqrec_cli.models.packing import Grid
from bbqrec_cli.models.prefix_states import PrefixStates
from bbqrec_cli.models.similarity_attention import SimilarityAttention, similarity_buckets
from bbqrec_cli.models.softmax import catalogue_cross_entropy
from bbqrec_cli.models.t5 import FinalNorm, RelativePositions, T5Layer, t5_decoder
from bbqrec_cli.models.tuple_interaction import TupleInteraction
from bbqrec_cli.records import Codes, ItemData, Sequences


class SemanticIDGenerator(Recommender):
    """P(i | history) = Π_l P(c_l | c_<l, history), eq. 1, with M parallel codes per level.

    Args:
        variant: full (similarity-enhanced attention), no-similarity (plain attention: the paper's BBQRec_S; TIGER),
            inherit (BBQRec_E: plain attention, and the code embeddings start as the codebooks).
        masking: causal (an item sees itself and earlier items: one pass trains every position of a user) or
            bidirectional (one sample per prefix).
        normalisation: of a level's probability: catalogue (over the code tuples that exist below the prefix) or codes
            (one softmax over N per signal, as in the literature).
        tuple_vectors: with normalisation=catalogue, what is added to a first-level tuple's code vectors (beyond the
            paper): free (its own vector and bias), interaction (`TupleInteraction` of its codes), composed (the mean of
            the deeper codes below it) or none.
        dense_head: add a head that scores all items at once; `recommend` mixes both (beyond the paper).
        markov_head: mix in a Markov chain (beyond the paper).
        similarity_head: mix in how similar items are to the history, by each signal's vectors (beyond the paper).
        init_std: standard deviation of the initial embeddings.
        architecture: bbqrec, or t5 as TIGER's (`models/t5.py`): no learnt positions, embeddings are used as they are,
            and the decoder starts from one vector, not from the last item as well.
        head_width, inner: width of an attention head (0: width / heads), of feed-forward layers (0: 4 · width).
        temperature: τ, by which `loss` divides the logits (LETTER's ranking-guided loss); not so `recommend`.
    """

    needs = frozenset({"codes"})
    per_item = ("dense.own", *(f"markov.{each}" for each in MarkovHead.per_item))
    new_rows: ClassVar[dict[str, float]] = {f"markov.{name}": value for name, value in MarkovHead.new_rows.items()}
    codes: Tensor
    vectors: Tensor
    branching: Tensor
    log_sharing: Tensor

    def __init__(
        self, *, data: ItemData, width: int, layers: int, decoder_layers: int, heads: int, dropout: float,
        similarity_buckets: int, variant: str, masking: str, normalisation: str, tuple_vectors: str, dense_head: bool,
        init_std: float, history: int, markov_head: bool = False, similarity_head: bool = False,
        architecture: str = "bbqrec", head_width: int = 0, inner: int = 0, temperature: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        codes = data.codes
        assert codes is not None  # `needs` has them
        self.levels, self.signals, self.size = codes.levels, codes.codes.shape[2], codes.codebook_size
        self.masking, self.over_children = masking, normalisation == "catalogue"
        self.buckets, self.history, self.init_std = similarity_buckets, history, init_std
        self.t5, self.temperature = architecture == "t5", temperature
        self.trie = Trie(codes.codes)
        self.register_buffer("codes", torch.from_numpy(codes.codes.astype("int64")), persistent=False)
        self.register_buffer("branching", self._branching(), persistent=False)
        leaf = self.trie.node(self.levels)
        # log of the number of items that share each item's ID and divide its probability.
        self.register_buffer("log_sharing", leaf.bincount()[leaf].log(), persistent=False)
        lacking = {"full": codes.item_vectors, "inherit": codes.codebooks}.get(variant, True) is None
        if lacking:
            what = {"full": "vectors of the items", "inherit": "codebooks"}[variant]
            hint = "use --variant no-similarity, or IDs made by `bbqrec tokenize`"
            raise DataError(f"--variant {variant} needs the {what}, which these semantic IDs do not have", hint)
        self.similar = variant == "full"
        if self.similar:
            vectors = normalize(torch.from_numpy(codes.item_vectors).float(), dim=1)
            self.register_buffer("vectors", vectors, persistent=False)
        self._make_codes(width, tuple_vectors)
        self.dense = DenseHead(len(data), width) if dense_head else None
        self.markov = MarkovHead(data) if markov_head else None
        self.alike = nn.ModuleList(self._similarities(codes) if similarity_head else ())
        self.modalities = codes.modalities
        for head in self.heads.values():
            head.weight.fill_(1 / (1 + len(self.heads)))
        if not self.t5:
            self.positions, self.depths = embedding(history, width, init_std), embedding(self.levels, width, init_std)
        self.prefix_states = PrefixStates()
        self.start = nn.Parameter(torch.randn(width) * init_std)
        self.steps = None if self.t5 else embedding(self.levels, width, init_std)
        self.dropout = Dropout(dropout)
        sizes = {"heads": heads, "dropout": dropout, "head_width": head_width}
        self._make_stacks(width, layers, decoder_layers, inner=inner or 4 * width, **sizes)
        if variant == "inherit":
            self._inherit(codes)

    def prepare(self, train: Sequences) -> None:
        """Count what the heads know."""
        for head in self.heads.values():
            head.prepare(train)

    def batches(self, train: Sequences, *, batch_size: int, seed: int) -> Batches:
        """Windows for a causal encoder; one sample per prefix, each of the same weight, for a bidirectional one."""
        if self.masking == "causal":
            return WindowBatches(train, batch_size=batch_size, seed=seed, history=self.history)
        return PrefixBatches(train, batch_size=batch_size, seed=seed, history=self.history)

    def _make_codes(self, width: int, tuple_vectors: str) -> None:
        """The parameters of codes and of the first level's tuples."""
        # One table for all (level, signal) pairs: row (level · M + signal) · N + code.
        rows = self.levels * self.signals * self.size
        self.tokens = embedding(rows, width, self.init_std)
        bias = torch.zeros(self.levels, self.signals, self.size)
        if self.t5:  # has none
            self.register_buffer("bias", bias, persistent=False)
        else:
            self.bias = nn.Parameter(bias)
        self.looks_ahead = self.over_children and self.levels > 1 and tuple_vectors == "composed"
        tuples = len(self.trie.codes(0)) if self.over_children and tuple_vectors == "free" else 0
        # They start at zero, to learn only what the shared codes cannot express.
        self.tuples = nn.Parameter(torch.zeros(tuples, width)) if tuples else None
        self.tuple_bias = nn.Parameter(torch.zeros(tuples)) if tuples else None
        joined = self.over_children and self.signals > 1 and tuple_vectors == "interaction"
        self.interaction = TupleInteraction(width, signals=self.signals, rank=4 * width) if joined else None

    def _make_stacks(self, width: int, layers: int, decoder_layers: int, *, inner: int, **sizes: Any) -> None:
        """The encoder and the decoder. sizes: heads, head_width and dropout."""
        if self.t5:
            self.relative = RelativePositions(width, heads=sizes["heads"], both_ways=True)
            self.encoder = nn.ModuleList(T5Layer(width, inner=inner, **sizes) for _ in range(layers))
            self.encoder_norm: nn.Module = FinalNorm(width, dropout=sizes["dropout"])
            self.decoder = t5_decoder(width, layers=decoder_layers, inner=inner, **sizes)
            return
        causal = self.masking == "causal"
        similar = partial(SimilarityAttention, buckets=self.buckets, tokens=self.levels, causal=causal)
        kind: Any = similar if self.similar else Attention
        self.encoder = nn.ModuleList(
            Layer(width, dropout=sizes["dropout"], inner=inner, attention=kind(width, **sizes)) for _ in range(layers)
        )
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = code_decoder(width, layers=decoder_layers, inner=inner, **sizes)

    def _similarities(self, codes: Codes) -> list[SimilarityHead]:
        """A similarity head per signal. Raises: DataError: the codes have no vectors."""
        if codes.item_vectors is None:
            hint = "use --no-similarity-head, or IDs made by `bbqrec tokenize`"
            raise DataError("--similarity-head needs vectors of the items, which these semantic IDs do not have", hint)
        of_signals = torch.from_numpy(codes.item_vectors).float().chunk(self.signals, dim=1)
        return [SimilarityHead(each, self.history) for each in of_signals]

    def _branching(self) -> Tensor:
        """(I, L) bool: the levels to decode for an item, up to the last one where its prefix has several children."""
        if not self.over_children:
            return torch.ones(self.trie.items, self.levels, dtype=torch.bool)
        choice = [self.trie.child_bounds(depth).diff()[self.trie.node(depth)] > 1 for depth in range(self.levels)]
        choice[0] = torch.ones_like(choice[0])
        return torch.stack(choice, dim=1).flip(1).cummax(1).values.flip(1)

    @torch.no_grad()
    def _inherit(self, codes: Codes) -> None:
        """BBQRec_E: start from the codebooks, all scaled by one factor to the deviation of the other embeddings; levels
        without one stay random, as do columns beyond their width."""
        books = torch.from_numpy(codes.codebooks)
        width = min(books.shape[3], self.tokens.weight.shape[1])
        table = self.tokens.weight.view(self.levels, self.signals, self.size, -1)
        scale = self.init_std / books.std()
        for level in range(min(self.levels, books.shape[1])):
            book = books[:, level, :, :width].expand(self.signals, -1, -1)
            if book.any():  # pq's books are zero but for their own part, which may lie beyond the width
                table[level, :, : book.shape[1], :width] = book * scale

    def embed(self, codes: Tensor, levels: Tensor) -> Tensor:
        """√D · sum of the M code embeddings of each token. codes (..., M), levels broadcastable to (...) -> (..., D).

        The factor keeps the codes from being drowned by what the layers add; the output layer uses the same table. T5
        has no factor here, and D^-½ there.
        """
        signal = torch.arange(self.signals, device=codes.device)
        rows = (levels.unsqueeze(-1) * self.signals + signal) * self.size + codes
        found = self.tokens(rows).sum(-2)
        return found if self.t5 else found * self.tokens.embedding_dim**0.5

    def encode(self, batch: Batch) -> Tensor:
        """States of the T·L tokens of the histories, (B, T·L, D)."""
        items = batch.items.shape[1]
        rows = batch.items.clamp(min=0)
        level = torch.arange(self.levels, device=rows.device)
        x = self.embed(self.codes[rows], level)
        if not self.t5:
            x = x + self.positions.weight[:items, None] + self.depths.weight
        mask = batch.mask[:, None, :].expand(-1, items, -1)
        if self.masking == "causal":
            mask = mask & torch.ones(items, items, dtype=torch.bool, device=rows.device).tril()
        mask = mask.repeat_interleave(self.levels, 1).repeat_interleave(self.levels, 2)
        extra = {"buckets": similarity_buckets(self.vectors[rows], self.buckets)} if self.similar else {}
        if self.t5:
            place = torch.arange(items * self.levels, device=rows.device)
            extra["bias"] = self.relative(place - place.unsqueeze(1))
        x = self.dropout(x.flatten(1, 2))
        for layer in self.encoder:
            x = layer(x, mask, **extra)
        return self.encoder_norm(x)

    def loss(self, batch: Batch) -> Tensor:
        """Mean -log P(target) at the temperature, summed over levels and signals; with a dense head, plus its loss."""
        where, visible = self._asked(batch)
        targets = batch.targets.gather(1, where)
        memory, asked = self.encode(batch), targets != PAD
        loss = -self.log_probabilities(memory, visible, targets, temperature=self.temperature)[asked].mean()
        if self.dense is None:
            return loss
        states, table = self.dropout(self.last_states(memory, visible)[asked]), self.dense.table(self.composed())
        return loss + catalogue_cross_entropy(states, table, targets[asked]).mean()

    def train(self, mode: bool = True) -> SemanticIDGenerator:
        """Into training or, with False, evaluation. What is kept of prefixes is forgotten: see `PrefixStates`."""
        self.prefix_states = PrefixStates()
        return super().train(mode)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[tuple[Batch, Tensor | None]]) -> None:
        """Fit the heads' shares on held-out targets; see `Recommender.calibrate`."""
        if not self.heads:
            return
        for head, share in zip(self.heads.values(), fitted_shares(self, batches)[1:], strict=True):
            head.weight.fill_(share)

    def _asked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Positions to decode (B, A) and the items they see (B, A, T): all (causal) or each row's last position."""
        steps = torch.arange(batch.items.shape[1], device=batch.items.device)
        if self.masking != "causal":
            return batch.lengths.unsqueeze(1) - 1, batch.mask.unsqueeze(1)
        where = steps.expand_as(batch.items)
        return where, batch.mask.unsqueeze(1) & (steps <= where.unsqueeze(2))

    def log_probabilities(self, memory: Tensor, visible: Tensor, items: Tensor, *, temperature: float = 1.0) -> Tensor:
        """log P of items by teacher forcing.

        Levels that are certain, below a prefix with one child, are not decoded. The queries, one per (item, level),
        are packed; in attention those of a user are in one row.

        Args:
            memory: (B, T·L, D).
            visible: (B, A, T) bool, the items of the history that each of `items` may attend to.
            items: (B, A) rows, PAD = no target.
            temperature: τ, by which all logits are divided.

        Returns:
            (B, A) float32, 0 where there is no target.
        """
        needed = (self.branching[items.clamp(min=0)] & (items != PAD).unsqueeze(2)).flatten(1)
        order = (~needed).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(needed.sum(1).max())]
        owner, level, grid = order // self.levels, order % self.levels, Grid(needed.gather(1, order))
        seen = visible.gather(1, owner.unsqueeze(2).expand(-1, -1, visible.shape[2])).repeat_interleave(self.levels, 2)
        own = (owner.unsqueeze(2) == owner.unsqueeze(1)) & (level.unsqueeze(2) >= level.unsqueeze(1))
        # Of the queries alone: which of all B · A items they ask for, and at which level.
        of = grid.places // max(1, order.shape[1]) * items.shape[1] + owner.flatten()[grid.places]
        rows, depth = items.flatten()[of], level.flatten()[grid.places]
        before = (depth - 1).clamp(min=0)
        last = embedding_lookup(of, self.last_states(memory, visible).flatten(0, 1))
        x = self.dropout(self.token(depth, self.embed(self.codes[rows, before], before), last))
        states = self.decoder(x, self.decoder.history_keys_values(memory), seen, own, level, grid)
        total = torch.zeros(items.numel(), device=items.device)
        for number in range(self.levels):
            here = (depth == number).nonzero().squeeze(1)
            lost = self._level_loss(number, states.index_select(0, here), rows[here], temperature)
            total = total.index_add(0, of[here], -lost)
        return total.view_as(items)

    def last_states(self, memory: Tensor, visible: Tensor) -> Tensor:
        """The decoder's start: the states of the last visible item, Σ over its L tokens / √L.

        memory (B, T·L, D), visible (B, A, T) -> (B, A, D), 0 where nothing is visible. Without this shortcut around the
        cross-attention, the model learns late, and half as well, that the next item resembles the last one.
        """
        items = memory.unflatten(1, (-1, self.levels)).sum(2) * self.levels**-0.5
        seen = visible.sum(2, keepdim=True)
        return items.gather(1, (seen - 1).clamp(min=0).expand(-1, -1, items.shape[2])) * (seen > 0)

    def token(self, level: Tensor, embedded: Tensor, last: Tensor) -> Tensor:
        """The decoder's input at `level` (...): the start, then the embedding (..., D) of the codes before; unless it
        is T5's, with the level's vector and `last_states`."""
        x = torch.where(level.unsqueeze(-1) == 0, self.start, embedded)
        return x if self.steps is None else x + self.steps(level) + last

    def table(self, level: int) -> Tensor:
        """The level's output vectors of codes, (M, N, D)."""
        return self.tokens.weight.view(self.levels, self.signals, self.size, -1)[level]

    def logits(self, states: Tensor, level: int) -> Tensor:
        """Logits of a level's codes, one head per signal. states (..., D) -> (..., M, N)."""
        flat = linear(states, self.table(level).flatten(0, 1), self.bias[level].flatten())
        return flat.unflatten(-1, (self.signals, self.size))

    def compose(self, codes: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Sums of a level's code vectors (C, D) and biases (C,) for code tuples (C, M)."""
        table, bias = self.table(level), self.bias[level]
        signals = range(self.signals)
        vectors = torch.stack([embedding_lookup(codes[:, m], table[m]) for m in signals]).sum(0)
        return vectors, torch.stack([bias[m][codes[:, m]] for m in signals]).sum(0)

    def composed(self, first: int = 0) -> Tensor:
        """Sum of every item's code vectors from level `first` on, (I, D)."""
        levels = range(first, self.levels)
        return torch.stack([self.compose(self.codes[:, level], level)[0] for level in levels]).sum(0)

    def of_tuples(self) -> tuple[Tensor, Tensor] | None:
        """What is added to the vectors (C, D) and biases (C,) of the first level's C tuples; None: nothing."""
        if self.tuples is not None and self.tuple_bias is not None:
            return self.tuples, self.tuple_bias
        if self.interaction is not None:
            return self.interaction.of_tuples(self.table(0), self.trie.codes(0))
        if not self.looks_ahead:
            return None
        # The mean of the deeper codes of the items below, and the log of their number.
        node, count = self.trie.node(1), self.trie.bounds(1).diff()
        deeper = self.composed(1)
        mean = deeper.new_zeros(len(count), deeper.shape[1]).index_add(0, node, deeper) / count.unsqueeze(1)
        return mean, count.to(mean.dtype).log()

    def first_level(self) -> tuple[Tensor, Tensor]:
        """Vectors (C, D) and biases (C,) of the first level's C tuples: of their codes, and what is added."""
        vectors, bias = self.compose(self.trie.codes(0), 0)
        extra = self.of_tuples()
        return (vectors, bias) if extra is None else (vectors + extra[0], bias + extra[1])

    def tuple_logits(self, states: Tensor) -> Tensor | None:
        """What `of_tuples` adds to the logits of states (n, D), (n, C): for few states; None: nothing."""
        if self.interaction is not None:
            return self.interaction.logits(states, self.table(0), self.trie.codes(0))
        extra = self.of_tuples()
        return None if extra is None else linear(states, *extra)

    def _level_loss(self, level: int, states: Tensor, items: Tensor, temperature: float) -> Tensor:
        """-log P of the level's codes of items (P,), given the levels before; states (P, D) -> (P,) float32."""
        if not self.over_children:
            logits = self.logits(states, level).float().flatten(0, 1) / temperature
            wanted = self.codes[items, level].flatten()
            losses = cross_entropy(logits, wanted, reduction="none")
            return losses.view(-1, self.signals).sum(1)
        codes = self.trie.codes(level)
        if level == 0:
            # A full softmax over composed embeddings: the tuples are too many to gather per sample.
            table, bias = self.first_level()
            return catalogue_cross_entropy(states / temperature, table, self.trie.node(1)[items], bias / temperature)
        bounds, parent = self.trie.child_bounds(level), self.trie.node(level)[items]
        count = bounds[parent + 1] - bounds[parent]
        chosen = self.trie.node(level + 1)[items]
        logits = self.logits(states, level) / temperature
        return children_cross_entropy(logits, codes, bounds[parent], count, chosen)

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """Trie-constrained search, exact or with a beam; see `Recommender.recommend`."""
        return recommend(self, batch, wanted)

    def stepper(self, encoded: Tensor, mask: Tensor) -> Step:
        """The step function of a beam search after the histories `encoded` (B, T·L, D)."""
        return stepper(self, encoded, mask)

    @property
    def heads(self) -> dict[str, Head]:
        """The heads beside the generator, by their names: dense, markov, and one per signal."""
        of_signals = zip((f"similarity-{name}" for name in self.modalities), self.alike, strict=False)
        every = {"dense": self.dense, "markov": self.markov, **dict(of_signals)}
        return {name: head for name, head in every.items() if isinstance(head, Head)}

    def dense_table(self) -> Tensor | None:
        """The dense head's vectors of all items, (I, D); None: there is no dense head."""
        if self.dense is None:
            return None
        with torch.autocast(self.codes.device.type, enabled=False):
            return self.dense.table(self.composed())

    def answers(self, encoded: Tensor, batch: Batch, table: Tensor | None) -> dict[str, Tensor]:
        """log P of all items by each of `heads` after the histories of a batch, (B, I) float32.

        encoded: (B, T·L, D), the histories' states; table: as `dense_table` gives it.
        """
        found = {}
        if table is not None:
            states = self.last_states(encoded, batch.mask.unsqueeze(1))[:, 0]
            with torch.autocast(states.device.type, enabled=False):
                found["dense"] = (states.float() @ table.T).log_softmax(1)
        return found | {name: head(batch) for name, head in self.heads.items() if name != "dense"}

    def shares(self) -> Tensor:
        """Those of `heads`, (H,)."""
        return torch.stack([head.weight for head in self.heads.values()])

    @torch.no_grad()
    def score_all(self, batch: Batch, *, block: int = 64) -> Tensor:
        """Scores of all items after each history, (B, I), by teacher forcing: slow, the reference for the search."""
        memory, users = self.encode(batch), len(batch.items)
        parts = []
        for rows in torch.arange(self.trie.items, device=memory.device).split(block):
            visible = batch.mask.unsqueeze(1).expand(-1, len(rows), -1)
            parts.append(self.log_probabilities(memory, visible, rows.expand(users, -1)))
        scores = torch.cat(parts, dim=1)
        if not self.heads:
            return scores
        answers = self.answers(memory, batch, self.dense_table()).values()
        return pooled(torch.stack([scores - self.log_sharing, *answers], dim=2), self.shares())
