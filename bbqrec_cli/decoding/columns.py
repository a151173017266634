"""Nodes or prefixes of users as columns of several tensors at once. U users, n columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

Of = TypeVar("Of", bound="Columns")


@dataclass(eq=False)
class Columns:
    """A dataclass whose fields are tensors (U, n), changed alike."""

    def map(self: Of, change: Callable[[Tensor], Tensor]) -> Of:
        """With every tensor changed."""
        return type(self)(*(change(getattr(self, each.name)) for each in fields(self)))

    def users(self: Of, users: Tensor) -> Of:
        """Of some users, rows of the U."""
        return self.map(lambda values: values[users])

    def take(self: Of, places: Tensor) -> Of:
        """The columns `places` (U, m) of each user."""
        return self.map(lambda values: values.gather(1, places))

    def with_(self: Of, *others: Of) -> Of:
        """With those of others beside."""
        every = (self, *others)
        return type(self)(*(torch.cat([getattr(one, each.name) for one in every], dim=1) for each in fields(self)))
