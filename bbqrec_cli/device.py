"""Device, threads and precision of torch, which is imported only when needed."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from bbqrec_cli.errors import LackingError, UsageError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16")


def rank_of_environment() -> int:
    """The rank that a launcher (torchrun, Ray) gave this process; 0 without a launcher."""
    return int(os.environ.get("RANK", 0))


def resolve_device(name: str) -> torch.device:
    """The device of a name; `auto` is cuda, else mps, else cpu.

    Raises:
        LackingError: the device does not exist.
        UsageError: torch does not know the name.
    """
    import torch

    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device is {name!r}; allowed: auto, cpu, cuda, cuda:N, mps") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise LackingError(f"--device {name}: this machine, or this build of torch, has none", "use --device cpu")
    return device


def set_threads(threads: int) -> None:
    """Limit torch (and faiss, if installed) to `threads` CPU threads; 0: no change."""
    if threads:
        import torch

        torch.set_num_threads(threads)
        try:
            import faiss
        except ImportError:
            return
        faiss.omp_set_num_threads(threads)


def resolve_precision(name: str, device: torch.device, *, large: bool = False) -> str:
    """'fp32' or 'bf16'. `auto` is bf16 on CPUs that multiply it (up to 3 times faster), on GPUs for large models only.

    A recommender or tokenizer of the usual width is faster in fp32 on a GPU, where it waits for kernels to start
    (docs/results/gpu.md).

    Args:
        large: a pretrained encoder runs.
    """
    import torch

    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if large and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        return "bf16" if fast else "fp32"
    return "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """A context in which matrix products run in `precision` ('fp32' or 'bf16'); parameters stay float32."""
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
