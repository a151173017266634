"""How fast training and decoding are, on a synthetic catalogue, by the stages' own loops. B users at once."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tools.gpu_check.catalogue import write_synthetic
from tools.gpu_check.internals import Silent, evaluate, read_features, tokenize, train
from tools.gpu_check.report import Report, Table
from tools.gpu_check.settings import Settings

USERS, ITEMS, ASKED = 20_000, 12_000, 2_000
WARM, STEPS = 8, 40
"""Steps that are not measured, and that are."""
SECONDS = 12.0
"""After which a measurement ends, however few steps it has, if it has one."""
LEAST = 25.0
"""Seconds that must be left for a measurement to begin."""
TRAINING = ["what", "device", "precision", "ms per step", "per second", "of what", "steps", "peak GPU memory, MiB"]
DECODING = ["what", "device", "precision", "ms per user, 256 at once", "ms, one at a time", "peak GPU memory, MiB"]


class EnoughError(Exception):
    """Everything that was to be measured is."""


@dataclass
class Stopwatch(Silent):
    """A progress that times the steps of the tasks whose description begins with `what`, and then ends the stage.

    seconds: of the measured steps in all; steps: how many; units: what they advanced by.
    """

    what: str
    cuda: bool
    warm: int
    most: int
    limit: float
    seconds: float = 0.0
    steps: int = 0
    units: int = 0
    seen: int = 0
    total: int = 0
    said: list[str] = field(default_factory=list)
    _last: float = 0.0

    def log(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(message)

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Any]:
        if not description.startswith(self.what):
            yield _Idle()
            return
        self.total, self._last = total or 0, self._now()
        yield self

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        now = self._now()
        self.seen += 1
        if self.seen > self.warm:
            self.seconds, self.steps, self.units = self.seconds + now - self._last, self.steps + 1, self.units + steps
        if self.steps >= self.most or self.seconds >= self.limit:
            raise EnoughError
        self._last = now

    def _now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


class _Idle:
    def advance(self, steps: int = 1, **figures: float | str) -> None:
        pass


def measure(stage: Callable[[Any, Any], Any], configuration: Any, watch: Stopwatch) -> int:
    """Run a stage until the watch has enough. Returns: the peak of GPU memory in bytes, 0 on a CPU."""
    gc.collect()
    if watch.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with suppress(EnoughError):
        stage(configuration, watch)
    if not watch.steps:
        raise RuntimeError("the stage ended before anything was measured")
    return torch.cuda.max_memory_allocated() if watch.cuda else 0


def prepare_speed(settings: Settings, report: Report) -> None:
    """The synthetic catalogue."""
    users, items, asked = (400, 300, 100) if settings.quick else (USERS, ITEMS, ASKED)
    paths = [settings.path(f"speed-{name}.h5") for name in ("features", "tokens", "few")]
    write_synthetic(*paths, users=users, items=items, asked=asked)
    sequences = read_features(paths[0]).catalogue.sequences
    report.notes.append(
        f"A synthetic catalogue: {users:,} users, {items:,} items, {sequences.lengths.mean():.1f} per user; "
        f"decoding is for {asked:,} of the users."
    )


def speed(settings: Settings, report: Report, *, device: str) -> None:
    """Training and decoding on one device."""
    torch.set_num_threads(settings.threads)
    if torch.device(device).type == "cuda":
        torch.cuda.init()
    meter = Meter(settings, device)
    training, decoding = (
        Table(title="Training", columns=TRAINING, rows=[]),
        Table(title="Decoding", columns=DECODING, rows=[]),
    )
    report.tables += [training, decoding]
    cells: list[tuple[str, Callable[[str, str], list[str]], Table]] = [
        ("train bbqrec", meter.train, training), ("train sasrec", meter.train, training),
        ("tokenize bbqrec", meter.tokenize, training), ("tokenize rqvae", meter.tokenize, training),
        ("evaluate bbqrec", meter.decode, decoding), ("evaluate sasrec", meter.decode, decoding),
    ]  # fmt: skip
    for precision in ("fp32",) if settings.quick else ("fp32", "bf16"):
        for name, cell, table in cells:
            label = f"{name}, {device}, {precision}"
            if settings.left < LEAST:
                report.skipped.append(f"{label}: no time was left")
                continue
            with report.guarded(label):
                table.rows.append([name, device, precision, *cell(name.split()[1], precision)])
            # What is measured stays where the process is stopped.
            report.write(settings.path(f"report-{report.part}.json"))


class Meter:
    """The measurements of one device."""

    def __init__(self, settings: Settings, device: str) -> None:
        self.settings, self.device, self.cuda = settings, device, torch.device(device).type == "cuda"
        lengths = read_features(settings.path("speed-features.h5")).catalogue.sequences.lengths
        # Less the two that are held out, and the first, which is nobody's target.
        self.targets = int(np.maximum(lengths - 3, 0).sum())
        self.narrow = {"width": 16, "heads": 2} if settings.quick else {}
        self.items = read_features(settings.path("speed-features.h5")).catalogue.items

    def watch(self, what: str, *, warm: int = WARM, most: int = STEPS) -> Stopwatch:
        """One for this device; on a CPU a step is slow enough to need few."""
        few = self.settings.quick or not self.cuda
        limit = 2.0 if self.settings.quick else SECONDS
        return Stopwatch(what, self.cuda, 2 if few else warm, 4 if self.settings.quick else most, limit)

    def common(self, precision: str) -> dict[str, Any]:
        """Options of every stage."""
        output = self.settings.path("measured.h5")
        return {"output": output, "device": self.device, "precision": precision, "force": True}

    def train(self, name: str, precision: str) -> list[str]:
        """A recommender with its defaults."""
        watch = self.watch("epoch")
        source = self.settings.path("speed-tokens.h5")
        config = train.TrainConfig(input=source, model=name, options=self.narrow, **self.common(precision))
        return self.row(watch, measure(train.run, config, watch), self.targets, "targets")

    def tokenize(self, method: str, precision: str) -> list[str]:
        """A tokenizer with its defaults, from k-means on, which is not measured."""
        watch, source = self.watch("epoch"), self.settings.path("speed-features.h5")
        small = {"codebook_size": 16, "dim": 16, "hidden": 16} if self.settings.quick else {}
        options = {"warmup_epochs": 0, **small}
        config = tokenize.TokenizeConfig(features=source, method=method, options=options, **self.common(precision))
        peak = measure(tokenize.run, config, watch)
        return self.row(watch, peak, *((self.targets, "targets") if method == "bbqrec" else (self.items, "items")))

    def row(self, watch: Stopwatch, peak: int, units: int, what: str) -> list[str]:
        """Cells; units: of an epoch."""
        step = watch.seconds / watch.steps
        rate = units / max(1, watch.total) / step
        return [f"{1000 * step:.1f}", f"{rate:,.0f}", what, str(watch.steps), self.memory(peak)]

    def decode(self, name: str, precision: str) -> list[str]:
        """Full ranking of held-out targets by `evaluate`, with its beam of 50."""
        path = self.settings.path(f"speed-{name}-model.h5")
        if not path.exists():
            source, once = self.settings.path("speed-few.h5"), {"epochs": 1, **self.narrow}
            train.run(
                train.TrainConfig(
                    input=source, output=path, model=name, options=once, validation_users=16, device=self.device,
                    precision="fp32",
                )
            )  # fmt: skip
        users = 16 if self.settings.quick else 256
        config = evaluate.EvaluateConfig(model=path, batch_size=users, **self.common(precision))
        many = self.watch("ranking", warm=1)
        peak = measure(evaluate.run, config, many)
        one = self.watch("ranking")
        measure(evaluate.run, dataclasses.replace(config, batch_size=1), one)
        return [f"{1000 * watch.seconds / watch.units:.3f}" for watch in (many, one)] + [self.memory(peak)]

    def memory(self, peak: int) -> str:
        """In MiB."""
        return f"{peak / 2**20:,.0f}" if self.cuda else "–"


def kmeans(settings: Settings, report: Report) -> None:
    """What initialises the codebooks: faiss's k-means of as many vectors as a catalogue has signals, one codebook."""
    import faiss

    count = 1_000 if settings.quick else 3 * ITEMS
    vectors = np.random.default_rng(0).standard_normal((count, 128)).astype(np.float32)
    graphics = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
    rows = []
    for where in ("CPU", "GPU"):
        if where == "GPU" and not graphics:
            report.skipped.append("k-means on the GPU: this faiss has none")
            continue
        faiss.omp_set_num_threads(settings.threads)
        made = []
        for _ in range(2):  # the first one makes a GPU's resources
            trainer = faiss.Kmeans(128, 16 if settings.quick else 256, niter=25, seed=0, gpu=where == "GPU")
            began = time.perf_counter()
            trainer.train(vectors)
            made.append(time.perf_counter() - began)
        rows.append([where, f"{count:,}", f"{made[-1]:.2f}", f"{np.asarray(trainer.obj)[-1] / count:.4f}"])
    columns = ["faiss on", "vectors of width 128", "seconds, 25 iterations of 256 codes", "mean squared distance"]
    report.tables.append(Table(title="k-means", columns=columns, rows=rows))
