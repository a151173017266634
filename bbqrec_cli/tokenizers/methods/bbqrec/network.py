"""BBQRec's tokenizer as a network (paper, section 4.1): disentangled encoders, one shared residual codebook, a
behavioural task.

n items of a batch, M signals, D width of a code, d width of a feature, L levels. docs/tokenizer.md says where the
paper's equations alone do not train, and what is done about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.models.layers import embedding
from bbqrec_cli.records import Feature
from bbqrec_cli.tokenizers.methods.bbqrec.alignment import SequenceAlignment, distinct_rows, rarity
from bbqrec_cli.tokenizers.methods.bbqrec.club import CLUB
from bbqrec_cli.tokenizers.methods.bbqrec.modality import Modality
from bbqrec_cli.tokenizers.options.bbqrec import BBQRecConfig
from bbqrec_cli.tokenizers.quantization.residual import ResidualQuantizer
from bbqrec_cli.tokenizers.training import TokenizerNetwork
from bbqrec_cli.training.distributed import ALONE, World


class BBQRecQuantizer(TokenizerNetwork):
    """All parameters of section 4.1 but θ's optimiser; `loss` is eq. 13 on one batch of users.

    Args:
        history: items that a window of the batches may hold.
        shares: (I,) each item's share of the training interactions.
        targets: of a usual batch.
    """

    shares: Tensor

    def __init__(
        self, config: BBQRecConfig, *, items: int, features: Mapping[str, Feature], signals: tuple[str, ...], history: int,
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
                    features[name], dim=config.dim, hidden=config.hidden, specific=config.mim, unit=not config.plain_equations
                )
                for name in signals
                if name != "id"
            }
        )
        self.clubs = nn.ModuleDict(
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
                parts.append(part if self.config.plain_equations else normalize(part, dim=1))
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

    def loss(self, batch: Batch, world: World = ALONE) -> dict[str, Tensor]:
        """Eq. 13 and its parts: {'loss', 'reconstruction', 'quantisation', 'recommendation', 'information'}.

        Of several processes, each encodes all items of the batch, so that batch norm, CLUB and the negatives see them
        all, and runs the sequence encoder over its own users.
        """
        rows, position, target, targets = distinct_rows(batch)
        present, z = self.presence(rows), self.encode(rows)
        q, quantisation, _ = self.vectors(z, present)
        reconstruction, bounds = self.content_losses(rows, z, q, present)
        parts = {"reconstruction": reconstruction, "quantisation": (quantisation * present).sum() / len(rows)}
        loss = parts["reconstruction"] + parts["quantisation"]
        own = None
        if self.alignment is not None:
            own = self.sequence_loss(batch, rows[:targets], q.flatten(1), position, target, world)
            parts["recommendation"] = own
        if self.clubs:
            parts["information"] = bounds.sum()
        if world.size > 1:
            loss = loss / world.size
            parts |= {name: part / world.size for name, part in parts.items() if name != "recommendation"}
        if own is not None:
            loss = loss + self.config.beta * own
        if self.clubs:
            # No gradient below zero: an "upper bound" under zero is the estimator's failure, and CLUB would run to -∞.
            floored = (bounds if self.config.plain_equations else bounds.clamp(min=0)).sum()
            loss = loss + self.config.gamma * (floored / world.size if world.size > 1 else floored)
        return parts | {"loss": loss}

    def sequence_loss(
        self, batch: Batch, targets: Tensor, v: Tensor, position: Tensor, target: Tensor, world: World
    ) -> Tensor:
        """L_Rec (eq. 12): this process's users' share of the mean over all asked positions.

        targets (n,) the batch's distinct target items, whose vectors come first in v (n', M·D); position (B, T) of the
        history's items in v, target (P,) of each asked position among the targets.
        """
        assert self.alignment is not None
        vectors, candidate, weight = self.candidates(targets, v, target)
        share, part = 1.0, batch
        if world.size > 1:
            asked = batch.targets != PAD
            mine = torch.zeros_like(asked)
            mine[world.rank :: world.size] = True
            candidate, position = candidate[mine[asked]], position[world.rank :: world.size]
            part = batch.part(world.rank, world.size)
            width = int(part.lengths.max()) if len(part.items) else 0
            share = len(candidate) / len(target)
            if not share or not width:
                return v.sum() * 0
        states = self.alignment.states(torch.where(part.mask.unsqueeze(2), v[position], 0.0), part)
        loss = self.alignment.loss(states, vectors, candidate, weight)
        return loss if share == 1.0 else loss * share

    def candidates(self, targets: Tensor, v: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What h_t is compared with.

        Args:
            targets: (n,) the batch's distinct target items, whose vectors come first in v; target: (P,) rows of them.

        Returns:
            vectors, each position's row among them, and -log of the chance to be drawn (None: none is weighed).
        """
        if self.config.negatives == "all":
            return self.catalogue_vectors(), targets[target], None
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

    def catalogue_vectors(self) -> Tensor:
        """v of every item, (I, M·D), with gradients in training."""
        rows = torch.arange(self.items, device=self.quantizer.codebooks.device)
        present = self.presence(rows)
        return self.vectors(self.encode(rows), present)[0].flatten(1)

    @property
    def items(self) -> int:
        """I."""
        return len(self.ids.weight) if self.ids is not None else len(self.modality(next(iter(self.modalities))).present)

    @torch.no_grad()
    def use_catalogue_statistics(self, *, block: int = 8192) -> None:
        """Give the batch norms the whole catalogue's statistics, so that codes do not depend on the last batches."""
        for name in self.modalities:
            modality = self.modality(name)
            x = modality.features[modality.present]
            outputs = torch.cat([modality.aligned(part).float() for part in x.split(block)]) if len(x) else x
            if len(outputs) > 1:
                modality.norm.running_mean, modality.norm.running_var = outputs.mean(0), outputs.var(0)

    @torch.no_grad()
    def latents(self, *, block: int = 8192) -> Tensor:
        """z of every item, (I, M, D)."""
        every = torch.arange(self.items, device=self.quantizer.codebooks.device)
        return torch.cat([self.encode(rows) for rows in every.split(block)])

    @torch.no_grad()
    def quantise_catalogue(self, *, block: int = 8192) -> tuple[Tensor, Tensor | None, Tensor]:
        """Every item's v (I, M·D), codes (I, L, M) (None before initialisation) and presence (I, M)."""
        vectors, codes, presence = [], [], []
        for rows in torch.arange(self.items, device=self.quantizer.codebooks.device).split(block):
            presence.append(self.presence(rows))
            q, _, found = self.vectors(self.encode(rows), presence[-1])
            vectors.append(q.flatten(1))
            codes += [] if found is None else [found]
        return torch.cat(vectors), torch.cat(codes) if codes else None, torch.cat(presence)
