"""TIGER's tokenizer: an RQ-VAE over content features (Rajput et al., NeurIPS 2023).

n items, d features, D width of a code, L levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bbqrec_cli.errors import DataError
from bbqrec_cli.records import Codes
from bbqrec_cli.seeds import numpy_generator, torch_generator
from bbqrec_cli.tokenizers.base import RunSettings, Tokenized, TokenizerInput, code_figures, standardized
from bbqrec_cli.tokenizers.configs import RQVAEConfig
from bbqrec_cli.tokenizers.residual_quantizer import ResidualQuantizer
from bbqrec_cli.tokenizers.training import TokenizerNetwork, fit_tokenizer

SIGNAL = "content"


@dataclass(frozen=True, eq=False)
class Rows:
    """A batch of items."""

    rows: Tensor

    def to(self, device: torch.device) -> Rows:
        """On another device."""
        return Rows(self.rows.to(device))


class RowBatches:
    """All items in random order, in batches."""

    def __init__(self, items: int, *, batch_size: int, seed: int) -> None:
        self.items, self.batch_size, self.seed = items, batch_size, seed

    def epoch(self, number: int) -> list[Rows]:
        """The batches of epoch `number`; a last batch of one item is left out."""
        order = numpy_generator(self.seed, "rows", number).permutation(self.items)
        parts = torch.from_numpy(order).split(self.batch_size)
        return [Rows(part) for part in parts if len(part) > 1 or len(parts) == 1]


class RQVAENetwork(TokenizerNetwork):
    """Encoder, residual quantiser, decoder; `loss` is L_RQ-VAE of eq. 9 for one signal."""

    features: Tensor

    def __init__(self, config: RQVAEConfig, features: np.ndarray) -> None:
        super().__init__()
        width, hidden = features.shape[1], config.hidden
        self.register_buffer("features", torch.from_numpy(features), persistent=False)
        self.encoder = nn.Sequential(
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden // 2),
            nn.ReLU(),
            nn.Linear(hidden // 2, config.dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.dim, hidden // 2),
            nn.ReLU(),
            nn.Linear(hidden // 2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, width),
        )
        self.quantizer = ResidualQuantizer(
            signals=1,
            levels=config.levels,
            codebook_size=config.codebook_size,
            dim=config.dim,
            shared=True,
            commitment=config.alpha,
        )

    def loss(self, batch: Rows) -> dict[str, Tensor]:
        """{'loss', 'reconstruction' (summed over features, averaged over items), 'quantisation'}."""
        x = self.features[batch.rows]
        z = self.encoder(x).float()
        quantisation = z.new_zeros(())
        if self.quantizer.initialised:
            found = self.quantizer(z.unsqueeze(1))
            z, quantisation = found.vectors.squeeze(1), found.loss.mean()
        reconstruction = (self.decoder(z).float() - x).square().sum(1).mean()
        return {"loss": reconstruction + quantisation, "reconstruction": reconstruction, "quantisation": quantisation}

    @torch.no_grad()
    def encode(self) -> Tensor:
        """z of all items, (I, 1, D)."""
        return torch.cat([self.encoder(part).float() for part in self.features.split(8192)]).unsqueeze(1)

    @torch.no_grad()
    def restart_dead_codes(self, *, seed: int, epoch: int) -> None:
        """Put each unused code onto the residual of a random item."""
        residual = self.encode()[:, 0]
        codes = self.quantizer(residual.unsqueeze(1)).codes[:, :, 0]
        generator = torch_generator(seed, "dead codes", epoch)
        for level in range(codes.shape[1]):
            book = self.quantizer.codebooks[0, level]
            dead = torch.bincount(codes[:, level], minlength=len(book)) == 0
            rows = torch.randint(len(residual), (int(dead.sum()),), generator=generator).to(residual.device)
            residual_before = residual
            residual = residual - book[codes[:, level]]
            book[dead] = residual_before[rows]


class RQVAE:
    """See `RQVAEConfig` for its options."""

    def __init__(self, config: RQVAEConfig) -> None:
        self.config = config

    def fit(self, inputs: TokenizerInput, run: RunSettings) -> Tokenized:
        """Warm-up without quantisation, k-means, then training with quantisation; items without content share an ID."""
        config, features = self.config, content(self.config, inputs)
        every = torch.ones(inputs.items, 1, dtype=torch.bool)

        def start(model: RQVAENetwork, epoch: int) -> None:
            if epoch >= config.warmup_epochs and not model.quantizer.initialised:
                model.quantizer.initialise(model.encode(), every, seed=run.seed)
            elif model.quantizer.initialised and config.restart_dead_codes and epoch < 0.8 * config.epochs:
                model.restart_dead_codes(seed=run.seed, epoch=epoch)

        def report(model: RQVAENetwork, epoch: int) -> dict[str, Any]:
            if not model.quantizer.initialised:
                return {}
            return code_figures(codes_of(model), (SIGNAL,), config.codebook_size)

        model, history = fit_tokenizer(
            lambda: RQVAENetwork(config, features).to(run.device),
            RowBatches(inputs.items, batch_size=config.batch_size, seed=run.seed),
            start, report, run, epochs=config.epochs, learning_rate=config.learning_rate,
        )  # fmt: skip
        with torch.no_grad():
            found = model.quantizer(model.encode())
        return Tokenized(
            codes=Codes(
                codes=found.codes.cpu().numpy().astype(np.uint16), modalities=(SIGNAL,), method="rqvae",
                codebook_size=config.codebook_size, codebooks=model.quantizer.codebooks.detach().cpu().numpy(),
                item_vectors=found.vectors.flatten(1).cpu().numpy(),
            ),
            history=history,
        )  # fmt: skip


@torch.no_grad()
def codes_of(model: RQVAENetwork) -> np.ndarray:
    """(I, L, 1)."""
    return model.quantizer(model.encode()).codes.cpu().numpy()


def content(config: RQVAEConfig, inputs: TokenizerInput) -> np.ndarray:
    """The asked features side by side, standardised, (I, d).

    Raises:
        DataError: one that was asked for is not in the file, or there is none at all.
    """
    names = config.signals or (("text",) if "text" in inputs.features else tuple(inputs.features))
    for name in names:
        if name not in inputs.features:
            has = ", ".join(inputs.features) or "none"
            raise DataError(f"--signals names {name!r}; the file has {has}", "rqvae quantises content, not ids")
    if not names:
        raise DataError("the features file holds no features, and rqvae quantises content", "bbqrec embed")
    return np.concatenate([standardized(inputs.features[name]) for name in names], axis=1)
