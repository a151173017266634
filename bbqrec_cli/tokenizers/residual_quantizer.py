"""The residual quantiser of eq. 5–7 and 9, shared by all signals or one a signal.

n items, M signals, L levels, N codes, D width, C codebooks (1: shared, or M).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from bbqrec_cli.seeds import derive
from bbqrec_cli.tokenizers.even_codes import even_codes
from bbqrec_cli.tokenizers.kmeans import residual_kmeans


@dataclass(frozen=True, eq=False)
class Quantized:
    """vectors (n, M, D), gradients as the estimator says; codes (n, L, M) int64; loss (n, M), eq. 9's L_RQ an item and
    signal."""

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class ResidualQuantizer(nn.Module):
    """L codebooks of N codes of width D.

    Args:
        signals: M.
        shared: one codebook a level for all signals (the paper's), or one a signal (its variant ¬U).
        commitment: α of eq. 9.
        decay: of the running means that codes are, by `update` (van den Oord et al. 2017, appendix A.1); 0: codes are
            learnt by the gradient of eq. 9.
        rotation: gradients pass as `rotated` says, instead of straight through.
    """

    codebooks: Tensor
    initialised: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self, *, signals: int, levels: int, codebook_size: int, dim: int, shared: bool, commitment: float,
        decay: float = 0.0, rotation: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.commitment, self.levels, self.decay, self.rotation = commitment, levels, decay, rotation
        books = torch.randn(1 if shared else signals, levels, codebook_size, dim) * 0.01
        if not decay:
            self.codebooks = nn.Parameter(books)
        else:
            self.register_buffer("codebooks", books)
            self.register_buffer("counts", torch.ones(books.shape[:3]))
            self.register_buffer("sums", books.clone())
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
            if self.decay:
                self.counts.fill_(1)
                self.sums.copy_(self.codebooks)
            self.initialised.fill_(True)

    def forward(self, z: Tensor, *, sinkhorn: float = 0.0) -> Quantized:
        """z (n, M, D) -> its quantisation.

        sinkhorn: ε with which these items are spread evenly over the last level's codes (`even_codes`); 0: not.
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
        carrier = rotated(z, total) if self.rotation else z
        return Quantized(total + (carrier - carrier.detach()), torch.stack(codes, dim=1), loss)

    @torch.no_grad()
    def update(self, z: Tensor, codes: Tensor, present: Tensor) -> None:
        """One step of the running means: each chosen code moves towards the mean of the residuals that chose it.

        z (n, M, D), codes (n, L, M) as `forward` chose them, present (n, M) bool.
        """
        residual = z.float()
        for level in range(self.levels):
            chosen = torch.zeros_like(residual)
            for number, book in enumerate(self.codebooks):
                signals = slice(None) if len(self.codebooks) == 1 else slice(number, number + 1)
                code, here = codes[:, level, signals], present[:, signals]
                chosen[:, signals] = book[level][code]
                self._move(number, level, residual[:, signals][here], code[here])
            residual = residual - chosen

    def _move(self, book: int, level: int, vectors: Tensor, code: Tensor) -> None:
        """vectors (n, D) that chose `code` (n,)."""
        counts, sums = self.counts[book, level], self.sums[book, level]
        count = torch.bincount(code, minlength=len(counts)).float()
        counts.lerp_(count, 1 - self.decay)
        sums.lerp_(torch.zeros_like(sums).index_add_(0, code, vectors), 1 - self.decay)
        # One that nobody chose stays where it is: its sum and its count shrink alike.
        asked = count > 0
        self.codebooks[book, level, asked] = sums[asked] / counts[asked].unsqueeze(1)


def rotated(z: Tensor, q: Tensor) -> Tensor:
    """z turned and stretched onto q, with turn and stretch held still in the gradient (Fifty et al. 2024, section 4.2).

    λ R z with λ = |q| / |z| and R = I - 2 r rᵀ + 2 q̂ ẑᵀ, r the direction of ẑ + q̂. z, q (..., D), both of value q.
    """
    with torch.no_grad():
        start, end = normalize(z, dim=-1), normalize(q, dim=-1)
        middle = normalize(start + end, dim=-1)
        stretch = q.norm(dim=-1, keepdim=True) / z.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    turned = z - 2 * (z * middle).sum(-1, keepdim=True) * middle + 2 * (z * start).sum(-1, keepdim=True) * end
    return stretch * turned


def choose_code(vectors: Tensor, books: Tensor, *, sinkhorn: float) -> Tensor:
    """`nearest_code`, or with sinkhorn > 0 the `even_codes` of each signal. (n, M, D), (M, N, D) -> (n, M) int64."""
    if not sinkhorn:
        return nearest_code(vectors, books)
    with torch.autocast(vectors.device.type, enabled=False):
        distances = torch.cdist(vectors.float().transpose(0, 1), books.float()).square()
    return torch.stack([even_codes(each, epsilon=sinkhorn) for each in distances], dim=1)


def nearest_code(vectors: Tensor, books: Tensor, *, largest: int = 1 << 26) -> Tensor:
    """Eq. 5. vectors (n, M, D), books (M, N, D) -> (n, M) int64. Computed in float32 whatever autocast says.

    largest: distances that are held at once.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        books = books.float()
        squares, block = books.square().sum(2), max(1, largest // (books.shape[0] * books.shape[1]))
        found = [
            (squares - 2 * torch.einsum("nmd,mkd->nmk", part.float(), books)).argmin(2) for part in vectors.split(block)
        ]
        return torch.cat(found)
