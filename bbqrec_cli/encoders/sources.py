"""What a feature is made of: an encoder and what it reads, or vectors that there are. I items."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bbqrec_cli.config import did_you_mean, named_file
from bbqrec_cli.encoders import DESCRIPTOR
from bbqrec_cli.encoders.templates import compose
from bbqrec_cli.errors import UsageError
from bbqrec_cli.records import Dataset


@dataclass(frozen=True)
class Encoding:
    """A feature to encode. kind: text or image; model: name, folder or '' for the default; reads: image, a field or a
    template; flag: the option that names it."""

    kind: str
    model: str
    reads: str
    flag: str = ""


@dataclass(frozen=True)
class Ready:
    """A feature that needs no encoder. file: vectors of the user's own, array: which one of it, '' for the only one;
    None: precomputed ones of the dataset file."""

    file: Path | None = None
    array: str = ""


def encoder_source(value: str, dataset: Dataset) -> tuple[str, Encoding]:
    """NAME=MODEL:INPUT of --encoder. Raises: UsageError: a bad name, no model, or an unknown input."""
    name, model, reads = named_file(value)
    flag = f"--encoder {value}"
    _check_name(name, flag)
    if not (model or reads):
        raise UsageError(f"{flag}: NAME=MODEL:INPUT is needed", "such as --encoder title=MODEL:title")
    reads = reads or ("image" if model == DESCRIPTOR else name)
    known = ("image", *fields_of(dataset))
    if reads not in known and "{" not in reads:
        what = f"{reads!r} is nothing that the items have{did_you_mean(reads, known)}; they have {', '.join(known)}"
        raise UsageError(f"{flag}: {what}", f"--encoder {name}={model}:INPUT, with one of these or a template")
    return name, Encoding("image" if reads == "image" else "text", model, reads, flag)


def vectors_source(value: str) -> tuple[str, Ready]:
    """NAME=FILE:ARRAY of --vectors. Raises: UsageError: a bad name, or no file."""
    name, file, array = named_file(value)
    flag = f"--vectors {value}"
    _check_name(name, flag)
    if not file:
        raise UsageError(f"{flag}: NAME=FILE is needed", "such as --vectors text=vectors.npy")
    return name, Ready(Path(file), array)


def _check_name(name: str, flag: str) -> None:
    if name == "id":
        raise UsageError(f"{flag}: id is the signal of the items themselves", "give the feature another name")
    if not re.fullmatch(r"\w[\w-]*", name):
        raise UsageError(f"{flag}: {name!r} is no name of a feature", "letters, digits, _ and -, then =")


def fields_of(dataset: Dataset) -> dict[str, Sequence[str]]:
    """The fields of the items that an encoder can read and a template can name, each (I,)."""
    return {"text": dataset.texts, "title": dataset.catalogue.titles, **dataset.catalogue.attributes}


def inputs_of(dataset: Dataset, source: Encoding) -> Sequence[Any]:
    """The inputs to encode, (I,); empty = missing. Raises: UsageError: as `compose`."""
    if source.kind == "image":
        return dataset.images
    if source.reads == "text":
        return [text.strip() for text in dataset.texts]
    return compose(source.reads, fields_of(dataset), where=source.flag)
