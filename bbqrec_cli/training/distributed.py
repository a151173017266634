"""Rank and world: several processes train one model, each on its part of every batch (started by torchrun)."""

from __future__ import annotations

import atexit
import hashlib
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bbqrec_cli.device import bound_kept_kernels, rank_of_environment, resolve_device, set_threads
from bbqrec_cli.errors import LackingError


@dataclass(frozen=True)
class World:
    """rank: this process's number, from 0; size: number of processes. A single process is rank 0 of 1."""

    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and logs: only rank 0 does."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def sum_array(self, values: np.ndarray) -> np.ndarray:
        """The sum of a CPU array over all processes."""
        return self.sum(torch.from_numpy(values)).numpy() if self.size > 1 else values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes; a gradient that no process has stays None."""
        own = list(parameters)
        if self.size == 1 or not own:
            return
        there = torch.tensor([float(p.grad is not None) for p in own], device=own[0].device)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in own])
        self.sum(there), self.sum(flat)
        parts = flat.split([p.numel() for p in own])
        for parameter, part, somewhere in zip(own, parts, there.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if somewhere else None

    def first(self, value: float) -> float:
        """The value of rank 0, so that all processes decide alike."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        torch.distributed.broadcast(shared, src=0)
        return float(shared)

    def broadcast(self, module: nn.Module) -> None:
        """Copy the parameters and buffers of rank 0 to every process."""
        if self.size > 1:
            for value in module.state_dict().values():
                torch.distributed.broadcast(value, src=0)

    def barrier(self) -> None:
        """Wait for all processes, at the end of their work; files that rank 0 wrote before exist afterwards."""
        if self.size > 1:
            torch.distributed.barrier()
            _Group.done = True


ALONE = World()


def start_process(device: str, threads: int) -> tuple[World, torch.device]:
    """Set threads and kept kernels; return world and device of a training stage. Raises: as `resolve_device`."""
    set_threads(threads)
    bound_kept_kernels()
    return join_world(resolve_device(device))


def join_world(device: torch.device) -> tuple[World, torch.device]:
    """The world set by the launcher's environment (RANK, WORLD_SIZE, LOCAL_RANK), and this process's device.

    Without a launcher: a single process on `device`. With several processes, `cuda` means the GPU of the local rank.

    Raises: LackingError: two processes have one GPU.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return ALONE, device
    if device.type == "mps":  # no backend sums there
        device = torch.device("cpu")
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl")
        atexit.register(_leave, waits=device.type != "cpu")
    _Group.done = False
    if device.type == "cuda":
        check_cards(f"{socket.gethostname()} {torch.cuda.get_device_properties(device).uuid}", size)
    return World(rank=rank_of_environment(), size=size), device


def check_cards(card: str, size: int) -> None:
    """Raises: LackingError: another of `size` processes has the same card, which NCCL refuses later."""
    own = torch.tensor([int.from_bytes(hashlib.sha256(card.encode()).digest()[:7], "big")])
    every = [torch.empty_like(own) for _ in range(size)]
    torch.distributed.all_gather(every, own)
    if len(cards := {int(each) for each in every}) < size:
        what = f"{size} processes have {len(cards)} GPU{'s' if len(cards) > 1 else ''} in all; each needs its own"
        raise LackingError(what, "torchrun --nproc-per-node N with as many as there are GPUs, and --device cuda")


class _Group:
    """done: whether this process's work is at its end, as that of all others."""

    done = False


def _leave(*, waits: bool) -> None:
    """At the interpreter's end: left alone, the group's threads now and then abort a process whose work is done.

    waits: NCCL's end, for which it waits for all processes. One that fails must not: the launcher ends the others once
    it is gone.
    """
    if not waits or _Group.done:
        torch.distributed.destroy_process_group()
        return
    os._exit(1)
