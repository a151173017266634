"""LETTER's tokenizer (Wang et al., CIKM 2024): an RQ-VAE with two more losses.

n items of a batch, d width of the features, D width of a code, W width of the sequence model, L levels, N codes,
K clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bbqrec_cli.errors import UsageError
from bbqrec_cli.seeds import derive
from bbqrec_cli.tokenizers.base import TokenizerInput
from bbqrec_cli.tokenizers.content import Content
from bbqrec_cli.tokenizers.methods.item_table import read_item_table
from bbqrec_cli.tokenizers.methods.rqvae import RQVAE, RQVAENetwork
from bbqrec_cli.tokenizers.options.letter import LETTERConfig
from bbqrec_cli.tokenizers.quantization.balanced import balanced_assignment, balanced_kmeans
from bbqrec_cli.tokenizers.quantization.residual import Quantized
from bbqrec_cli.training.trainer import RunSettings


class LETTERNetwork(RQVAENetwork):
    """LETTER's network. Its weights α and β are relative to a reconstruction loss *averaged* over features, as in the
    published code; here it is summed, so both are multiplied by d.

    Args:
        table: the sequence model's item vectors (I, W), frozen; None without the collaborative loss.
    """

    table: Tensor
    members: Tensor
    place: Tensor
    group: Tensor

    def __init__(self, config: LETTERConfig, content: Content, table: np.ndarray | None) -> None:
        super().__init__(config, content)
        self.config = config
        self.register_buffer("table", None if table is None else torch.from_numpy(table), persistent=False)
        width = config.dim if table is None else table.shape[1]
        self.project = nn.Identity() if width == config.dim else nn.Linear(config.dim, width, bias=False)
        levels, codes, clusters = config.levels, config.codebook_size, min(config.clusters, config.codebook_size)
        shapes = {"members": (clusters, -(-codes // clusters)), "place": (codes,), "group": (codes,)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(levels, *shape, dtype=torch.int64))

    def extra_losses(self, rows: Tensor, vectors: Tensor, found: Quantized | None) -> tuple[Tensor, dict[str, Tensor]]:
        """d (α L_CF + β L_Div); see `RQVAENetwork.extra_losses`."""
        total, parts, width = vectors.new_zeros(()), {}, self.features.shape[1]
        if self.table is not None:
            parts["collaboration"] = collaborative_loss(self.project(vectors).float(), self.table[rows])
            total = total + width * self.config.collaborative_weight * parts["collaboration"]
        if found is not None and self.config.diversity_weight:
            codes, books = found.codes[:, :, 0], self.quantizer.codebooks[0]
            levels = [
                diversity_loss(books[level], codes[:, level], self.positives(level, codes[:, level]))
                for level in range(len(books))
            ]
            parts["diversity"] = torch.stack(levels).mean()
            total = total + width * self.config.diversity_weight * parts["diversity"]
        return total, parts

    def set_clusters(self, labels: np.ndarray) -> None:
        """Set each code's cluster. labels (L, N), from 0."""
        levels, codes = labels.shape
        count = np.stack([np.bincount(row, minlength=labels.max() + 1) for row in labels])
        members = np.full((*count.shape, count.max()), -1)
        place = np.empty((levels, codes), dtype=np.int64)
        for level in range(levels):
            for cluster in range(count.shape[1]):
                inside = np.flatnonzero(labels[level] == cluster)
                members[level, cluster, : len(inside)], place[level, inside] = inside, np.arange(len(inside))
        device = self.features.device
        self.members, self.place, self.group = (torch.from_numpy(a).to(device) for a in (members, place, labels))

    def positives(self, level: int, codes: Tensor) -> Tensor:
        """For each code (n,), another code of its cluster, drawn uniformly; -1 if it is the only one.

        The published code draws until it finds another one, which never ends for the only code of a cluster.
        """
        members = self.members[level][self.group[level, codes]]
        size = (members >= 0).sum(1)
        # At most size - 1, even if a number close to 1 is rounded up.
        step = 1 + torch.minimum((torch.rand(len(codes), device=codes.device) * (size - 1)).long(), size - 2)
        other = (self.place[level, codes] + step) % size
        return torch.where(size > 1, members.gather(1, other.unsqueeze(1)).squeeze(1), -1)


def collaborative_loss(vectors: Tensor, table: Tensor) -> Tensor:
    """L_CF: InfoNCE between each item's quantised vector (n, W) and its vector of the sequence model (n, W), against
    the batch's other items."""
    return cross_entropy(vectors @ table.T, torch.arange(len(vectors), device=vectors.device))


def diversity_loss(book: Tensor, codes: Tensor, positives: Tensor) -> Tensor:
    """L_Div of one level: it pulls each chosen code towards another of its cluster and away from all others.

    book (N, D), codes (n,), positives (n,), -1 = the item is left out. Scores are inner products.
    """
    asked = positives >= 0
    if not asked.any():
        return book.new_zeros(())
    codes = codes[asked]
    scores = (book[codes] @ book.T).float().scatter(1, codes.unsqueeze(1), -torch.inf)
    return cross_entropy(scores, positives[asked])


class LETTER(RQVAE):
    """See `LETTERConfig` for its options."""

    config: LETTERConfig

    def network(self, content: Content, inputs: TokenizerInput, run: RunSettings) -> Callable[[], RQVAENetwork]:
        """See `RQVAE.network`. Raises: UsageError: no --collaborative; the errors of `read_item_table`."""
        config, table = self.config, None
        if config.collaborative_weight:
            if not config.collaborative:
                raise UsageError(
                    "--method letter needs --collaborative, the model file of a trained sasrec",
                    "bbqrec train FEATURES.h5 --model sasrec -o MODEL.h5, or --collaborative-weight 0",
                )
            table = read_item_table(Path(config.collaborative), inputs.item_ids, inputs.train)
            table = table if inputs.sample is None else table[inputs.sample]
        return lambda: LETTERNetwork(config, content, table).to(run.device)

    def start(self, model: Any, epoch: int, learnt: Tensor, run: RunSettings) -> None:
        """As for an RQ-VAE; then cluster the codes of every codebook."""
        super().start(model, epoch, learnt, run)
        if model.quantizer.initialised and self.config.diversity_weight:
            books = model.quantizer.codebooks[0].detach().cpu().numpy()
            model.set_clusters(code_clusters(books, self.config.clusters, seed=derive(run.seed, "clusters", epoch)))


def code_clusters(books: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
    """(L, N): each code's cluster within its level; sizes are equal, ±1. books (L, N, D)."""
    clusters, found = min(clusters, books.shape[1]), []
    for level, book in enumerate(books):
        centroids = balanced_kmeans(book, codes=clusters, seed=derive(seed, "level", level))
        found.append(balanced_assignment(book, centroids))
    return np.stack(found)
