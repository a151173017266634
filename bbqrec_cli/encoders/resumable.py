"""Resumable encoding of a catalogue in batches; a resumed run gives the numbers of an uninterrupted one.

Shapes: I items, d width of a feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.encoders.base import Encoder
from bbqrec_cli.encoders.workers import prepared_ahead
from bbqrec_cli.errors import DataError, InterruptedRunError
from bbqrec_cli.outputs import Clock, checkpoint_of
from bbqrec_cli.progress import Progress

SAVE_EVERY = 30.0
"""Seconds between two checkpoints; more if writing one takes long."""


@dataclass
class Partial:
    """A partly encoded modality: values (I, d), kinds (I,) uint8, rows of KINDS, and the number of batches encoded."""

    values: np.ndarray
    kinds: np.ndarray
    batches: int


class Checkpoint:
    """The features encoded so far, saved beside the output while the stage runs.

    Args:
        output: the stage's output, beside which the checkpoint is.
        identity: configuration, weights and input that a resumed run must agree with.
        resume: continue from the checkpoint, if there is one; otherwise it is overwritten (`check_checkpoint` asks).

    Raises:
        DataError: the checkpoint belongs to another run.
    """

    def __init__(self, output: Path, identity: Mapping[str, Any], *, resume: bool, progress: Progress) -> None:
        self.path = checkpoint_of(output)
        self.progress, self._identity = progress, identity
        self.partials: dict[str, Partial] = {}
        if resume and self.path.exists():
            from bbqrec_cli.training.checkpoint import load_checkpoint

            for name, state in load_checkpoint(self.path, identity, progress).items():
                self.partials[name] = Partial(state["values"].numpy(), state["kinds"].numpy(), state["batches"])
            progress.log(f"continuing from {self.path}")
        elif resume:
            progress.log(f"{self.path}: no checkpoint; starting from the beginning")
        self._clock = Clock(SAVE_EVERY)

    def save(self) -> None:
        """Replace the last checkpoint, atomically."""
        import torch

        from bbqrec_cli.training.checkpoint import save_checkpoint

        state = {
            name: {
                "values": torch.from_numpy(part.values),
                "kinds": torch.from_numpy(part.kinds),
                "batches": part.batches,
            }
            for name, part in self.partials.items()
        }
        with self._clock.saving():
            save_checkpoint(self.path, state, self._identity)

    def save_when_due(self) -> None:
        """`save`, if the last checkpoint is old enough."""
        if self._clock.due:
            self.save()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Save a checkpoint on interruption.

        Raises:
            InterruptedRunError: its message says what was saved.
        """
        try:
            yield
        except KeyboardInterrupt:
            if not self.partials:
                raise
            self.save()
            batches = sum(part.batches for part in self.partials.values())
            raise InterruptedRunError(
                f"interrupted; {batches} batches are saved in {self.path}", "give --resume to continue"
            ) from None


def encode_inputs(
    encoder: Encoder, inputs: Sequence[Any], *, modality: str, batch_size: int, checkpoint: Checkpoint, workers: int = 0
) -> Partial:
    """Encode every non-empty input, in batches of similar length, continuing from the checkpoint.

    Args:
        inputs: I texts or encoded pictures, at least one not empty.
        workers: processes that prepare them (`prepared_ahead`).

    Returns:
        values (I, d), zero for empty inputs and those that cannot be read; kinds (I,).
    """
    batches = batches_by_length(inputs, batch_size)
    partial = checkpoint.partials.get(modality)
    done = partial.batches if partial else 0
    left = batches[done:]
    with (
        checkpoint.saving(),
        checkpoint.progress.task(f"{modality}: {encoder.name}", len(batches)) as task,
        prepared_ahead(encoder.prepare, ([inputs[row] for row in rows] for rows in left), workers) as ready,
    ):
        task.advance(done)
        for rows, prepared in zip(left, ready, strict=True):
            values = encoder.finish(prepared)
            if partial is None:
                empty = np.zeros((len(inputs), values.shape[1]), dtype=np.float32)
                partial = checkpoint.partials[modality] = Partial(empty, np.zeros(len(inputs), dtype=np.uint8), 0)
            if values.shape[1] != partial.values.shape[1]:
                widths = f"values of {values.shape[1]} columns after {partial.values.shape[1]}"
                raise DataError(f"the encoder {encoder.name} gives {widths}", "correct its method forward")
            partial.values[rows], partial.kinds[rows] = values, prepared.kinds
            partial.batches += 1
            task.advance()
            checkpoint.save_when_due()
    assert partial is not None  # there is at least one batch
    return partial


def batches_by_length(inputs: Sequence[Any], batch_size: int) -> list[np.ndarray]:
    """Rows of the non-empty inputs in batches, longest first, so that a lack of memory shows at once."""
    there = [row for row in range(len(inputs)) if inputs[row]]
    order = sorted(there, key=lambda row: -len(inputs[row]))
    return [np.array(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]
