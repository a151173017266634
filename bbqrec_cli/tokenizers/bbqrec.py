"""BBQRec's tokenizer (paper, section 4.1): disentangled encoders, one shared residual codebook, a behavioural task.

n items of a batch, M signals, D width of a code, d width of a feature, L levels. docs/tokenizer.md says where the
paper's equations alone do not train, and what is done about it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from bbqrec_cli.config import nearest
from bbqrec_cli.data.batches import Batch, WindowBatches, held_out_batches
from bbqrec_cli.data.splits import PAD, HeldOut
from bbqrec_cli.device import autocast
from bbqrec_cli.errors import DataError, UsageError, import_faiss
from bbqrec_cli.evaluation.metrics import aggregate
from bbqrec_cli.models.layers import embedding
from bbqrec_cli.records import Codes, Feature, ItemEncoder
from bbqrec_cli.tokenizers.base import (
    Encode,
    RunSettings,
    Tokenized,
    TokenizerInput,
    code_figures,
    collapsed,
    usable,
)
from bbqrec_cli.tokenizers.configs import BBQRecConfig
from bbqrec_cli.tokenizers.item_table import warm_vectors
from bbqrec_cli.tokenizers.modality import Modality
from bbqrec_cli.tokenizers.mutual_information import CLUB
from bbqrec_cli.tokenizers.residual_quantizer import ResidualQuantizer
from bbqrec_cli.tokenizers.sequence_alignment import SequenceAlignment, distinct_rows, rarity
from bbqrec_cli.tokenizers.training import TokenizerNetwork, fit_tokenizer

SIGNALS = ("id", "text", "image")


class BBQRecQuantizer(TokenizerNetwork):
    """All parameters of section 4.1 but θ's optimiser; `loss` is eq. 13 on one batch of users.

    Args:
        history: items that a window of the batches may hold.
        shares: (I,) each item's share of the training interactions.
        targets: of a usual batch.
    """

    shares: Tensor

    def __init__(
        self, config: BBQRecConfig, *, items: int, features: dict[str, Feature], signals: tuple[str, ...], history: int,
        shares: np.ndarray | None = None, targets: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        shares = np.full(items, 1 / items) if shares is None else shares
        self.register_buffer("shares", torch.from_numpy(shares.astype(np.float32)), persistent=False)
        self.config, self.signals, self.targets = config, signals, targets
        self.ids = embedding(items, config.dim) if "id" in signals else None
        self.modalities = nn.ModuleDict(
            {
                name: Modality(
                    features[name], dim=config.dim, hidden=config.hidden, specific=config.mim, unit=config.unit_signals
                )
                for name in signals
                if name != "id"
            }
        )
        self.clubs = nn.ModuleDict(
            {
                name: CLUB(config.dim, hidden=config.hidden, bounded=config.club_floor)
                for name in self.modalities
                if config.mim
            }
        )
        self.quantizer = ResidualQuantizer(
            signals=len(signals), levels=config.levels, codebook_size=config.codebook_size, dim=config.dim,
            shared=config.shared_codebook, commitment=config.alpha,
            decay=config.ema_decay if config.codebook_learning == "ema" else 0.0,
            rotation=config.estimator == "rotation",
        )  # fmt: skip
        self.alignment = (
            SequenceAlignment(
                len(signals) * config.dim, layers=config.sequence_layers, heads=config.sequence_heads,
                dropout=config.dropout, history=history, temperature=config.tau, learnt=config.learn_tau,
                graph=config.sequence_encoder == "srgnn",
            )
            if config.rec
            else None
        )  # fmt: skip

    def modality(self, name: str) -> Modality:
        """The encoders and the decoder of one modality."""
        return cast(Modality, self.modalities[name])

    def club(self, name: str) -> CLUB:
        """The estimator of one modality."""
        return cast(CLUB, self.clubs[name])

    def presence(self, rows: Tensor) -> Tensor:
        """(n, M) bool: which signals the items have."""
        every = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        return torch.stack([every if s == "id" else self.modality(s).present[rows] for s in self.signals], dim=1)

    def encode(self, rows: Tensor) -> Tensor:
        """Z_i of eq. 4 for the items `rows` (n,): (n, M, D), zeros where the item lacks the signal."""
        parts = []
        for name in self.signals:
            if self.ids is not None and name == "id":
                part = self.ids(rows).float()
                parts.append(normalize(part, dim=1) if self.config.unit_signals else part)
            else:
                modality = self.modality(name)
                here = modality.present[rows]
                part = torch.zeros(len(rows), self.config.dim, device=rows.device)
                # Absent items stay out of the encoder, whose batch norm would otherwise count them.
                part[here] = modality.encode(modality.features[rows[here]])
                parts.append(part)
        return torch.stack(parts, dim=1)

    def vectors(self, z: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """q (n, M, D), L_RQ (n, M) and codes (n, L, M); before the codebooks are initialised q = z, 0 and None."""
        if not self.quantizer.initialised:
            return z, z.new_zeros(z.shape[:2]), None
        found = self.quantizer(z)
        return found.vectors * present.unsqueeze(2), found.loss, found.codes

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Eq. 13 and its parts: {'loss', 'reconstruction', 'quantisation', 'recommendation', 'information'}."""
        rows, position, target, targets = distinct_rows(batch)
        present, z = self.presence(rows), self.encode(rows)
        q, quantisation, codes = self.vectors(z, present)
        reconstruction, bounds = self.content_losses(rows, z, q, present)
        parts = {"reconstruction": reconstruction, "quantisation": (quantisation * present).sum() / len(rows)}
        loss = self.config.reconstruction * parts["reconstruction"] + parts["quantisation"]
        if self.alignment is not None:
            v = q.flatten(1)
            states = self.alignment.states(torch.where(batch.mask.unsqueeze(2), v[position], 0.0), batch)
            parts["recommendation"] = self.alignment.loss(states, *self.candidates(rows[:targets], v, target))
            loss = loss + self.config.beta * parts["recommendation"]
        if self.clubs:
            parts["information"] = bounds.sum()
            # No gradient below zero: an "upper bound" under zero is the estimator's failure, and CLUB would run to -∞.
            loss = loss + self.config.gamma * (bounds.clamp(min=0) if self.config.club_floor else bounds).sum()
        if codes is not None and self.quantizer.decay and self.training:
            self.quantizer.update(z, codes, present)
        return parts | {"loss": loss}

    def candidates(self, targets: Tensor, v: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What h_t is compared with.

        Args:
            targets: (n,) the batch's distinct target items, whose vectors come first in v; target: (P,) rows of them.

        Returns:
            vectors, each position's row among them, and -log of the chance to be drawn (None: none is weighed).
        """
        if self.config.negatives == "all":
            return self.all_vectors(), targets[target], None
        rows, vectors = targets, v[: len(targets)]
        if self.config.negatives == "mixed":
            more = torch.randperm(self.items, device=v.device)[: self.config.sampled]
            more = more[~torch.isin(more, targets)]
            rows = torch.cat([targets, more])
            vectors = torch.cat([vectors, self.vectors(self.encode(more), self.presence(more))[0].flatten(1)])
        weighed = self.config.popularity == "loss"
        return vectors, target, self.rarity(rows, len(target)) if weighed else None

    def rarity(self, rows: Tensor, targets: int) -> Tensor:
        """-log of the chance that the items `rows` (n,) are candidates of a step with so many targets, (n,)."""
        drawn = self.config.sampled / self.items if self.config.negatives == "mixed" else 0.0
        return rarity(self.shares[rows], targets=targets, drawn=drawn)

    def prior(self) -> Tensor | None:
        """What ranking adds to the cosines, (I,): eq. 12 leaves cosines of τ log (p(i | history) / p(i is drawn))."""
        if self.config.popularity != "ranking" or self.config.negatives == "all" or self.alignment is None:
            return None
        every = torch.arange(self.items, device=self.shares.device)
        return -self.alignment.temperature * self.rarity(every, self.targets)

    def content_losses(self, rows: Tensor, z: Tensor, q: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """L_recon (eq. 8–9: summed over features, averaged over items), and eq. 3's bound of each modality."""
        reconstruction, bounds = z.new_zeros(()), [z.new_zeros(())]
        for name in self.modalities:
            modality, signal = self.modality(name), self.signals.index(name)
            here = present[:, signal]
            if not here.any():
                continue
            x = modality.features[rows[here]]
            specific = modality.encode_specific(x)
            error = modality.decode(q[here, signal], specific).float() - x
            reconstruction = reconstruction + error.square().sum() / len(rows)
            if specific is not None:
                bounds.append(self.club(name).bound(specific, z[here, signal]))
        return reconstruction, torch.stack(bounds)

    def likelihood(self, batch: Batch) -> Tensor | None:
        """-log q_θ(z̄ | z) on detached inputs: the loss of θ's own optimiser, before each main step."""
        rows, *_ = distinct_rows(batch)
        total = None
        for name in self.clubs:
            modality = self.modality(name)
            x = modality.features[rows[modality.present[rows]]]
            if not len(x):
                continue
            with torch.no_grad():
                z, specific = modality.encode(x), modality.encode_specific(x)
            assert specific is not None  # a modality without one has no estimator
            unlikely = -self.club(name).likelihood(specific, z)
            total = unlikely if total is None else total + unlikely
        return total

    def all_vectors(self) -> Tensor:
        """v of every item, (I, M·D), with gradients in training."""
        rows = torch.arange(self.items, device=self.quantizer.codebooks.device)
        present = self.presence(rows)
        return self.vectors(self.encode(rows), present)[0].flatten(1)

    @property
    def items(self) -> int:
        """I."""
        return len(self.ids.weight) if self.ids is not None else len(self.modality(next(iter(self.modalities))).present)

    @torch.no_grad()
    def settle(self, *, block: int = 8192) -> None:
        """Give the batch norms the whole catalogue's statistics, so that codes do not depend on the last batches."""
        for name in self.modalities:
            modality = self.modality(name)
            x = modality.features[modality.present]
            outputs = torch.cat([modality.aligned(part).float() for part in x.split(block)]) if len(x) else x
            if len(outputs) > 1:
                modality.norm.running_mean, modality.norm.running_var = outputs.mean(0), outputs.var(0)

    @torch.no_grad()
    def encode_all(self, *, block: int = 8192) -> Tensor:
        """z of every item, (I, M, D)."""
        every = torch.arange(self.items, device=self.quantizer.codebooks.device)
        return torch.cat([self.encode(rows) for rows in every.split(block)])

    @torch.no_grad()
    def assign(self, *, block: int = 8192) -> tuple[Tensor, Tensor | None, Tensor]:
        """Every item's v (I, M·D), codes (I, L, M) (None before initialisation) and presence (I, M)."""
        vectors, codes, presence = [], [], []
        for rows in torch.arange(self.items, device=self.quantizer.codebooks.device).split(block):
            presence.append(self.presence(rows))
            q, _, found = self.vectors(self.encode(rows), presence[-1])
            vectors.append(q.flatten(1))
            codes += [] if found is None else [found]
        return torch.cat(vectors), torch.cat(codes) if codes else None, torch.cat(presence)


class BBQRec:
    """The paper's tokenizer; see `BBQRecConfig` for its options."""

    def __init__(self, config: BBQRecConfig) -> None:
        self.config = config

    def fit(self, inputs: TokenizerInput, run: RunSettings) -> Tokenized:
        """Warm-up without quantisation, k-means on what was learnt, then training with quantisation.

        Raises:
            DataError: no sequences to learn from; signals that are not there.
            UsageError: the sequence encoder's heads do not divide its width; --warm-start without the signal id.
            MissingPackageError: faiss is not installed.
            InterruptedRunError: Ctrl-C or SIGTERM.
        """
        from bbqrec_cli.tokenizers.bbqrec_encoder import keep_encoder

        import_faiss()  # k-means comes after the warm-up: too late to say that something is missing
        config, signals = self.config, choose_signals(self.config, inputs)
        train = WindowBatches(inputs.train, batch_size=config.batch_size, seed=run.seed)
        if not train.targets:
            raise DataError(
                "no user has two training items: nothing to learn from", "--method rqvae needs content only"
            )

        # An item that nobody took counts half, so that it can be ranked.
        taken = np.maximum(np.bincount(inputs.train.items, minlength=inputs.items), 0.5)
        if config.warm_start and "id" not in signals:
            raise UsageError("--warm-start is for the signal id, which is not among the signals", "--signals id,…")
        known = warm_vectors(Path(config.warm_start), inputs, config.dim, seed=run.seed) if config.warm_start else None

        def make() -> BBQRecQuantizer:
            model = BBQRecQuantizer(
                config, items=inputs.items, features=dict(inputs.features), signals=signals, history=train.history,
                shares=taken / taken.sum(), targets=round(train.targets / len(train.epoch(0))),
            )  # fmt: skip
            if known is not None and model.ids is not None:
                model.ids.weight.data.copy_(torch.from_numpy(known))
            return model.to(run.device)

        def start(model: BBQRecQuantizer, epoch: int) -> None:
            if epoch >= config.warmup and not model.quantizer.initialised:
                initialise(model, run)

        having = {s: int(inputs.features[s].present.sum()) if s in inputs.features else inputs.items for s in signals}
        model, history = fit_tokenizer(
            make, train, start, lambda model, _: figures(model, inputs.validation, run),
            lambda row: collapsed(row, config.codebook_size, having), run,
            epochs=config.epochs, learning_rate=config.learning_rate,
        )  # fmt: skip
        model.settle()
        vectors, codes, present = model.assign()
        assert codes is not None  # the configuration leaves at least one epoch after the warm-up
        return Tokenized(
            codes=Codes(
                codes=codes.cpu().numpy().astype(np.uint16), modalities=signals, method=config.method,
                codebook_size=config.codebook_size, codebooks=model.quantizer.codebooks.detach().cpu().numpy(),
                item_vectors=vectors.float().cpu().numpy(),
            ),
            history=history, present=present.cpu().numpy(), latents=model.encode_all().cpu().numpy(),
            encoder=keep_encoder(model, inputs.features),
        )  # fmt: skip

    def restore(self, codes: Codes, encoder: ItemEncoder, device: torch.device) -> Encode:
        """See `Encoding.restore`."""
        from bbqrec_cli.tokenizers.bbqrec_encoder import restore_encoder

        return restore_encoder(self.config, codes, encoder, device)


def choose_signals(config: BBQRecConfig, inputs: TokenizerInput) -> tuple[str, ...]:
    """The signals in the order id, text, image, others; without ¬Rec's ID, which would learn nothing.

    Raises:
        DataError: one that was asked for is not in the file, or no item has it; none is left.
        UsageError: the heads of the sequence encoder do not divide its width.
    """
    there = usable(inputs.present)
    known = ("id", *(s for s in SIGNALS[1:] if s in there), *(s for s in there if s not in SIGNALS))
    for name in config.signals:
        if name not in known:
            what = "no item has it" if name in inputs.features else f"the file has {', '.join(known)}"
            raise DataError(
                f"--signals names {name!r}; {what}{nearest(name, known)}", "bbqrec embed, or leave the signal out"
            )
    chosen = tuple(s for s in known if s in (config.signals or known) and (s != "id" or config.rec))
    if not chosen:
        raise DataError("no signal is left: without the sequence-to-item task the ID learns nothing", "--rec")
    width = len(chosen) * config.dim
    if config.rec and config.sequence_encoder == "sasrec" and width % config.sequence_heads:
        raise UsageError(
            f"--sequence-heads is {config.sequence_heads}, which does not divide {width}, the {len(chosen)} signals "
            f"times --dim {config.dim}",
            "--sequence-heads 1, or another --dim",
        )
    return chosen


@torch.no_grad()
def initialise(model: BBQRecQuantizer, run: RunSettings) -> None:
    """k-means, level after level, on all items' encoder outputs of all signals together."""
    model.eval()
    model.settle()
    rows = torch.arange(model.items, device=run.device)
    model.quantizer.initialise(model.encode_all(), model.presence(rows), seed=run.seed)
    run.progress.log(f"codebooks initialised by k-means on {len(rows):,} items × {len(model.signals)} signals")


@torch.no_grad()
def figures(model: BBQRecQuantizer, validation: HeldOut | None, run: RunSettings) -> dict[str, Any]:
    """The epoch's usage, perplexity, collisions and the sequence encoder's validation recall (full ranking)."""
    model.eval()
    model.settle()
    vectors, codes, present = model.assign()
    found: dict[str, Any] = {"quantised": codes is not None}
    if codes is not None:
        found |= code_figures(codes.cpu().numpy(), model.signals, present.cpu().numpy())
    if validation is not None and model.alignment is not None and len(validation.users):
        ranks = validation_ranks(model.alignment, vectors, validation, run, prior=model.prior())
        found |= aggregate(ranks, (10,))
    return found


def validation_ranks(
    alignment: SequenceAlignment, vectors: Tensor, validation: HeldOut, run: RunSettings, *, prior: Tensor | None = None
) -> np.ndarray:
    """Rank of each user's target among all items (docs/protocol.md): equal scores in the order of the items' rows.

    vectors (I, V) of all items, prior (I,) added to their cosines -> (U,) int64, from 1.
    """
    ranks = np.zeros(len(validation.users), dtype=np.int64)
    rows_of_items = torch.arange(len(vectors), device=vectors.device)
    for users, batch in held_out_batches(validation, max(1, min(512, (1 << 26) // len(vectors)))):
        batch = batch.to(run.device)
        with autocast(run.device, run.precision):
            states = alignment.states(torch.where(batch.mask.unsqueeze(2), vectors[batch.items], 0.0), batch)
        # Outside autocast: in bfloat16 hundreds of items would tie with the target.
        scores = alignment.scores(states, vectors) + (0 if prior is None else prior)
        target = batch.targets[batch.targets != PAD].unsqueeze(1)
        own = scores.gather(1, target)
        above = (scores > own) | ((scores == own) & (rows_of_items < target))
        ranks[users] = above.sum(1).cpu().numpy() + 1
    return ranks
