"""Independent random streams from one seed: each is named, so that adding one does not change the others."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(seed: int, *names: object) -> int:
    """The 63-bit seed of the stream `names` of a run with `seed`."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_generator(seed: int, *names: object) -> np.random.Generator:
    """NumPy generator of the stream `names`."""
    import numpy as np

    return np.random.default_rng(derive(seed, *names))


def torch_generator(seed: int, *names: object) -> torch.Generator:
    """CPU torch generator of the stream `names`."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *names))


def seed_torch(seed: int, *names: object) -> None:
    """Seed torch's global generators (weights, dropout) with the stream `names`.

    Called at the start of every epoch with its number, so that a resumed run draws the same numbers.
    """
    import torch

    if torch.accelerator.is_available():
        torch.manual_seed(derive(seed, *names))
    else:  # which would note for each absent device where it was asked to
        torch.default_generator.manual_seed(derive(seed, *names))
