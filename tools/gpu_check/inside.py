"""What only a process that computes on the device can tell: interrupted and resumed training, pretrained encoders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.gpu_check.internals import (
    InterruptedRunError,
    Silent,
    load_encoder,
    read_dataset,
    read_model,
    read_tokens,
    tokenize,
    train,
)
from tools.gpu_check.report import Report, relative_error
from tools.gpu_check.same import of_chain
from tools.gpu_check.settings import Settings

RESUMED = {"train": 1e-3, "tokenize": 0.02}
"""The largest relative difference of the losses between resumed and uninterrupted training on one device. Where k-means
comes between, the last digits grow."""
ENCODED = {"fp32": 1e-4, "bf16": 0.05}
"""The largest relative error of an encoder's output."""
PICTURES = 16


class Interrupting(Silent):
    """A progress that interrupts the training when its last epoch begins; `quiet` makes it one that does not."""

    def __init__(self, epochs: int, *, quiet: bool = False) -> None:
        self.epochs, self.quiet = epochs, quiet

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        pass

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Interrupting]:
        if not self.quiet and description.startswith(f"epoch {self.epochs}"):
            raise KeyboardInterrupt
        yield self


def resume(settings: Settings, report: Report) -> None:
    """Training on the device, twice alike and once interrupted: checkpoint and optimiser come back to the device."""
    folder = settings.path("resume")
    folder.mkdir()
    small: dict[str, Any] = {"epochs": 3, "layers": 1, "batch_size": 64}
    sizes: dict[str, Any] = {"codebook_size": 64}
    if settings.quick:
        small |= {"epochs": 2, "width": 16, "heads": 2}
        sizes = {"codebook_size": 16, "levels": 2, "dim": 16, "hidden": 16}
    cases = {
        "train sasrec": (train, {"input": settings.path("base", "features.h5"), "model": "sasrec"}, small),
        "train bbqrec": (
            train, {"input": of_chain(settings, "tokens.h5"), "model": "bbqrec"}, small | {"decoder_layers": 1},
        ),
        "tokenize bbqrec": (
            tokenize, {"features": settings.path("base", "features.h5"), "method": "bbqrec"},
            {"epochs": 3, "warmup_epochs": 1, **sizes},
        ),
    }  # fmt: skip
    for name, (stage, given, options) in cases.items():
        with report.guarded(name):
            repeated(settings, report, name, stage, given, options)


def repeated(
    settings: Settings, report: Report, name: str, stage: Any, given: dict[str, Any], options: dict[str, Any]
) -> None:
    """One stage's training: whole, whole again, interrupted and resumed."""
    configuration = stage.TrainConfig if stage is train else stage.TokenizeConfig
    found: list[Any] = []
    for number, interrupted in enumerate((False, False, True)):
        output = settings.path("resume", f"{name.replace(' ', '-')}-{number}.h5")
        common = {"output": output, "options": options, "device": settings.device, "precision": "fp32", **given}
        if interrupted:
            with suppress(InterruptedRunError):
                stage.run(configuration(**common), Interrupting(options["epochs"]))
            if output.exists():
                raise AssertionError(f"{name} was not interrupted")
        stage.run(configuration(**common, resume=interrupted), Interrupting(options["epochs"], quiet=True))
        found.append(read_model(output) if stage is train else read_tokens(output))
    whole, again, resumed = ([row["loss"] for row in each.history] for each in found)
    most = RESUMED[name.split()[0]]
    report.small(f"{name}: the losses of the same run again", relative_error([again], [whole]), most)
    report.small(f"{name}: the losses of the resumed run", relative_error([resumed], [whole]), most)
    if stage is train:
        first, second = (each.weights for each in found[:2])
        equal = all(np.array_equal(first[key], second[key]) for key in first)
        bits = "bit for bit the same weights" if equal else "weights that are not bit for bit the same"
        report.notes.append(f"{name}: the same run again on {settings.device} gave {bits}.")


def encoders(settings: Settings, report: Report) -> None:
    """A text and a picture model with random weights, loaded and run as `bbqrec embed` does it."""
    folder = settings.path("encoders")
    folder.mkdir()
    dataset = read_dataset(settings.path("base", "dataset.h5"))
    texts = [text for text in dataset.texts if text][: 4 * PICTURES]
    pictures = [picture for picture in dataset.images if picture][:PICTURES]
    with report.guarded("text encoder"):
        encode(settings, report, "text", text_model(folder / "text", texts), texts)
    with report.guarded("image encoder"):
        encode(settings, report, "image", clip_model(folder / "image"), pictures)


def encode(settings: Settings, report: Report, modality: str, model: Path, inputs: list[Any]) -> None:
    """One encoder on both devices."""
    wanted, _ = load_encoder(modality, str(model), device=torch.device("cpu")).encode(inputs)
    for precision, largest in ENCODED.items():
        encoder = load_encoder(modality, str(model), device=torch.device(settings.device), precision=precision)
        found, readable = encoder.encode(inputs)
        report.small(f"{modality} encoder, {precision}", relative_error([found], [wanted]), largest)
        count = f"{readable.sum()} read"
        report.true(f"{modality} encoder, {precision}: inputs", count, bool(readable.all()), wanted="all")


def text_model(folder: Path, texts: list[str]) -> Path:
    """A small BERT whose vocabulary are the words of the texts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in re.findall(r"[a-z0-9]+", text.lower())})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    parser = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    parser.normalizer = normalizers.Lowercase()
    parser.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=parser, unk_token="[UNK]", pad_token="[PAD]", model_max_length=128
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
        max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def clip_model(folder: Path) -> Path:
    """A small CLIP for pictures of 32 × 32."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(
            text_config={**small, "vocab_size": 50, "max_position_embeddings": 8},
            vision_config={**small, "image_size": 32, "patch_size": 16},
            projection_dim=16,
        )
    ).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder
