"""Device, threads and precision of torch, which is imported only when needed."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING

from bbqrec_cli.errors import LackingError, UsageError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16")
KEPT_KERNELS = 128
SIDE, TRIES, FASTER = 256, 4, 1.2
"""Of the products that are measured: the matrices' side, how often, and from which ratio bfloat16 counts as faster."""


def rank_of_environment() -> int:
    """The rank that a launcher (torchrun, Ray) gave this process; 0 without a launcher."""
    return int(os.environ.get("RANK", 0))


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_device(name: str) -> torch.device:
    """The device of a name; `auto` is cuda, else mps, else cpu.

    Raises:
        LackingError: the device does not exist.
        UsageError: torch does not know the name.
    """
    import torch

    if name == "auto":
        mps = torch.backends.mps.is_available()
        return _chosen(torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device is {name!r}; allowed: auto, cpu, cuda, cuda:N, mps") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise LackingError(f"--device {name}: this machine, or this build of torch, has none", "use --device cpu")
    return _chosen(device)


def _chosen(device: torch.device) -> torch.device:
    """The device, as torch's current one, on which float32 is float32: cuDNN would round it to TF32."""
    import torch

    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        if device.index is not None:
            torch.cuda.set_device(device)
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


def bound_kept_kernels() -> None:
    """Let oneDNN, which multiplies bfloat16 on CPUs, keep the code of KEPT_KERNELS shapes instead of 1,024.

    Batches have many shapes and each kept one takes 0.5 MB, but within a step the layers share them. To be called
    before the first product; a user's own setting stands.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KEPT_KERNELS))


def resolve_precision(name: str, device: torch.device, *, large: bool = False) -> str:
    """'fp32' or 'bf16'. `auto` is bf16 on CPUs that multiply it faster (`multiplies_bf16`), on GPUs for large models
    only.

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
        return "bf16" if multiplies_bf16() else "fp32"
    return "fp32"


@cache
def multiplies_bf16() -> bool:
    """Whether this processor multiplies matrices faster in bfloat16 than in float32, measured once, in 10 ms.

    Measured, since what a processor says of itself is not what the library makes of it: a library that does not use
    its instructions is many times slower in bfloat16 (docs/performance.md).
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with more threads than free cores the times say nothing
    matrices = [torch.ones(SIDE, SIDE, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    least = [_seconds_of_product(matrix) for matrix in matrices]
    for _ in range(TRIES):  # in turn, so that what else the machine does is no precision's disadvantage
        least = [min(seconds, _seconds_of_product(matrix)) for seconds, matrix in zip(least, matrices, strict=True)]
    torch.set_num_threads(threads)
    return least[0] > FASTER * least[1]


def _seconds_of_product(matrix: torch.Tensor) -> float:
    began = time.perf_counter()
    matrix @ matrix
    return time.perf_counter() - began


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """A context in which matrix products run in `precision` ('fp32' or 'bf16'); parameters stay float32."""
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
