"""embed: texts and pictures -> features file. Vectors of the user's own and of the dataset file are taken as they are.

Shapes: I items, d width of a feature.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bbqrec_cli.config import StageConfig, agreed, did_you_mean, input_files, option, shared, stored
from bbqrec_cli.device import PRECISIONS
from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.outputs import one_at_a_time
from bbqrec_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import torch

    from bbqrec_cli.encoders.base import Encoder
    from bbqrec_cli.encoders.sources import Encoding, Ready
    from bbqrec_cli.records import Dataset, Feature

_NOTHING = (
    "bbqrec prepare with --items or --images, or bbqrec embed --vectors NAME=FILE; without any of them: "
    "bbqrec train --model sasrec"
)


@dataclass(frozen=True, kw_only=True)
class EmbedConfig(StageConfig):
    """Options of `bbqrec embed`."""

    without: ClassVar[frozenset[str]] = frozenset({"seed"})

    dataset: Path = option(Path("dataset.h5"), "Dataset file.", role="input", positional=True, complete=".h5")
    output: Path = option(Path("features.h5"), "Features file to write.", role="output", short="-o", complete=".h5")
    modalities: tuple[str, ...] = option(
        (), "Modalities: text, image, names of precomputed features, of --encoder and --vectors, separated by commas; "
        "empty: all there are.",
    )  # fmt: skip
    text_model: str = option(
        "", "sentence-transformers model: name or folder; empty: the model of bbqrec[offline-text].", role="input",
        hub=True, agreed=True, complete="encoders",
    )  # fmt: skip
    image_model: str = option(
        "", "CLIP-like model: name or folder; descriptor or empty: no weights, offline.", role="input",
        hub=True, agreed=True, complete="encoders",
    )  # fmt: skip
    encoder: tuple[str, ...] = option(
        (), "NAME=MODEL:INPUT, one more feature: INPUT is image, text, a field or a template, and by default NAME. "
        "Repeatable.", role="input", hub=True, named=True, agreed=True, repeatable=True,
    )  # fmt: skip
    vectors: tuple[str, ...] = option(
        (), "NAME=FILE or NAME=FILE:ARRAY, vectors of your own: .npy, .npz, .parquet, .safetensors or .h5. Repeatable.",
        role="input", named=True, agreed=True, repeatable=True,
    )  # fmt: skip
    ids: Path | None = option(
        None, "Item ids of the rows of --vectors, one a line, for files that hold none.", role="input", complete=".txt"
    )
    text_template: str = option("", "Text to encode, such as '{title}. {category}'. [default: the dataset's texts]")
    long_texts: str = option(
        "cut", "Texts longer than the model reads: cut, or chunk (the mean of pieces).", choices=("cut", "chunk")
    )
    max_length: int = option(0, "Tokens read of each text (or piece), at most; 0: the model's limit.", minimum=0)
    batch_size: int = option(64, "Texts or pictures per batch.", minimum=1)
    precision: str = option("auto", "auto, fp32 or bf16 autocast.", choices=PRECISIONS)
    whiten: int = option(0, "Whiten every feature by PCA to so many numbers; 0: off.", minimum=0)
    normalize: bool = option(False, "Scale every feature to unit length.")
    reuse: Path | None = option(
        None, "Earlier features file: what was encoded from the same content in the same way is taken from it.",
        role="input", complete=".h5",
    )  # fmt: skip
    workers: int | None = option(
        None, "Processes that read pictures; 0: none. [default: one a core, at most 8, for many pictures]", minimum=0,
        role="runtime",
    )  # fmt: skip
    resume: bool = option(
        False, "Continue from the last checkpoint. One that is there is never lost without --force.", role="runtime"
    )


@dataclass(frozen=True, kw_only=True)
class EmbedResult:
    """What `bbqrec embed --json` prints.

    features: modality -> dim, present, missing, encoder; reused: items whose feature was taken from an earlier file;
    long_texts: texts longer than the model reads; kinds: what is remarkable about pictures -> how many;
    seconds: from the reading of the dataset to the written file, in this session.
    """

    output: Path
    items: int
    features: dict[str, dict[str, Any]]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The keys that docs/scripting.md names."""
        return dataclasses.asdict(self) | {"output": str(self.output)}


