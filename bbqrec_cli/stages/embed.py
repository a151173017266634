"""embed: texts and pictures -> features file. Precomputed features of the dataset file are copied.

Shapes: I items, d width of a feature.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import StageConfig, agreed, did_you_mean, option, stored
from bbqrec_cli.device import PRECISIONS
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import numpy as np

    from bbqrec_cli.encoders.base import Encoder
    from bbqrec_cli.encoders.resumable import Checkpoint
    from bbqrec_cli.records import Dataset, Feature

READY = "ready features"
NAMED = 10
"""Items that warnings name, at most."""


@dataclass(frozen=True, kw_only=True)
class EmbedConfig(StageConfig):
    """Options of `bbqrec embed`."""

    without: ClassVar[frozenset[str]] = frozenset({"seed"})

    dataset: Path = option(Path("dataset.h5"), "Dataset file.", role="input", positional=True, complete=".h5")
    output: Path = option(Path("features.h5"), "Features file to write.", role="output", short="-o", complete=".h5")
    modalities: tuple[str, ...] = option(
        (), "Modalities: text, image or names of precomputed features, separated by commas; empty: all there are."
    )
    text_model: str = option(
        "", "sentence-transformers model: name or folder; empty: the model of bbqrec[offline-text].", role="input",
        hub=True, agreed=True, complete="encoders",
    )  # fmt: skip
    image_model: str = option(
        "", "CLIP-like model: name or folder; descriptor or empty: no weights, offline.", role="input",
        hub=True, agreed=True, complete="encoders",
    )  # fmt: skip
    batch_size: int = option(64, "Texts or pictures per batch.", minimum=1)
    max_length: int = option(0, "Tokens read of each text, at most; 0: the model's limit.", minimum=0)
    precision: str = option("auto", "auto, fp32 or bf16 autocast.", choices=PRECISIONS)
    normalize: bool = option(False, "Scale every feature to unit length.")
    resume: bool = option(False, "Continue from the last checkpoint.", role="runtime")


@dataclass(frozen=True, kw_only=True)
class EmbedResult:
    """What `bbqrec embed --json` prints; features: modality -> dim, present, missing, encoder."""

    output: Path
    items: int
    features: dict[str, dict[str, Any]]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        return dataclasses.asdict(self) | {"output": str(self.output)}


def run(config: EmbedConfig, progress: Progress = SILENT) -> EmbedResult:
    """Encode the texts and pictures of the dataset file and write the features file.

    Raises:
        UsageError, DataError, LackingError, InterruptedRunError and the errors of reading and writing files.
    """
    from bbqrec_cli.device import resolve_device, resolve_precision, set_threads
    from bbqrec_cli.encoders import load_encoder
    from bbqrec_cli.encoders.resumable import Checkpoint
    from bbqrec_cli.hdf5 import check_output, read_dataset, sha256, write_features
    from bbqrec_cli.origin import ran_on
    from bbqrec_cli.records import Features

    check_output(config.output, force=config.force, inputs=[config.dataset])
    set_threads(config.threads)
    began, dataset = time.perf_counter(), read_dataset(config.dataset)
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device, large=True)
    plan = choose_models(config, dataset, progress)
    encoders = {
        modality: load_encoder(modality, model, device=device, precision=precision, max_length=config.max_length)
        for modality, model in plan.items()
        if model != READY
    }
    resolved = stored(config) | {"precision": precision}
    made_by = {"encoders": {name: {"name": e.name, "weights": e.weights} for name, e in encoders.items()}}
    resolved |= made_by
    identity = {"config": agreed(config) | {"precision": precision} | made_by, "dataset": sha256(config.dataset)}
    checkpoint = Checkpoint(config.output, identity, resume=config.resume, progress=progress)
    features = {}
    for name in plan:
        feature = (
            encode(dataset, name, encoders[name], batch_size=config.batch_size, checkpoint=checkpoint)
            if name in encoders
            else dataset.features[name]
        )
        features[name] = finish(feature, dataset, name, normalize=config.normalize, progress=progress)
    write_features(
        config.output, Features(catalogue=dataset.catalogue, features=features),
        config=resolved, parents=[config.dataset], force=config.force,
        origin=ran_on(device, config.threads, precision),
    )  # fmt: skip
    checkpoint.path.unlink(missing_ok=True)
    return EmbedResult(
        output=config.output, items=dataset.catalogue.items, seconds=time.perf_counter() - began,
        features={name: feature_figures(feature) for name, feature in features.items()},
    )  # fmt: skip


def choose_models(config: EmbedConfig, dataset: Dataset, progress: Progress) -> dict[str, str]:
    """modality -> the model that encodes it ('' = the default) or READY; a modality that no item has is left out.

    Raises:
        UsageError: an unknown modality.
        DataError: no item has a requested modality, or any modality.
    """
    named = {"text": config.text_model, "image": config.image_model}
    known = (*named, *(name for name in dataset.features if name not in named))
    plan: dict[str, str] = {}
    for modality in config.modalities or known:
        if modality not in known:
            raise UsageError(f"--modalities: {modality!r} is none of {', '.join(known)}{did_you_mean(modality, known)}")
        if modality in dataset.features and not named.get(modality):
            progress.log(f"{modality}: the dataset's precomputed features are copied")
            plan[modality] = READY
        elif any(inputs_of(dataset, modality)):
            plan[modality] = named[modality]
        elif config.modalities or named[modality]:
            raise DataError(f"{config.dataset}: no item has any {modality}", "bbqrec embed --help, --modalities")
        else:
            progress.log(f"{modality}: no item has it; left out")
    if not plan:
        raise DataError(f"{config.dataset}: no item has a text, a picture or precomputed features", "bbqrec prepare")
    return plan


def inputs_of(dataset: Dataset, modality: str) -> Sequence[Any]:
    """The inputs to encode, (I,); empty = missing."""
    if modality == "text":
        return [text.strip() for text in dataset.texts]
    return dataset.images if modality == "image" else []


def encode(dataset: Dataset, modality: str, encoder: Encoder, *, batch_size: int, checkpoint: Checkpoint) -> Feature:
    """The feature of one modality; missing and unreadable inputs are masked, the latter with a warning."""
    import numpy as np

    from bbqrec_cli.encoders.resumable import encode_inputs
    from bbqrec_cli.records import Feature

    inputs = inputs_of(dataset, modality)
    made = encode_inputs(encoder, inputs, modality=modality, batch_size=batch_size, checkpoint=checkpoint)
    unreadable = np.flatnonzero(~made.readable)
    warn_items(unreadable, dataset, f"its {modality} cannot be read and counts as missing", checkpoint.progress)
    present = np.array([bool(each) for each in inputs]) & made.readable
    return Feature(values=made.values, present=present, encoder=encoder.name)


def finish(feature: Feature, dataset: Dataset, modality: str, *, normalize: bool, progress: Progress) -> Feature:
    """Checked features: absent rows zero; present rows finite, not zero and, with `normalize`, of unit length.

    Raises:
        DataError: NaN or infinity, with the item; or no item is left.
    """
    import numpy as np

    from bbqrec_cli.hdf5 import check_finite

    check_finite(feature.values, dataset.catalogue.item_ids, f"the {modality} features of {feature.encoder}")
    norm = np.linalg.norm(feature.values, axis=1, keepdims=True)
    empty = feature.present & (norm[:, 0] == 0)
    warn_items(np.flatnonzero(empty), dataset, f"its {modality} feature is all zeros and counts as missing", progress)
    present = feature.present & ~empty
    if not present.any():
        raise DataError(f"no item has any {modality} that can be read", "bbqrec embed --modalities with the others")
    values = np.where(present[:, None], feature.values, np.float32(0))
    if normalize:
        values = values / np.where(norm == 0, np.float32(1), norm)
    unit = normalize or bool(np.allclose(norm[present], 1, atol=1e-3))
    return dataclasses.replace(feature, values=values, present=present, normalized=unit)


def warn_items(rows: np.ndarray, dataset: Dataset, what: str, progress: Progress) -> None:
    """One warning per item for the first few, then one for the rest."""
    for row in rows[:NAMED]:
        progress.warn(f"item {dataset.catalogue.item_ids[row]!r}: {what}")
    if len(rows) > NAMED:
        progress.warn(f"{len(rows) - NAMED} more items: {what}")


def feature_figures(feature: Feature) -> dict[str, Any]:
    """The figures of a modality in the result."""
    present = int(feature.present.sum())
    missing = len(feature.present) - present
    return {"dim": feature.values.shape[1], "present": present, "missing": missing, "encoder": feature.encoder}
