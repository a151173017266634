"""A model that needs features: they reach it through build, save and load, and recommending needs no other file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bbqrec_cli import hdf5
from bbqrec_cli.config import option
from bbqrec_cli.data.batches import Batch
from bbqrec_cli.errors import DataError
from bbqrec_cli.models.base import Phase, Recommender, Wanted, top_items
from bbqrec_cli.models.options._training import TrainingConfig
from bbqrec_cli.models.registry import MODELS
from bbqrec_cli.records import ItemData
from bbqrec_cli.stages import evaluate, recommend, train


@dataclass(frozen=True, kw_only=True)
class LookAlikeConfig(TrainingConfig):
    """What looks like the last item, after a pre-training that only scales."""

    name: ClassVar[str] = "look-alike"
    implementation: ClassVar[str] = "look_alike:LookAlike"

    epochs: int = option(3, "Epochs.", minimum=1)
    modality: str = option("text", "Feature that is compared.", role="model")


class LookAlike(Recommender):
    """Scores items by a learnt linear map of the last item's feature."""

    needs = frozenset({"features"})
    features: Tensor

    def __init__(self, *, data: ItemData, modality: str, width: int, layers: int, heads: int, dropout: float,
                 history: int) -> None:  # fmt: skip
        super().__init__()
        self.history = history
        values = torch.from_numpy(data.features[modality].values)
        self.register_buffer("features", values, persistent=False)
        self.scale, self.turn = nn.Parameter(torch.ones(())), nn.Linear(values.shape[1], values.shape[1])

    def phases(self, train, fit, *, seed):
        """A pre-training of the scale alone, then everything."""
        batches = self.batches(train, batch_size=fit.batch_size, seed=seed)
        first = Phase(name="scale", epochs=1, batches=batches, loss=self.loss, start=lambda: self.freeze(True))
        return first, Phase(
            name="all", epochs=fit.epochs, batches=batches, loss=self.loss, start=lambda: self.freeze(False)
        )

    def freeze(self, frozen: bool) -> None:
        self.turn.requires_grad_(not frozen)

    def scores(self, rows: Tensor) -> Tensor:
        return self.scale * self.turn(self.features[rows]) @ self.features.T

    def loss(self, batch: Batch) -> Tensor:
        asked = batch.targets >= 0
        return nn.functional.cross_entropy(self.scores(batch.items[asked]), batch.targets[asked])

    @torch.no_grad()
    def recommend(self, batch: Batch, wanted: Wanted) -> tuple[Tensor, Tensor]:
        last = batch.last(batch.items)
        return top_items(self.scores(last), wanted)


@pytest.fixture
def look_alike(monkeypatch):
    """The model, registered as a package of one's own would do it."""
    module = ModuleType("look_alike")
    module.LookAlike = LookAlike
    monkeypatch.setitem(sys.modules, "look_alike", module)
    MODELS.add(LookAlikeConfig)
    yield "look-alike"
    MODELS.remove("look-alike")


def config(files, tmp_path, **changes) -> train.TrainConfig:
    options = {"learning_rate": 0.05, "batch_size": 10, "patience": 0} | changes.pop("options", {})
    return train.TrainConfig(
        output=tmp_path / "m.h5", model="look-alike", options=options, device="cpu",
        **{"input": files["features"], **changes},
    )  # fmt: skip


def test_features_travel_to_the_model_file(look_alike, files, features, tmp_path):
    copy = tmp_path / "f.h5"
    copy.write_bytes(files["features"].read_bytes())
    result = train.run(config(files, tmp_path, input=copy))
    copy.unlink()
    assert (result.epochs, result.model) == (4, "look-alike")
    stored = hdf5.read_model(result.output)
    assert set(stored.features) == {"text", "image"}
    np.testing.assert_array_equal(stored.features["text"].values, features.features["text"].values)
    assert hdf5.describe(result.output)["schema_version"] == 4
    rows = [row for row in stored.history if "ndcg@10" in row]
    assert [row["epoch"] for row in rows] == [2, 3, 4], "the pre-training is not validated"
    again = evaluate.run(
        evaluate.EvaluateConfig(model=result.output, output=tmp_path / "e.h5", split="validation", device="cpu")
    )
    assert again.aggregates["ndcg@10"] == pytest.approx(result.validation["ndcg@10"])
    found = list(recommend.run(recommend.RecommendConfig(model=result.output, user=("u0",), top=3, device="cpu")))
    assert len(found[0].items) == 3


def test_the_command_knows_its_options(look_alike, bbqrec, files, tmp_path):
    assert "--modality" in bbqrec("train", "--model", "look-alike", "--help").out
    said = bbqrec(
        "train", files["features"], "-o", tmp_path / "m.h5", "--model", "look-alike", "--modality", "image", "--epochs",
        "1", "--device", "cpu",
    )  # fmt: skip
    assert said.status == 0, said.err
    assert hdf5.read_model(tmp_path / "m.h5").settings["modality"] == "image"


def test_a_file_without_features_is_refused(look_alike, files, tmp_path):
    with pytest.raises(DataError, match="look-alike needs features") as caught:
        train.run(config(files, tmp_path, input=files["tokens"]))
    assert caught.value.hint == "bbqrec embed"


def test_models_that_need_no_features_do_not_carry_them(files, tmp_path):
    made = train.run(
        train.TrainConfig(input=files["features"], output=tmp_path / "p.h5", model="popularity", device="cpu")
    )
    assert not hdf5.read_model(made.output).features
