"""BBQRec's tokenizer (paper, section 4.1): disentangled encoders, one shared residual codebook, a behavioural task.

n items of a batch, M signals, D width of a code, d width of a feature, L levels. docs/tokenizer.md says where the
paper's equations alone do not train, and what is done about it.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, normalize

from bbqrec_cli.data.batches import Batch, WindowBatches, held_out_batches
from bbqrec_cli.data.splits import PAD, HeldOut
from bbqrec_cli.device import autocast
from bbqrec_cli.errors import DataError
from bbqrec_cli.evaluation.metrics import ndcg_at_k, recall_at_k
from bbqrec_cli.models.layers import embedding
from bbqrec_cli.records import Codes, Feature
from bbqrec_cli.tokenizers.base import RunSettings, Tokenized, TokenizerInput, code_figures, standardized
from bbqrec_cli.tokenizers.configs import BBQRecConfig
from bbqrec_cli.tokenizers.mutual_information import CLUB
from bbqrec_cli.tokenizers.residual_quantizer import ResidualQuantizer
from bbqrec_cli.tokenizers.sequence_alignment import SequenceAlignment, distinct_rows
from bbqrec_cli.tokenizers.training import TokenizerNetwork, fit_tokenizer, mlp

SIGNALS = ("id", "text", "image")


class Modality(nn.Module):
    """One modality's encoders (eq. 2) and decoder (eq. 8).

    The behaviour-aligned output ends in a batch norm without gain and lies on the unit sphere, the specific one in a
    layer norm without gain: neither can shrink to nothing to please CLUB, and all signals meet the codebook on one
    scale.
    """

    features: Tensor
    present: Tensor

    def __init__(self, feature: Feature, *, dim: int, hidden: int, specific: bool) -> None:
        super().__init__()
        width = feature.values.shape[1]
        self.register_buffer("features", torch.from_numpy(standardized(feature)), persistent=False)
        self.register_buffer("present", torch.from_numpy(feature.present.copy()), persistent=False)
        self.aligned = nn.Sequential(*mlp(width, hidden, dim))
        self.norm = nn.BatchNorm1d(dim, affine=False)
        self.specific = nn.Sequential(*mlp(width, hidden, dim)) if specific else None
        self.decoder = nn.Sequential(*mlp((2 if specific else 1) * dim, hidden, width))

    def encode(self, x: Tensor) -> Tensor:
        """z, (n, D) of unit length."""
        return normalize(self.norm(self.aligned(x).float()), dim=1)

    def encode_specific(self, x: Tensor) -> Tensor | None:
        """z̄, (n, D) of length √D, or None in the variant ¬MIM."""
        if self.specific is None:
            return None
        specific = self.specific(x).float()
        return layer_norm(specific, specific.shape[1:])

    def decode(self, q: Tensor, specific: Tensor | None) -> Tensor:
        """x̂ of q ⊕ z̄ (both scaled to components of about 1), (n, d)."""
        q = q * q.shape[1] ** 0.5
        return self.decoder(q if specific is None else torch.cat([q, specific], dim=1))


class BBQRecQuantizer(TokenizerNetwork):
    """All parameters of section 4.1 but θ's optimiser; `loss` is eq. 13 on one batch of users."""

    def __init__(
        self, config: BBQRecConfig, *, items: int, features: dict[str, Feature], signals: tuple[str, ...], history: int
    ) -> None:
        super().__init__()
        self.config, self.signals = config, signals
        self.ids = embedding(items, config.dim) if "id" in signals else None
        self.modalities = nn.ModuleDict(
            {
                name: Modality(features[name], dim=config.dim, hidden=config.hidden, specific=config.mim)
                for name in signals
                if name != "id"
            }
        )
        self.clubs = nn.ModuleDict(
            {name: CLUB(config.dim, hidden=config.hidden) for name in self.modalities if config.mim}
        )
        self.quantizer = ResidualQuantizer(
            signals=len(signals), levels=config.levels, codebook_size=config.codebook_size, dim=config.dim,
            shared=config.shared_codebook, commitment=config.alpha,
        )  # fmt: skip
        self.alignment = SequenceAlignment(
            len(signals) * config.dim, layers=config.sequence_layers, heads=config.sequence_heads,
            dropout=config.dropout, history=history, temperature=config.tau,
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
                parts.append(normalize(self.ids(rows).float(), dim=1))
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
        q, quantisation, _ = self.vectors(z, present)
        parts = {"quantisation": (quantisation * present).sum() / len(rows)}
        parts |= self.content_losses(rows, z, q, present)
        if self.config.rec:
            v = q.flatten(1)
            states = self.alignment.states(torch.where(batch.mask.unsqueeze(2), v[position], 0.0), batch)
            candidates, answer = v[: int(targets)], target
            if self.config.negatives == "all":
                candidates, answer = self.all_vectors(), rows[target]
            parts["recommendation"] = self.alignment.loss(states, candidates, answer)
        weights = {
            "reconstruction": self.config.reconstruction,
            "recommendation": self.config.beta,
            "information": self.config.gamma,
        }
        # No gradient below zero: an "upper bound" under zero is the estimator's failure, and CLUB would run to -∞.
        charged = {k: v.clamp(min=0) if k == "information" else v for k, v in parts.items()}
        return parts | {"loss": torch.stack([weights.get(k, 1.0) * v for k, v in charged.items()]).sum()}

    def content_losses(self, rows: Tensor, z: Tensor, q: Tensor, present: Tensor) -> dict[str, Tensor]:
        """L_recon (eq. 8–9: summed over features, averaged over items) and L_MIM (eq. 3)."""
        reconstruction, information = z.new_zeros(()), z.new_zeros(())
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
                information = information + self.club(name).bound(specific, z[here, signal])
        return (
            {"reconstruction": reconstruction, "information": information}
            if self.clubs
            else {"reconstruction": reconstruction}
        )

    def likelihood(self, batch: Batch) -> Tensor:
        """-log q_θ(z̄ | z) on detached inputs: the loss of θ's own optimiser, before each main step."""
        rows, *_ = distinct_rows(batch)
        total = torch.zeros((), device=rows.device)
        for name in self.clubs:
            modality = self.modality(name)
            x = modality.features[rows[modality.present[rows]]]
            if len(x) > 1:
                with torch.no_grad():
                    z, specific = modality.encode(x), modality.encode_specific(x)
                if specific is not None:
                    total = total - self.club(name).likelihood(specific, z)
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
    def assign(self, *, block: int = 8192) -> tuple[Tensor, Tensor | None]:
        """Every item's v (I, M·D) and codes (I, L, M) (None before initialisation), in evaluation mode."""
        vectors, codes = [], []
        for rows in torch.arange(self.items, device=self.quantizer.codebooks.device).split(block):
            q, _, found = self.vectors(self.encode(rows), self.presence(rows))
            vectors.append(q.flatten(1))
            codes.append(found)
        return torch.cat(vectors), None if codes[0] is None else torch.cat([c for c in codes if c is not None])


class BBQRec:
    """The paper's tokenizer; see `BBQRecConfig` for its options."""

    def __init__(self, config: BBQRecConfig) -> None:
        self.config = config

    def fit(self, inputs: TokenizerInput, run: RunSettings) -> Tokenized:
        """Warm-up without quantisation, k-means on what was learnt, then training with quantisation."""
        signals = choose_signals(self.config, inputs)
        train = WindowBatches(inputs.train, batch_size=self.config.batch_size, seed=run.seed)
        if self.config.rec and not train.targets:
            raise DataError("no user has two training items: nothing for the sequence-to-item task", "--no-rec")

        def make() -> BBQRecQuantizer:
            return BBQRecQuantizer(
                self.config, items=inputs.items, features=dict(inputs.features), signals=signals, history=train.history
            ).to(run.device)

        def report(model: BBQRecQuantizer, epoch: int) -> dict[str, Any]:
            return figures(model, inputs.validation, run)

        def start(model: BBQRecQuantizer, epoch: int) -> None:
            if epoch >= self.config.warmup_epochs and not model.quantizer.initialised:
                initialise(model, run)

        model, history = fit_tokenizer(
            make, train, start, report, run, epochs=self.config.epochs, learning_rate=self.config.learning_rate
        )
        model.settle()
        vectors, codes = model.assign()
        assert codes is not None
        return Tokenized(
            codes=Codes(
                codes=codes.cpu().numpy().astype(np.uint16), modalities=signals, method="bbqrec",
                codebook_size=self.config.codebook_size, codebooks=model.quantizer.codebooks.detach().cpu().numpy(),
                item_vectors=vectors.float().cpu().numpy(),
            ),
            history=history,
        )  # fmt: skip


def choose_signals(config: BBQRecConfig, inputs: TokenizerInput) -> tuple[str, ...]:
    """The signals in the order id, text, image, others.

    Raises:
        DataError: one that was asked for is not in the file; none is left.
    """
    known = ("id", *(s for s in SIGNALS[1:] if s in inputs.features), *(s for s in inputs.features if s not in SIGNALS))
    asked = config.signals or known
    for name in asked:
        if name not in known:
            raise DataError(f"--signals names {name!r}; the file has {', '.join(known)}", "embed it, or leave it out")
    chosen = tuple(s for s in known if s in asked and (s != "id" or config.rec))
    if not chosen:
        raise DataError("no signal is left: without the sequence-to-item task the ID learns nothing", "--rec")
    return chosen


@torch.no_grad()
def initialise(model: BBQRecQuantizer, run: RunSettings) -> None:
    """k-means, level after level, on all items' encoder outputs of all signals together."""
    model.eval()
    model.settle()
    rows = torch.arange(model.items, device=run.device)
    model.quantizer.initialise(model.encode(rows), model.presence(rows), seed=run.seed)
    model.train()
    run.progress.log(f"codebooks initialised by k-means on {len(rows)} items × {len(model.signals)} signals")


@torch.no_grad()
def figures(model: BBQRecQuantizer, validation: HeldOut | None, run: RunSettings) -> dict[str, Any]:
    """The epoch's usage, perplexity, collisions and the sequence encoder's validation recall (full ranking)."""
    model.eval()
    model.settle()
    vectors, codes = model.assign()
    found: dict[str, Any] = {"quantised": codes is not None}
    if codes is not None:
        found |= code_figures(codes.cpu().numpy(), model.signals, model.config.codebook_size)
    if validation is not None and model.config.rec and len(validation.users):
        ranks = np.zeros(len(validation.users), dtype=np.int64)
        with autocast(run.device, run.precision):
            for rows, batch in held_out_batches(validation, 512):
                batch = batch.to(run.device)
                states = model.alignment.states(torch.where(batch.mask.unsqueeze(2), vectors[batch.items], 0.0), batch)
                scores = model.alignment.scores(states, vectors)
                answer = batch.targets[batch.targets != PAD]
                ranks[rows] = (scores > scores.gather(1, answer.unsqueeze(1))).sum(1).cpu().numpy() + 1
        found |= {"recall@10": float(recall_at_k(ranks, 10).mean()), "ndcg@10": float(ndcg_at_k(ranks, 10).mean())}
    model.train()
    return found
