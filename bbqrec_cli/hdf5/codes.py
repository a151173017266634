"""The semantic IDs of a tokens or model file. I items, L levels, M signals, N codes, D width of a code."""

from __future__ import annotations

from typing import Any

import numpy as np

from bbqrec_cli.errors import BrokenFileError
from bbqrec_cli.grouping import group_codes
from bbqrec_cli.hdf5.store import File, Value
from bbqrec_cli.records import Codes

_MOST_CODES = 1 << 16
"""Codes are uint16."""


def codes_out(codes: Codes) -> tuple[dict[str, Any], dict[str, Value]]:
    """Attributes and datasets."""
    token_of_item, sharing = group_codes(codes.codes)
    datasets: dict[str, Value] = {
        "codes": codes.codes.astype(np.uint16, copy=False),
        "token_of_item": token_of_item,
        "collision": sharing[token_of_item] - 1,
    }
    if codes.codebooks is not None:
        datasets["codebooks"] = codes.codebooks.astype(np.float32, copy=False)
    if codes.item_vectors is not None:
        datasets["item_vectors"] = codes.item_vectors.astype(np.float32, copy=False)
    if codes.present is not None:
        datasets["present"] = codes.present.astype(bool, copy=False)
    attributes = {"method": codes.method, "levels": codes.levels, "codebook_size": codes.codebook_size}
    attributes |= {"modalities": list(codes.modalities)} | ({"suffix": True} if codes.suffix else {})
    return attributes, datasets


def codes_in(file: File) -> Codes | None:
    """None: the file has no semantic IDs. Raises: BrokenFileError: values that contradict each other."""
    if "codes" not in file:
        return None
    made = Codes(
        codes=file.array("codes"),
        modalities=_signals(file),
        method=file.attribute("method"),
        codebook_size=file.count("codebook_size"),
        codebooks=file.array("codebooks") if "codebooks" in file else None,
        item_vectors=file.array("item_vectors") if "item_vectors" in file else None,
        present=file.array("present") if "present" in file else None,
        suffix=file.has_attribute("suffix") and bool(file.attribute("suffix")),
    )
    highest, signals = int(made.codes.max(initial=0)), made.codes.shape[2]
    if made.codebook_size > _MOST_CODES:  # tables get this many rows, whatever the codes are
        raise BrokenFileError(f"{file.path}: codebook_size is {made.codebook_size:,}; codes end at {_MOST_CODES:,}")
    if highest >= made.codebook_size:
        raise BrokenFileError(f"{file.path}: /codes holds {highest}, but codebook_size is {made.codebook_size}")
    if len(made.modalities) != signals:
        raise BrokenFileError(f"{file.path}: /codes has {signals} signals, but modalities names {len(made.modalities)}")
    if file.attribute("levels") != made.levels:
        raise BrokenFileError(f"{file.path}: /codes has {made.levels} levels, but levels is {file.attribute('levels')}")
    if made.codebooks is not None:
        _check_codebooks(file, made, made.codebooks)
    return made


def _signals(file: File) -> tuple[str, ...]:
    """Names of the signals; Raises: BrokenFileError: they are none, or one of them stands there twice."""
    found = file.attribute("modalities")
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise BrokenFileError(f"{file.path}: the attribute modalities is no list of names")
    if len(set(found)) < len(found):
        raise BrokenFileError(f"{file.path}: the attribute modalities has a name twice: {', '.join(found)}")
    return tuple(found)


def _check_codebooks(file: File, made: Codes, books: np.ndarray) -> None:
    """books (1 or M, L or fewer, N or fewer, D); item vectors (I, M · D) are made of them."""
    signals, levels, size, width = books.shape
    if signals not in (1, len(made.modalities)) or levels > made.levels or size > made.codebook_size:
        fitting = f"{len(made.modalities)} signals, {made.levels} levels and {made.codebook_size} codes"
        raise BrokenFileError(f"{file.path}: /codebooks of the shape {books.shape} is none of {fitting}")
    if made.codes[:, :levels].max(initial=0) >= size:
        raise BrokenFileError(f"{file.path}: /codes names a code that /codebooks, of {size}, does not have")
    vectors = made.item_vectors
    if vectors is not None and vectors.shape[1] != len(made.modalities) * width:
        fitting = f"{len(made.modalities)} signals × {width} columns of /codebooks"
        raise BrokenFileError(f"{file.path}: /item_vectors has {vectors.shape[1]} columns, not {fitting}")
