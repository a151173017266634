"""TIGER's tokenizer: an RQ-VAE over content features (Rajput et al., NeurIPS 2023).

n items, d width of the features, D width of a code, L levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bbqrec_cli.errors import import_faiss
from bbqrec_cli.records import Codes, Feature, ItemEncoder
from bbqrec_cli.seeds import numpy_generator, torch_generator
from bbqrec_cli.tokenizers.assignment.encoding import (
    item_encoder,
    load_weights,
    quantised,
    residual_quantizer,
    scale_feature,
)
from bbqrec_cli.tokenizers.base import (
    Encode,
    Encoded,
    Tokenized,
    TokenizerInput,
    code_figures,
    collapsed,
)
from bbqrec_cli.tokenizers.content import SIGNAL, Content, choose_content, content_names, side_by_side
from bbqrec_cli.tokenizers.options.rqvae import RQVAEConfig
from bbqrec_cli.tokenizers.quantization.residual import Quantized, ResidualQuantizer
from bbqrec_cli.tokenizers.training import TokenizerNetwork, fit_tokenizer
from bbqrec_cli.training.distributed import ALONE, World
from bbqrec_cli.training.trainer import RunSettings

RESTART_SHARE = 0.8
"""Share of the epochs in which unused codes are moved; afterwards the codebooks settle."""


class ItemBatches:
    """Batches of items in random order, their rows. rows (n,)."""

    def __init__(self, rows: np.ndarray, *, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed

    @property
    def targets(self) -> int:
        """Items per epoch."""
        return len(self.rows)

    def epoch(self, number: int) -> Sequence[Tensor]:
        """See `Batches.epoch`."""
        order = numpy_generator(self.seed, "rows", number).permutation(self.rows)
        return torch.from_numpy(order).split(self.batch_size)


class RQVAENetwork(TokenizerNetwork):
    """Encoder, residual quantiser, decoder; `loss` is L_RQ-VAE of eq. 9 for one signal, plus `extra_losses`."""

    features: Tensor
    present: Tensor

    def __init__(self, config: RQVAEConfig, content: Content) -> None:
        super().__init__()
        width, self.sinkhorn = content.values.shape[1], config.sinkhorn
        sizes = layer_widths(width, config)
        self.register_buffer("features", torch.from_numpy(content.values), persistent=False)
        self.register_buffer("present", torch.from_numpy(content.present), persistent=False)
        self.encoder, self.decoder = mlp(sizes), mlp(sizes[::-1])
        self.quantizer = ResidualQuantizer(
            signals=1,
            levels=config.levels,
            codebook_size=config.codebook_size,
            dim=config.dim,
            shared=True,
            commitment=config.alpha,
        )

    def loss(self, rows: Tensor, world: World = ALONE, encoded: None = None) -> dict[str, Tensor]:
        """{'loss', 'reconstruction' (summed over present features, averaged over items), 'quantisation'} and the parts
        of `extra_losses`. These couple the items of a batch, rows (n,), so every process computes the whole batch."""
        x = self.features[rows]
        z, found = self.encoder(x).float(), None
        quantisation = z.new_zeros(())
        if self.quantizer.initialised:
            found = self.quantizer(z.unsqueeze(1), sinkhorn=self.sinkhorn)
            z, quantisation = found.vectors.squeeze(1), found.loss.mean()
        error = (self.decoder(z).float() - x) * self.present[rows]
        reconstruction = error.square().sum(1).mean()
        added, parts = self.extra_losses(rows, z, found)
        parts = {"reconstruction": reconstruction, "quantisation": quantisation} | parts
        parts = {"loss": reconstruction + quantisation + added} | parts
        return parts if world.size == 1 else {name: part / world.size for name, part in parts.items()}

    def extra_losses(self, rows: Tensor, vectors: Tensor, found: Quantized | None) -> tuple[Tensor, dict[str, Tensor]]:
        """Further losses: their weighted sum, and the parts for the figures. A plain RQ-VAE has none.

        rows (n,); vectors (n, D), quantised (straight-through), or z during the warm-up, when found is None.
        """
        return vectors.new_zeros(()), {}

    @torch.no_grad()
    def encode(self, rows: Tensor) -> Tensor:
        """z of the items `rows` (n,): (n, 1, D)."""
        return torch.cat([self.encoder(self.features[part]).float() for part in rows.split(8192)]).unsqueeze(1)

    @torch.no_grad()
    def restart_dead_codes(self, rows: Tensor, *, seed: int, epoch: int) -> None:
        """Move each code that none of the items `rows` uses to the residual of a random one of them."""
        residual = self.encode(rows)
        codes = self.quantizer(residual).codes[:, :, 0]
        residual, generator = residual[:, 0], torch_generator(seed, "dead codes", epoch)
        for level in range(codes.shape[1]):
            book = self.quantizer.codebooks[0, level]
            dead = torch.bincount(codes[:, level], minlength=len(book)) == 0
            chosen = torch.randint(len(residual), (int(dead.sum()),), generator=generator).to(residual.device)
            used = book[codes[:, level]]
            book[dead] = residual[chosen]
            residual = residual - used


class RQVAE:
    """See `RQVAEConfig` for its options."""

    needs_features = True

    def __init__(self, config: RQVAEConfig) -> None:
        self.config = config

    def fit(self, inputs: TokenizerInput, run: RunSettings) -> Tokenized:
        """Warm-up without quantisation, k-means, training with quantisation; items without content share an ID.

        Raises:
            DataError: features that are missing.
            MissingPackageError: faiss is not installed.
            InterruptedRunError: Ctrl-C or SIGTERM.
        """
        import_faiss()  # checked first, since k-means comes only after the warm-up
        config = self.config
        content = choose_content(config, inputs, run.progress)
        having = np.flatnonzero(content.has_content)
        make = self.network(content, inputs, run)

        def report(model: RQVAENetwork, epoch: int) -> dict[str, Any]:
            if not model.quantizer.initialised:
                return {"quantised": False}
            return {"quantised": True} | code_figures(assign_codes(model)[0], (SIGNAL,), content.has_content[:, None])

        model, history = fit_tokenizer(
            make, ItemBatches(having, batch_size=config.batch_size, seed=run.seed),
            lambda model, epoch: self.start(model, epoch, torch.from_numpy(having).to(run.device), run), report,
            lambda row: collapsed(row, config.codebook_size, {SIGNAL: len(having)}), run,
            epochs=config.epochs, learning_rate=config.learning_rate,
        )  # fmt: skip
        codes, vectors = assign_codes(model)
        latents = model.encode(torch.arange(inputs.items, device=run.device))
        return Tokenized(
            codes=Codes(
                codes=codes.astype(np.uint16), modalities=(SIGNAL,), method=self.config.name,
                codebook_size=config.codebook_size, codebooks=model.quantizer.codebooks.detach().cpu().numpy(),
                item_vectors=vectors, present=content.has_content[:, None],
            ),
            history=history, latents=latents.detach().cpu().numpy(),
            encoder=item_encoder(inputs.features, tuple(content.features), {"encoder": model.encoder}),
        )  # fmt: skip

    def network(self, content: Content, inputs: TokenizerInput, run: RunSettings) -> Callable[[], RQVAENetwork]:
        """A function that builds the network."""
        return lambda: RQVAENetwork(self.config, content).to(run.device)

    def start(self, model: RQVAENetwork, epoch: int, learnt: Tensor, run: RunSettings) -> None:
        """Before an epoch: initialise the codebooks after the warm-up; later, move unused codes.

        learnt (n,): rows of the items with content.
        """
        config = self.config
        if not model.quantizer.initialised:
            if epoch >= config.warmup:
                every = torch.ones(len(learnt), 1, dtype=torch.bool)
                model.quantizer.initialise(model.encode(learnt), every, seed=run.seed)
                run.progress.log(f"codebooks initialised by k-means on {len(learnt):,} items")
        elif config.restart_dead_codes and epoch < RESTART_SHARE * config.epochs:
            model.restart_dead_codes(learnt, seed=run.seed, epoch=epoch)

    def reads(self, present: Mapping[str, np.ndarray]) -> tuple[str, ...]:
        """See `SampleTokenizer.reads`."""
        return content_names(self.config, present)

    def restore(self, codes: Codes, encoder: ItemEncoder, device: torch.device) -> Encode:
        """See `ContentTokenizer.restore`."""
        assert codes.codebooks is not None  # files with an encoder have them
        quantizer = residual_quantizer(codes.codebooks, signals=1, device=device)
        width = sum(each["width"] for each in encoder.inputs.values())
        network = mlp(layer_widths(width, self.config))
        load_weights(network, "encoder", encoder)
        network.to(device)

        @torch.no_grad()
        def encode(features: Mapping[str, Feature]) -> Encoded:
            values = [scale_feature(features[name], name, encoder) for name in encoder.inputs]
            having = np.any([features[name].present for name in encoder.inputs], axis=0)
            latents = network(torch.from_numpy(side_by_side(values)).to(device)).float()
            return quantised(quantizer, latents.unsqueeze(1), having[:, None])

        return encode


def layer_widths(width: int, config: RQVAEConfig) -> list[int]:
    """Widths from the encoder's input, d, to its output, D."""
    return [width, *(max(1, config.hidden >> number) for number in range(config.hidden_layers)), config.dim]


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def assign_codes(model: RQVAENetwork) -> tuple[np.ndarray, np.ndarray]:
    """Codes (I, L, 1) and quantised vectors (I, D) of all items; zero vectors without content."""
    found = model.quantizer(model.encode(torch.arange(len(model.features), device=model.features.device)))
    vectors = found.vectors.flatten(1) * model.present.any(1, keepdim=True)
    return found.codes.cpu().numpy(), vectors.cpu().numpy()