@one_at_a_time
def run(config: EmbedConfig, progress: Progress = SILENT) -> EmbedResult:
    """Encode the texts and pictures of the dataset file and write the features file.

    Raises:
        UsageError, DataError, LackingError, InterruptedRunError and the errors of reading and writing files.
    """
    from bbqrec_cli.device import resolve_device, set_threads
    from bbqrec_cli.encoders.making import Maker, Making, about_encoder, about_ready
    from bbqrec_cli.encoders.resumable import Checkpoint
    from bbqrec_cli.encoders.reuse import Earlier
    from bbqrec_cli.encoders.sources import Encoding, Ready
    from bbqrec_cli.hdf5 import check_there, describe_parent, read_dataset, write_features
    from bbqrec_cli.origin import ran_on
    from bbqrec_cli.outputs import check_checkpoint, check_output, checkpoint_of
    from bbqrec_cli.records import Features
    from bbqrec_cli.training.trainer import precision_of_run

    parents = [config.dataset, *(path for name, path in input_files(config) if name in ("vectors", "ids", "reuse"))]
    check_there(config.dataset, "dataset")
    if config.reuse:
        check_there(config.reuse, "features")
    check_checkpoint(config.output, force=config.force, resume=config.resume)
    # The earlier features file may be overwritten: it is read first.
    check_output(config.output, force=config.force, inputs=[path for path in parents if path != config.reuse])
    set_threads(config.threads)
    began, dataset = time.perf_counter(), read_dataset(config.dataset)
    device = resolve_device(config.device)
    continued = checkpoint_of(config.output) if config.resume else None
    precision = precision_of_run(config.precision, device, continued=continued, large=True)
    sources = choose_sources(config, dataset, progress)
    earlier = Earlier(config.reuse, progress)
    how = Making(**shared(config, Making))
    ready = {
        name: ready_feature(config, source, name, dataset, progress)
        for name, source in sources.items()
        if isinstance(source, Ready)
    }
    encoders = load_encoders(config, sources, device=device, precision=precision)
    made_by = {
        name: about_encoder(how, source, encoders[name], precision)
        if isinstance(source, Encoding)
        else about_ready(how, source, ready[name])
        for name, source in sources.items()
    }
    resolved = {"precision": precision, "encoders": made_by}
    inputs_read = [describe_parent(path) for path in parents]
    first, *others = (each["sha256"] for each in inputs_read)
    identity = {"config": agreed(config) | resolved, "dataset": first}
    identity["files"] = {str(path): digest for path, digest in zip(parents[1:], others, strict=True)}
    checkpoint = Checkpoint(config.output, identity, resume=config.resume, progress=progress)
    make = Maker(how, dataset, earlier, checkpoint)
    made = {
        name: make.encoded(name, source, encoders[name], made_by[name])
        if isinstance(source, Encoding)
        else make.finish(name, ready[name], made_by[name], {"reused": 0, "long_texts": 0, "kinds": {}})
        for name, source in sources.items()
    }
    write_features(
        config.output,
        Features(catalogue=dataset.catalogue, features={name: each.feature for name, each in made.items()}),
        encodings={name: each.kept for name, each in made.items()}, config=stored(config) | resolved,
        parents=inputs_read, force=config.force, origin=ran_on(device, config.threads, precision),
    )  # fmt: skip
    checkpoint.path.unlink(missing_ok=True)
    return EmbedResult(
        output=config.output, items=dataset.catalogue.items, seconds=time.perf_counter() - began,
        features={name: each.figures for name, each in made.items()},
    )  # fmt: skip


