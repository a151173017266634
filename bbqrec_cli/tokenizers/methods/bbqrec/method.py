"""BBQRec's tokenizer: fitting the network, and the codes that come of it. I items, U users, M signals, D width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from bbqrec_cli.config import did_you_mean
from bbqrec_cli.data.batches import WindowBatches, held_out_batches
from bbqrec_cli.data.features import usable
from bbqrec_cli.data.splits import PAD, HeldOut, subsample_users
from bbqrec_cli.device import autocast
from bbqrec_cli.errors import DataError, UsageError, import_faiss
from bbqrec_cli.evaluation.metrics import aggregate
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.records import Codes, ItemEncoder
from bbqrec_cli.tokenizers.base import Encode, Tokenized, TokenizerInput, code_figures, collapsed
from bbqrec_cli.tokenizers.methods.bbqrec.alignment import SequenceAlignment
from bbqrec_cli.tokenizers.methods.bbqrec.network import BBQRecQuantizer
from bbqrec_cli.tokenizers.methods.bbqrec.restore import keep_encoder, restore_encoder
from bbqrec_cli.tokenizers.methods.item_table import warm_vectors
from bbqrec_cli.tokenizers.options.bbqrec import BBQRecConfig
from bbqrec_cli.tokenizers.training import fit_tokenizer
from bbqrec_cli.training.trainer import RunSettings

SIGNALS = ("id", "text", "image")
PAIRS, FEWEST = 1 << 30, 1000
"""Pairs of a validation user and an item that an epoch's figures compare, and the users that they have in any case."""


class BBQRec:
    """The paper's tokenizer; see `BBQRecConfig` for its options."""

    needs_features = True

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
        import_faiss()  # k-means comes after the warm-up: too late to say that something is missing
        config, signals = self.config, choose_signals(self.config, inputs)
        train = WindowBatches(inputs.train, batch_size=config.batch_size, seed=run.seed)
        if not train.targets:
            raise DataError(
                "no user has 2 training interactions: nothing to learn from", "--method rqvae needs content only"
            )

        validation = validation_sample(inputs.validation, inputs.items, run.progress)
        # An item without interactions counts half, so that it can be ranked.
        counts = np.maximum(np.bincount(inputs.train.items, minlength=inputs.items), 0.5)
        if config.warm_start and "id" not in signals:
            raise UsageError("--warm-start needs the signal id, which is not among the signals", "--signals id,…")
        known = warm_vectors(Path(config.warm_start), inputs, config.dim, seed=run.seed) if config.warm_start else None

        def make() -> BBQRecQuantizer:
            model = BBQRecQuantizer(
                config, items=inputs.items, features=inputs.features, signals=signals, history=train.history,
                shares=counts / counts.sum(), targets=round(train.targets / len(train.epoch(0))),
            )  # fmt: skip
            if known is not None and model.ids is not None:
                model.ids.weight.data.copy_(torch.from_numpy(known))
            return model.to(run.device)

        def start(model: BBQRecQuantizer, epoch: int) -> None:
            if epoch >= config.warmup and not model.quantizer.initialised:
                initialise(model, run)

        having = {s: int(inputs.present[s].sum()) if s in inputs.present else inputs.items for s in signals}
        model, history = fit_tokenizer(
            make, train, start, lambda model, _: figures(model, validation, run),
            lambda row: collapsed(row, config.codebook_size, having), run,
            epochs=config.epochs, learning_rate=config.learning_rate,
        )  # fmt: skip
        latents, present = model.encode_catalogue(), model.everywhere()
        vectors, codes = model.quantise(latents, present)
        assert codes is not None  # the configuration leaves at least one epoch after the warm-up
        return Tokenized(
            codes=Codes(
                codes=codes.cpu().numpy().astype(np.uint16), modalities=signals, method=self.config.name,
                codebook_size=config.codebook_size, codebooks=model.quantizer.codebooks.detach().cpu().numpy(),
                item_vectors=vectors.float().cpu().numpy(), present=present.cpu().numpy(),
            ),
            history=history, latents=latents.cpu().numpy(),
            encoder=keep_encoder(model, inputs.features),
        )  # fmt: skip

    def restore(self, codes: Codes, encoder: ItemEncoder, device: torch.device) -> Encode:
        """See `ContentTokenizer.restore`."""
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
                f"--signals names {name!r}; {what}{did_you_mean(name, known)}", "bbqrec embed, or leave the signal out"
            )
    chosen = tuple(s for s in known if s in (config.signals or known) and (s != "id" or config.rec))
    if not chosen:
        raise DataError("no signal is left: with --no-rec the signal id is left out", "--rec")
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
    model.quantizer.initialise(model.encode_catalogue(), model.everywhere(), seed=run.seed)
    run.progress.log(f"codebooks initialised by k-means on {model.items:,} items × {len(model.signals)} signals")


