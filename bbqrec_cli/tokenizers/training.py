"""Training a tokenizer's network: θ's own optimiser, figures per epoch, and a warning when a codebook collapses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import nn

from bbqrec_cli.data.batches import Batches
from bbqrec_cli.device import autocast
from bbqrec_cli.progress import Progress
from bbqrec_cli.seeds import seed_torch
from bbqrec_cli.tokenizers.base import COLLAPSE_HINT
from bbqrec_cli.training.distributed import ALONE, World
from bbqrec_cli.training.trainer import Losses, Row, RunSettings, Task, train

WARMUP_STEPS = 100
LARGEST_GRADIENT = 10.0
"""Norm to which gradients are clipped; above the usual 1, since the reconstruction is a sum over features."""
THETA = "clubs."


class TokenizerNetwork(nn.Module, ABC):
    """A network to train. Parameters whose names begin with 'clubs.' are θ and have their own optimiser."""

    @abstractmethod
    def loss(self, batch: Any, world: World = ALONE, encoded: Any = None) -> dict[str, torch.Tensor]:
        """{'loss', …}: this process's share of the loss, and of its parts for the figures; scalars.

        encoded: the result of `encoded` for the batch, if it was called.
        """

    def encoded(self, batch: Any) -> Any:
        """What θ's step and the losses both need of a batch, computed once; None: nothing."""
        return None

    def likelihood(self, batch: Any, encoded: Any = None) -> torch.Tensor | None:
        """The scalar that θ's optimiser minimises before each main step; None: no step of θ on this batch."""
        return None


Model = TypeVar("Model", bound=TokenizerNetwork)


class TokenizerTask(Task):
    """See `fit_tokenizer` for the arguments."""

    stream = ("tokenizer",)
    largest_gradient = LARGEST_GRADIENT

    def __init__(
        self, network: Any, batches: Batches, start: Callable[[Any, int], None], report: Callable[[Any, int], Row],
        find_collapsed: Callable[[Row], Mapping[str, str]], *, epochs: int, learning_rate: float,
    ) -> None:  # fmt: skip
        self.module, self.epochs, self.learning_rate = network, epochs, learning_rate
        self._batches, self._before_epoch, self._report, self._find_collapsed = batches, start, report, find_collapsed
        self._planned = epochs * len(batches.epoch(0))
        theta = [p for name, p in network.named_parameters() if name.startswith(THETA)]
        main = [p for name, p in network.named_parameters() if not name.startswith(THETA)]
        self.optimisers = {
            name: torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, fused=True)
            for name, parameters in {"main": main, "theta": theta}.items()
            if parameters
        }

    def batches(self, epoch: int) -> Sequence[Any]:
        """See `Task.batches`."""
        return self._batches.epoch(epoch)

    def plan(self, epoch: int, steps: int) -> tuple[int, int, int]:
        """See `Task.plan`."""
        return epoch * steps, self._planned, warmup_steps(self._planned)

    def losses(self, batch: Any, run: RunSettings) -> Iterator[tuple[str, Losses]]:
        """θ's likelihood first, then the network's losses."""
        network = cast(TokenizerNetwork, self.module)
        with autocast(run.device, run.precision):
            encoded = network.encoded(batch)
        likelihood = network.likelihood(batch, encoded) if "theta" in self.optimisers else None
        if likelihood is not None:
            yield "theta", {"loss": likelihood / run.world.size}
        with autocast(run.device, run.precision):
            parts = network.loss(batch, run.world, encoded)
        yield "main", parts

    def before_epoch(self, epoch: int) -> None:
        """See `fit_tokenizer`: start."""
        self._before_epoch(self.module, epoch)

    def report(self, epoch: int) -> Row:
        """Usage, perplexity, collisions and the method's other figures."""
        return self._report(self.module, epoch)

    def log_epoch(self, row: Row, before: Sequence[Row], left: str, progress: Progress) -> None:
        """Log the epoch, and warn once per codebook that has collapsed."""
        super().log_epoch(row, before, left, progress)
        if details := epoch_details(row):
            progress.detail(f"    {details}")
        told = {book for each in before for book in self._find_collapsed(each)}
        new = [sentence for book, sentence in self._find_collapsed(row).items() if book not in told]
        if new:
            count = "a codebook has" if len(new) == 1 else f"{len(new)} codebooks have"
            progress.warn(
                f"epoch {row['epoch']}: {count} collapsed: {'; '.join(new)}. If it stays so, try {COLLAPSE_HINT}."
            )


def fit_tokenizer(
    make: Callable[[], Model],
    batches: Batches,
    start: Callable[[Model, int], None],
    report: Callable[[Model, int], Row],
    find_collapsed: Callable[[Row], Mapping[str, str]],
    run: RunSettings,
    *,
    epochs: int,
    learning_rate: float,
) -> tuple[Model, list[Row]]:
    """Train a tokenizer's network; the last epoch is kept.

    Args:
        make: builds the network; called after seeding.
        batches: the training batches.
        start: called before each epoch, with its number: k-means after the warm-up.
        report: figures after each epoch.
        find_collapsed: the collapsed codebooks in those figures: codebook -> a sentence.

    Returns:
        the trained network and one row of figures per epoch.

    Raises: as `trainer.train`.
    """
    seed_torch(run.seed, "tokenizer")
    network = make()
    task = TokenizerTask(
        network, batches, start, report, find_collapsed, epochs=epochs, learning_rate=learning_rate
    )  # fmt: skip
    return network, train(task, run).history


def mlp(inputs: int, hidden: int, outputs: int) -> list[nn.Module]:
    """Two linear layers with a GELU between them."""
    return [nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs)]


def warmup_steps(total: int) -> int:
    """Steps in which the learning rate rises, of `total`: 100, or a tenth of a short run."""
    return min(WARMUP_STEPS, max(1, total // 10))


def epoch_details(row: Row) -> str:
    """The parts of an epoch's loss, and codes in use and perplexity per signal, level by level."""
    names = ("reconstruction", "quantisation", "recommendation", "information", "collaboration", "diversity")
    parts = [f"{name} {row[name]:.4g}" for name in names if name in row]
    books = [key.removeprefix("usage/") for key in row if key.startswith("usage/")]
    for name in dict.fromkeys(book.rpartition("/")[0] for book in books):
        own = [book for book in books if book.rpartition("/")[0] == name]
        used = " ".join(f"{row[f'usage/{book}']}" for book in own)
        spread = " ".join(f"{row[f'perplexity/{book}']:.0f}" for book in own)
        parts.append(f"{name}: codes in use {used}, perplexity {spread}")
    return "  ".join(parts)
