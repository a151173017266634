"""A suite on the tiny catalogue, and stages that write real files at once and remember who called them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark.graph import Graph, Machine, make_graph
from bbqrec_cli.benchmark.suite import load_suite
from bbqrec_cli.evaluation.metrics import ndcg_at_k, recall_at_k

SUITE = """
name = "tiny"
seeds = [0, 1]

[data]
file = "features.h5"

[[tokenizer]]
name = "ids"
method = "rqvae"
codebook_size = 4
levels = 2

[[tokenizer]]
name = "alone"
method = "rqvae"
codebook_size = 4

[[system]]
name = "popularity"

[[system]]
name = "sasrec"
width = 8

[[system]]
name = "ours"
model = "tiger"
tokenizer = "ids"
"""


@pytest.fixture(autouse=True)
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test knows of the runs of another."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, Path]) -> Path:
    """Holds suite.toml and the features file that it names."""
    (tmp_path / "features.h5").write_bytes(files["features"].read_bytes())
    (tmp_path / "suite.toml").write_text(SUITE)
    return tmp_path


@pytest.fixture
def graph(folder: Path) -> Callable[..., Graph]:
    """`graph(("width = 8", "width = 16"))` is the graph of the suite after replacements in its text."""

    def make(*changes: tuple[str, str], text: str = SUITE, machine: Machine | None = None, seed: int = 0) -> Graph:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "suite.toml").write_text(text)
        return make_graph(load_suite(str(folder / "suite.toml")), machine or Machine(folder=folder / "work"), seed=seed)

    return make


@dataclass(frozen=True)
class Result:
    """What a fake stage returns."""

    values: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return self.values


@dataclass
class Fake:
    """Stages. calls: (stage, output's name) in order; configs: as they came; before: called first."""

    records: dict[str, Any]
    calls: list[tuple[str, str]] = field(default_factory=list)
    configs: list[Any] = field(default_factory=list)
    before: Callable[[str, Any], None] = lambda stage, config: None

    def install(self, patch: pytest.MonkeyPatch) -> Fake:
        """In place of the program's own stages."""
        makes = {"prepare": "dataset", "embed": "features", "tokenize": "tokens", "train": "model"}
        for stage, kind in makes.items():
            patch.setattr(f"bbqrec_cli.stages.{stage}.run", self._stage(stage, kind))
        patch.setattr("bbqrec_cli.stages.evaluate.run", self._evaluate)
        return self

    def of(self, stage: str) -> list[str]:
        return [output for called, output in self.calls if called == stage]

    def _note(self, stage: str, config: Any) -> None:
        self.calls.append((stage, config.output.name))
        self.configs.append(config)
        self.before(stage, config)

    def _stage(self, stage: str, kind: str) -> Callable:
        def run(config: Any, progress: Any) -> Result:
            self._note(stage, config)
            getattr(hdf5, f"write_{kind}")(config.output, self.records[kind], config={"seed": config.seed})
            return Result({"epochs": 2, "best_epoch": 1, "seconds": 0.5} if stage == "train" else {})

        return run

    def _evaluate(self, config: Any, progress: Any) -> Result:
        """popularity: all targets at rank 4; sasrec: at 2, every third at 30; tiger: at 1, every second below all;
        bbqrec: at 1 for the first 20."""
        self._note("evaluate", config)
        users = np.arange(30)
        seed = int(config.model.name.split("-seed-")[1].split("-")[0])
        ranks = {
            "popularity": np.full(30, 4), "sasrec": np.where(users % 3 == seed % 3, 30, 2),
            "tiger": np.where(users % 2 == seed % 2, 0, 1), "bbqrec": np.where(users < 20, 1, 0),
        }[config.model.name.split("-")[0]]  # fmt: skip
        recall, ndcg = ({k: f(ranks, k) for k in config.k} for f in (recall_at_k, ndcg_at_k))
        metrics = dataclasses.replace(self.records["metrics"], ranks=ranks, recall=recall, ndcg=ndcg)
        hdf5.write_metrics(config.output, metrics, config={"seed": config.seed})
        return Result({"users": 30, "seconds": 0.03, "ms_per_user": 1.0})


@pytest.fixture
def fake(dataset, features, tokens, trained_model, metrics, monkeypatch) -> Fake:
    """Stages that take no time, in place of the real ones."""
    history = [{"epoch": 1, "ndcg@10": 0.3, "loss": 2.0}, {"epoch": 2, "ndcg@10": 0.2, "loss": 1.0}]
    model = dataclasses.replace(trained_model, history=history)
    warm = {"epoch": 1, "reconstruction": 9.0, "information": -2.0, "recall@10": 0.3, "quantised": False}
    last = {"epoch": 2, "reconstruction": 5.0, "information": 0.5, "recall@10": 0.25, "quantised": True}
    last |= {"perplexity/id/1": 3.0, "perplexity/text/1": 2.0}
    tokens = dataclasses.replace(tokens, history=[warm, last])
    records = {"dataset": dataset, "features": features, "tokens": tokens, "model": model, "metrics": metrics}
    return Fake(records).install(monkeypatch)