@torch.no_grad()
def figures(model: BBQRecQuantizer, validation: HeldOut | None, run: RunSettings) -> dict[str, Any]:
    """The epoch's usage, perplexity, collisions and the sequence encoder's validation recall (full ranking)."""
    model.eval()
    present = model.everywhere()
    vectors, codes = model.quantise(model.encode_catalogue(), present)
    found: dict[str, Any] = {"quantised": codes is not None}
    if codes is not None:
        found |= code_figures(codes.cpu().numpy(), model.signals, present.cpu().numpy())
    if validation is not None and model.alignment is not None and len(validation.users):
        ranks = validation_ranks(model.alignment, vectors, validation, run, prior=model.prior())
        found |= aggregate(ranks, (10,))
    return found


def validation_sample(validation: HeldOut | None, items: int, progress: Progress = SILENT) -> HeldOut | None:
    """The users on whom an epoch's figures are measured, evenly spaced: where users and items are many, comparing all
    of them would take longer than the epoch's training."""
    if validation is None:
        return None
    chosen = subsample_users(validation, max(FEWEST, PAIRS // items))
    if len(chosen.users) < len(validation.users):
        progress.log(f"validation figures are of {len(chosen.users):,} of {len(validation.users):,} users")
    return chosen


def validation_ranks(
    alignment: SequenceAlignment, vectors: Tensor, validation: HeldOut, run: RunSettings, *, prior: Tensor | None = None
) -> np.ndarray:
    """Rank of each user's target among all items (docs/protocol.md): equal scores in the order of the items' rows.

    vectors (I, V) of all items, prior (I,) added to their cosines -> (U,) int64, from 1.
    """
    ranks, unit = np.zeros(len(validation.users), dtype=np.int64), normalize(vectors.float(), dim=1)
    rows_of_items = torch.arange(len(vectors), device=vectors.device)
    for users, batch in held_out_batches(validation, max(1, min(512, (1 << 26) // len(vectors)))):
        batch = batch.to(run.device)
        with autocast(run.device, run.precision):
            states = alignment.states(torch.where(batch.mask.unsqueeze(2), vectors[batch.items], 0.0), batch)
        # Outside autocast: in bfloat16 hundreds of items would tie with the target.
        scores = normalize(states.float(), dim=1) @ unit.T
        scores += 0 if prior is None else prior
        target = batch.targets[batch.targets != PAD].unsqueeze(1)
        own = scores.gather(1, target)
        # Comparisons as 0.0 and 1.0 are summed where they are; as booleans they would be copied to integers first.
        above = torch.gt(scores, own, out=torch.empty_like(scores)).sum(1)
        tied = torch.eq(scores, own, out=torch.empty_like(scores)).sum(1) > 1
        if tied.any():
            above[tied] += ((scores[tied] == own[tied]) & (rows_of_items < target[tied])).sum(1)
        ranks[users] = above.cpu().numpy() + 1
    return ranks