def choose_sources(config: EmbedConfig, dataset: Dataset, progress: Progress) -> dict[str, Encoding | Ready]:
    """modality -> what it is made of; a modality that no item has is left out.

    Raises:
        UsageError: an unknown modality.
        DataError: no item has a requested modality, or any modality.
    """
    from bbqrec_cli.encoders.sources import Encoding, Ready, inputs_of

    asked = named_sources(config, dataset)
    usual: dict[str, Encoding | Ready] = {"text": Encoding("text", "", "text"), "image": Encoding("image", "", "image")}
    known = usual | dict.fromkeys(dataset.features, Ready()) | asked
    plan: dict[str, Encoding | Ready] = {}
    for name in config.modalities or known:
        if name not in known:
            raise UsageError(f"--modalities: {name!r} is none of {', '.join(known)}{did_you_mean(name, known)}")
        source = known[name]
        if isinstance(source, Ready):
            if source.file is None:
                progress.log(f"{name}: the dataset's precomputed features are copied")
            plan[name] = source
        elif any(inputs_of(dataset, source)):
            plan[name] = source
        elif config.modalities or name in asked:
            raise DataError(f"{config.dataset}: no item has any {name}", "bbqrec embed --help, --modalities")
        else:
            progress.log(f"{name}: no item has it; left out")
    if not plan:
        raise DataError(f"{config.dataset}: no item has a text, a picture or precomputed features", _NOTHING)
    return plan


def named_sources(config: EmbedConfig, dataset: Dataset) -> dict[str, Encoding | Ready]:
    """The modalities for which options name a model, a template or a file.

    Raises:
        UsageError: two options name one modality, or one names what --modalities leaves out; or as `encoder_source` and
            `vectors_source`.
    """
    from bbqrec_cli.encoders.sources import Encoding, encoder_source, vectors_source

    if config.ids and not config.vectors:
        raise UsageError("--ids has no effect without --vectors", "--vectors NAME=FILE")
    named: list[tuple[str, str, Encoding | Ready]] = []
    if config.text_model or config.text_template:
        flag = "--text-template" if config.text_template else "--text-model"
        named.append((flag, "text", Encoding("text", config.text_model, config.text_template or "text", flag)))
    if config.image_model:
        named.append(("--image-model", "image", Encoding("image", config.image_model, "image")))
    named += [(f"--encoder {each!r}", *encoder_source(each, dataset)) for each in config.encoder]
    named += [(f"--vectors {each!r}", *vectors_source(each)) for each in config.vectors]
    found: dict[str, Encoding | Ready] = {}
    for flag, name, source in named:
        if config.modalities and name not in config.modalities:
            said = f"{flag} has no effect: --modalities does not name {name}"
            raise UsageError(said, "name it there, too, or leave the option out")
        if name in found:
            raise UsageError(f"{flag}: another option says already what {name} is made of", "give one of them")
        found[name] = source
    return found


def load_encoders(
    config: EmbedConfig, sources: dict[str, Encoding | Ready], *, device: torch.device, precision: str
) -> dict[str, Encoder]:
    """modality -> its encoder; a model that encodes several is loaded once."""
    from bbqrec_cli.encoders import load_encoder
    from bbqrec_cli.encoders.sources import Encoding

    loaded: dict[tuple[str, str], Encoder] = {}
    made = {}
    for name, source in sources.items():
        if isinstance(source, Encoding):
            key = source.kind, source.model
            if key not in loaded:
                loaded[key] = load_encoder(
                    *key, device=device, precision=precision, max_length=config.max_length,
                    chunks=config.long_texts == "chunk",
                )  # fmt: skip
            made[name] = loaded[key]
    return made


def ready_feature(config: EmbedConfig, source: Ready, name: str, dataset: Dataset, progress: Progress) -> Feature:
    """The vectors of the user's own, or of the dataset file. Raises: as `vectors.to_feature`."""
    from bbqrec_cli.encoders.vectors import read_ids, to_feature

    if source.file is None:
        return dataset.features[name]
    ids = read_ids(config.ids) if config.ids else None
    return to_feature(source.file, name, source.array, dataset.catalogue.item_ids, ids, progress)
