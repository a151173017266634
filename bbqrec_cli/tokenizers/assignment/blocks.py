"""Codes of a catalogue, block by block, so that memory need not hold the features of all items.

I items of the catalogue, n items of a part of it, L levels, M signals, D width of a code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.errors import DataError, UsageError
from bbqrec_cli.hdf5 import read_feature_blocks
from bbqrec_cli.progress import SILENT, Progress
from bbqrec_cli.records import Codes, Feature
from bbqrec_cli.seeds import numpy_generator
from bbqrec_cli.tokenizers.base import Encode, SampleTokenizer, Tokenized

BLOCK = 8192
"""Items read and encoded at once."""


def draw_sample(
    tokenizer: Any, method: str, present: Mapping[str, np.ndarray], items: int, *, seed: int
) -> np.ndarray | None:
    """Sorted rows (n,) int64 of the items to fit a tokenizer on, drawn from those with content; None: all.

    Args:
        method: its name, for the message.
        present: feature -> (I,) bool.
        items: number of items to draw.

    Raises:
        UsageError: a tokenizer that needs all items.
        DataError: a feature that it reads is missing, or no drawn item has it.
    """
    if not isinstance(tokenizer, SampleTokenizer):
        raise UsageError(
            f"--fit-items needs a method that computes codes from an item's features alone; {method} does not",
            "leave it out, or --method rqvae, rqkmeans, pq or opq",
        )
    names = tokenizer.reads(present)
    having = np.flatnonzero(np.any([present[name] for name in names], axis=0))
    if items >= len(having):
        return None
    rows = np.sort(numpy_generator(seed, "fit items").choice(having, items, replace=False, shuffle=False))
    for name in names:
        if not present[name][rows].any():
            raise DataError(f"none of the {items:,} drawn items has the feature {name}", "more --fit-items")
    return rows


def read_sample(path: Path, names: Sequence[str], rows: np.ndarray, items: int) -> dict[str, Feature]:
    """The features of the sorted rows (n,) of a features file with `items` items. The others are checked as well, so
    that errors in them are reported before a tokenizer is fitted.

    Raises: as `read_feature_blocks`.
    """
    made, starts = dict[str, Feature](), range(0, items, BLOCK)
    for start, block in zip(starts, read_feature_blocks(path, names, starts, BLOCK), strict=True):
        place = _inside(rows, start)
        for name, found in block.items():
            if name not in made:
                values = np.empty((len(rows), found.values.shape[1]), dtype=found.values.dtype)
                made[name] = dataclasses.replace(found, values=values, present=np.empty(len(rows), dtype=bool))
            made[name].values[place] = found.values[rows[place] - start]
            made[name].present[place] = found.present[rows[place] - start]
    return made


def feature_blocks(path: Path, names: Sequence[str], rows: np.ndarray) -> Iterator[dict[str, Feature]]:
    """The features of the sorted rows (n,) of a features file, in blocks; blocks without any of them are not read.

    Raises: as `read_feature_blocks`.
    """
    starts = (np.unique(rows // BLOCK) * BLOCK).tolist()
    for start, block in zip(starts, read_feature_blocks(path, names, starts, BLOCK), strict=True):
        here = rows[_inside(rows, start)] - start
        yield {
            name: dataclasses.replace(found, values=found.values[here], present=found.present[here])
            for name, found in block.items()
        }


def encode_catalogue(
    made: Tokenized, encode: Encode, path: Path, items: int, *, latents: bool, progress: Progress = SILENT
) -> Tokenized:
    """Codes of all items of the features file `path`, from a tokenizer that was fitted on a sample of them.

    Args:
        made: the result of the fit.
        encode: the tokenizer's encoding.
        latents: as for `encode_blocks`.
    """
    assert made.encoder is not None  # `draw_sample` saw to it
    blocks = feature_blocks(path, tuple(made.encoder.inputs), np.arange(items))
    every = encode_blocks(made.codes, encode, blocks, keep=0, items=items, latents=latents, progress=progress)
    return dataclasses.replace(every, history=made.history, encoder=made.encoder)


def _inside(rows: np.ndarray, start: int) -> slice:
    """The positions in sorted rows (n,) of those in the block that begins at row `start`."""
    return slice(*np.searchsorted(rows, (start, start + BLOCK)))


def encode_blocks(
    codes: Codes, encode: Encode, blocks: Iterable[Mapping[str, Feature]], *, keep: int, items: int,
    latents: bool, progress: Progress = SILENT,
) -> Tokenized:  # fmt: skip
    """Codes of `items` items before collisions are resolved: the first `keep` of `codes`, then those of `encode`.

    A suffix level starts at 0. Arrays are filled in place, so that nothing is held twice.

    Args:
        codes: codes of the tokenizer.
        encode: its encoding.
        blocks: the features of the items from `keep` on, block by block.
        latents: whether to return the latents (items - keep, M, D), which some collision policies need.
    """

    def room(values: np.ndarray) -> np.ndarray:
        made = np.zeros((items, *values.shape[1:]), dtype=values.dtype)
        made[:keep] = values[:keep]
        return made

    present = room(np.ones(codes.codes[:, 0].shape, dtype=bool) if codes.present is None else codes.present)
    made = dataclasses.replace(
        codes, codes=room(codes.codes), present=present,
        item_vectors=None if codes.item_vectors is None else room(codes.item_vectors),
    )  # fmt: skip
    kept, done = None, keep
    with progress.task("codes", items - keep) as task:
        for features in blocks:
            part = encode(features)
            rows = slice(done, done + len(part.codes))
            made.codes[rows, : part.codes.shape[1]], present[rows] = part.codes, part.present
            if made.item_vectors is not None:
                made.item_vectors[rows] = part.vectors
            if latents:
                if kept is None:
                    kept = np.empty((items - keep, *part.latents.shape[1:]), dtype=part.latents.dtype)
                kept[done - keep : rows.stop - keep] = part.latents
            done = rows.stop
            task.advance(len(part.codes))
    return Tokenized(codes=made, history=[], latents=kept)
