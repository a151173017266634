"""BBQRec's tokenizer as a network (paper, section 4.1): disentangled encoders, one shared residual codebook, a
behavioural task.

n items of a batch, M signals, D width of a code, d width of a feature, L levels. docs/tokenizer.md says where the
paper's equations alone do not train, and what is done about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.layers import INIT_STD, NamedModules, embedding
from bbqrec_cli.records import Feature
from bbqrec_cli.tokenizers.methods.bbqrec.alignment import SequenceAlignment, distinct_rows, rarity
from bbqrec_cli.tokenizers.methods.bbqrec.club import CLUB
from bbqrec_cli.tokenizers.methods.bbqrec.modality import Modality
from bbqrec_cli.tokenizers.options.bbqrec import BBQRecConfig
from bbqrec_cli.tokenizers.quantization.residual import ResidualQuantizer
from bbqrec_cli.tokenizers.training import TokenizerNetwork
from bbqrec_cli.training.distributed import ALONE, World

PAPER_STD = 0.01
"""Of embeddings at the start (section 5.1): those of IDs are quantised as long as they are in the plain equations."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodedBatch:
    """A batch's distinct items, targets first, as `distinct_rows` gives them, and their signals.

    rows (n,); position (B, T) of the history's items in rows; target (P,) of each asked position in rows; targets: how
    many rows are targets, what h_t is compared with; present (n, M) bool; z (n, M, D); specific: modality -> z̄ (n', D)
    of the items that have it.
    """

    rows: Tensor
    position: Tensor
    target: Tensor
    targets: int
    present: Tensor
    z: Tensor
    specific: Mapping[str, Tensor | None]


class BBQRecQuantizer(TokenizerNetwork):
    """All parameters of section 4.1 but θ's optimiser; `loss` is eq. 13 on one batch of users.

    Args:
        history: items that a window of the batches may hold.
        shares: (I,) each item's share of the training interactions.
        targets: of a usual batch.
    """

    shares: Tensor

    def __init__(
        self, config: BBQRecConfig, *, items: int, features: Mapping[str, Feature], signals: tuple[str, ...],
        history: int, shares: np.ndarray | None = None, targets: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        shares = np.full(items, 1 / items) if shares is None else shares
        self.register_buffer("shares", torch.from_numpy(shares.astype(np.float32)), persistent=False)
        self.config, self.signals, self.targets = config, signals, targets
        std = PAPER_STD if config.plain_equations else INIT_STD
        self.ids = embedding(items, config.dim, std) if "id" in signals else None
        unit, specific = not config.plain_equations, config.mim
        self.modalities = NamedModules(
            {
                name: Modality(features[name], dim=config.dim, hidden=config.hidden, specific=specific, unit=unit)
                for name in signals
                if name != "id"
            }
        )
        self.clubs = NamedModules(
            {
                name: CLUB(config.dim, hidden=config.hidden, bounded=not config.plain_equations)
                for name in self.modalities
                if config.mim
            }
        )
        self.quantizer = ResidualQuantizer(
            signals=len(signals), levels=config.levels, codebook_size=config.codebook_size, dim=config.dim,
            shared=config.shared_codebook, commitment=config.alpha,
        )  # fmt: skip
        self.alignment = (
            SequenceAlignment(
                len(signals) * config.dim, layers=config.sequence_layers, heads=config.sequence_heads,
                dropout=config.dropout, history=history, temperature=config.tau,
                graph=config.sequence_encoder == "srgnn", init_std=std,
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
            if name not in self.modalities:
                parts.append(self.id_signal(rows))
            else:
                modality = self.modality(name)
                here = modality.present[rows]
                part = torch.zeros(len(rows), self.config.dim, device=rows.device)
                # Absent items stay out of the encoder, whose batch norm would otherwise count them.
                part[here] = modality.encode(modality.features[rows[here]])
                parts.append(part)
        return torch.stack(parts, dim=1)

    def id_signal(self, rows: Tensor) -> Tensor:
        """The learnt signal of the items `rows` (n,), (n, D)."""
        assert self.ids is not None
        z = self.ids(rows).float()
        return z if self.config.plain_equations else normalize(z, dim=1)

    @torch.no_grad()
    def encode_catalogue(self) -> Tensor:
        """Z_i of every item, (I, M, D), in eval mode; see `Modality.encode_catalogue`."""
        every = torch.arange(self.items, device=self.quantizer.codebooks.device)
        made = {name: self.modality(name).encode_catalogue() for name in self.modalities}
        return torch.stack([made[name] if name in made else self.id_signal(every) for name in self.signals], dim=1)

    def vectors(self, z: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """q (n, M, D), L_RQ (n, M) and codes (n, L, M); before the codebooks are initialised q = z, 0 and None."""
        if not self.quantizer.initialised:
            return z, z.new_zeros(z.shape[:2]), None
        found = self.quantizer(z)
        return found.vectors * present.unsqueeze(2), found.loss, found.codes

    def encoded(self, batch: Batch) -> EncodedBatch:
        """The batch's items and their signals, which θ's step and the losses share."""
        rows, position, target, targets = distinct_rows(batch)
        own = {name: self.modality(name) for name in self.modalities}
        specific = {name: each.encode_specific(each.features[rows[each.present[rows]]]) for name, each in own.items()}
        return EncodedBatch(
            rows=rows, position=position, target=target, targets=targets, present=self.presence(rows),
            z=self.encode(rows), specific=specific,
        )  # fmt: skip

    def loss(self, batch: Batch, world: World = ALONE, encoded: EncodedBatch | None = None) -> dict[str, Tensor]:
        """Eq. 13 and its parts: {'loss', 'reconstruction', 'quantisation', 'recommendation', 'information'}.

        Of several processes, each encodes all items of the batch, so that batch norm, CLUB and the negatives see them
        all, and runs the sequence encoder over its own users.
        """
        e = encoded or self.encoded(batch)
        q, quantisation, _ = self.vectors(e.z, e.present)
        reconstruction, bounds = self.content_losses(e, q)
        parts = {"reconstruction": reconstruction, "quantisation": (quantisation * e.present).sum() / len(e.rows)}
        loss = parts["reconstruction"] + parts["quantisation"]
        if self.clubs:
            parts["information"] = bounds.sum()
        if world.size > 1:
            loss, bounds = loss / world.size, bounds / world.size
            parts = {name: part / world.size for name, part in parts.items()}
        if self.alignment is not None:
            parts["recommendation"] = self.sequence_loss(batch, e, q.flatten(1), world)
            loss = loss + self.config.beta * parts["recommendation"]
        if self.clubs:
            # No gradient below zero: an "upper bound" under zero is the estimator's failure, and CLUB would run to -∞.
            floored = bounds if self.config.plain_equations else bounds.clamp(min=0)
            loss = loss + self.config.gamma * floored.sum()
        return parts | {"loss": loss}

    def sequence_loss(self, batch: Batch, e: EncodedBatch, v: Tensor, world: World) -> Tensor:
        """L_Rec (eq. 12): this process's users' share of the mean over all asked positions. v (n, M·D) of e.rows."""
        assert self.alignment is not None
        vectors, weight, candidate = v[: e.targets], self.candidate_rarity(e), e.target
        share, part, position = 1.0, batch, e.position
        if world.size > 1:
            asked = batch.targets != PAD
            mine = torch.zeros_like(asked)
            mine[world.rank :: world.size] = True
            candidate, position = candidate[mine[asked]], position[world.rank :: world.size]
            part, share = batch.part(world.rank, world.size), len(candidate) / len(e.target)
            if not share:  # more processes than users
                return v.sum() * 0
        states = self.alignment.states(torch.where(part.mask.unsqueeze(2), v[position], 0.0), part)
        loss = self.alignment.loss(states, vectors, candidate, weight)
        return loss if share == 1.0 else loss * share

    def candidate_rarity(self, e: EncodedBatch) -> Tensor | None:
        """-log of the chance of each candidate to be one, (c,); None where that does not count in the loss."""
        if self.config.popularity != "loss":
            return None
        return rarity(self.shares[e.rows[: e.targets]], targets=len(e.target))

    def prior(self) -> Tensor | None:
        """What ranking adds to the cosines, (I,): eq. 12 leaves cosines of τ log (p(i | history) / p(i is drawn))."""
        if self.config.popularity != "ranking" or self.alignment is None:
            return None
        return -self.alignment.temperature * rarity(self.shares, targets=self.targets)

    def content_losses(self, e: EncodedBatch, q: Tensor) -> tuple[Tensor, Tensor]:
        """L_recon (eq. 8–9: summed over features, averaged over items), and eq. 3's bound of each modality."""
        # Of a batch without any content, too, there is something to derive.
        reconstruction, bounds = e.z.sum() * 0, [q.new_zeros(())]
        for name in self.modalities:
            modality, signal, specific = self.modality(name), self.signals.index(name), e.specific[name]
            here = e.present[:, signal]
            if not here.any():
                continue
            rows, z = e.rows[here], e.z[here, signal]
            error = modality.decode(q[here, signal], specific).float() - modality.features[rows]
            reconstruction = reconstruction + error.square().sum() / len(e.rows)
            if specific is not None:
                bounds.append(self.club(name).bound(specific, z))
        return reconstruction, torch.stack(bounds)

    def likelihood(self, batch: Batch, encoded: EncodedBatch | None = None) -> Tensor | None:
        """-log q_θ(z̄ | z) on detached inputs: the loss of θ's own optimiser, before each main step."""
        e, total = encoded or self.encoded(batch), None
        for name in self.clubs:
            signal, specific = self.signals.index(name), e.specific[name]
            z = e.z[e.present[:, signal], signal].detach()
            if not len(z):
                continue
            assert specific is not None  # a modality without one has no estimator
            unlikely = -self.club(name).likelihood(specific.detach(), z)
            total = unlikely if total is None else total + unlikely
        return total

    @property
    def items(self) -> int:
        """I."""
        return len(self.ids.weight) if self.ids is not None else len(self.modality(next(iter(self.modalities))).present)

    @torch.no_grad()
    def quantise(self, z: Tensor, present: Tensor, *, block: int = 8192) -> tuple[Tensor, Tensor | None]:
        """v (n, M·D) and codes (n, L, M) (None before initialisation) of z (n, M, D), present (n, M)."""
        vectors, codes = [], []
        for part, here in zip(z.split(block), present.split(block), strict=True):
            q, _, found = self.vectors(part, here)
            vectors.append(q.flatten(1))
            codes += [] if found is None else [found]
        return torch.cat(vectors), torch.cat(codes) if codes else None

    def everywhere(self) -> Tensor:
        """Which items have which signal, (I, M) bool."""
        return self.presence(torch.arange(self.items, device=self.quantizer.codebooks.device))
