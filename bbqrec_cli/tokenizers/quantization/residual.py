"""The residual quantiser of eq. 5–7 and 9, shared by all signals or one per signal.

n items, M signals, L levels, N codes, D width, C codebooks (1: shared, or M).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bbqrec_cli.seeds import derive
from bbqrec_cli.tokenizers.quantization.kmeans import residual_kmeans
from bbqrec_cli.tokenizers.quantization.sinkhorn import even_codes


@dataclass(frozen=True, eq=False)
class Quantized:
    """vectors (n, M, D), straight-through; codes (n, L, M) int64; loss (n, M), eq. 9's L_RQ of each item and signal."""

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class ResidualQuantizer(nn.Module):
    """L codebooks of N codes of width D.

    Args:
        signals: M.
        shared: one codebook per level for all signals (the paper's), or one per signal (its variant ¬U).
        commitment: α of eq. 9.
    """

    codebooks: Tensor
    initialised: Tensor

    def __init__(
        self, *, signals: int, levels: int, codebook_size: int, dim: int, shared: bool, commitment: float
    ) -> None:
        super().__init__()
        self.commitment, self.levels = commitment, levels
        self.codebooks = nn.Parameter(torch.randn(1 if shared else signals, levels, codebook_size, dim) * 0.01)
        # A buffer, not an attribute: a resumed run must not initialise again.
        self.register_buffer("initialised", torch.tensor(False))

    def initialise(self, z: Tensor, present: Tensor, *, seed: int) -> None:
        """Residual k-means (faiss) on all items' outputs. z (I, M, D), present (I, M) bool.

        Raises:
            MissingPackageError: faiss is not installed.
        """
        vectors, here = z.float().cpu().numpy(), present.cpu().numpy()
        _, levels, size, _ = self.codebooks.shape
        groups: list[np.ndarray] = [vectors[here]]
        if len(self.codebooks) > 1:
            groups = [vectors[:, m][here[:, m]] for m in range(vectors.shape[1])]
        books = [
            residual_kmeans(group, levels=levels, codes=size, seed=derive(seed, "codebook", number))
            for number, group in enumerate(groups)
        ]
        with torch.no_grad():
            self.codebooks.copy_(torch.from_numpy(np.stack(books)))
            self.initialised.fill_(True)

    def forward(self, z: Tensor, *, sinkhorn: float = 0.0) -> Quantized:
        """Quantise z (n, M, D).

        sinkhorn: ε of `even_codes`, which spreads the items evenly over the last level's codes; 0: off.
        """
        z = z.float()
        residual, total, loss, codes = z, torch.zeros_like(z), z.new_zeros(z.shape[:2]), []
        for level in range(self.levels):
            books = self.codebooks[:, level].expand(z.shape[1], -1, -1)
            spread = sinkhorn if level == self.levels - 1 else 0.0
            code = choose_code(residual.detach(), books.detach(), sinkhorn=spread)
            chosen = books.gather(1, code.T.unsqueeze(2).expand(-1, -1, books.shape[2])).transpose(0, 1)
            pull = (residual.detach() - chosen).square().sum(2)
            commit = (residual - chosen.detach()).square().sum(2)
            loss = loss + pull + self.commitment * commit
            residual = residual - chosen.detach()
            total = total + chosen.detach()
            codes.append(code)
        # Straight through: the value is the codes' sum, to the last bit, and the gradient goes to z.
        return Quantized(total + (z - z.detach()), torch.stack(codes, dim=1), loss)


def choose_code(vectors: Tensor, books: Tensor, *, sinkhorn: float) -> Tensor:
    """`nearest_code`, or with sinkhorn > 0 the `even_codes` of each signal. (n, M, D), (M, N, D) -> (n, M) int64."""
    if not sinkhorn:
        return nearest_code(vectors, books)
    with torch.autocast(vectors.device.type, enabled=False):
        distances = torch.cdist(vectors.float().transpose(0, 1), books.float()).square()
    return torch.stack([even_codes(each, epsilon=sinkhorn) for each in distances], dim=1)


def nearest_code(vectors: Tensor, books: Tensor, *, largest: int = 1 << 26) -> Tensor:
    """Eq. 5. vectors (n, M, D), books (M, N, D) -> (n, M) int64. Computed in float32 whatever autocast says.

    largest: distances held in memory at once.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        books = books.float()
        squares, block = books.square().sum(2), max(1, largest // (books.shape[0] * books.shape[1]))
        found = [
            (squares - 2 * torch.einsum("nmd,mkd->nmk", part.float(), books)).argmin(2) for part in vectors.split(block)
        ]
        return torch.cat(found)
