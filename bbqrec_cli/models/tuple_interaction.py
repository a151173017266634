"""What the codes of a tuple say together. C tuples, M signals, N codes, D width, R rank."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear


class TupleInteraction(nn.Module):
    """W (⊙_m (A_m e_m + a_m)) + w: a product of linear maps of the codes' vectors, to be added to their sum.

    A sum alone says of each signal how well its code fits, whatever the other signals' codes are. Nothing here belongs
    to one tuple: what is learnt of one holds for all that share its codes. It starts at zero.

    Args:
        rank: R.
    """

    def __init__(self, width: int, *, signals: int, rank: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, rank) for _ in range(signals))
        self.out = nn.Linear(rank, width + 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def of_tuples(self, table: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (C, D) and biases (C,) of the tuples `codes` (C, M), of the codes' vectors `table` (M, N, D)."""
        found = self.out(self._product(table, codes)).float()
        return found[:, :-1], found[:, -1]

    def logits(self, states: Tensor, table: Tensor, codes: Tensor) -> Tensor:
        """What the tuples add to the logits of states (n, D), (n, C): for few states, without the tuples' vectors."""
        asked = torch.cat([states, torch.ones_like(states[:, :1])], dim=1)
        return linear(asked @ self.out.weight, self._product(table, codes)) + (asked @ self.out.bias).unsqueeze(1)

    def _product(self, table: Tensor, codes: Tensor) -> Tensor:
        """(C, R). Every code's map is computed once, not once per tuple."""
        scaled = table * table.shape[2] ** 0.5
        return reduce(torch.mul, (embedding(codes[:, m], each(scaled[m])) for m, each in enumerate(self.maps)))
