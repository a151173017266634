"""The part that every kind from dataset to model has: users, items, interactions and how they are split."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from bbqrec_cli.errors import BrokenFileError
from bbqrec_cli.hdf5.schema import RESERVED_ATTRIBUTES
from bbqrec_cli.hdf5.store import File, Value
from bbqrec_cli.records import LAST, PARTS, Catalogue, Sequences, Splitting, Vocabulary


def splitting_out(splitting: Splitting) -> dict[str, Any]:
    """The attribute of a split that is not leave-last-out."""
    if splitting == LAST:
        return {}
    about = {"quantiles": list(splitting.quantiles), "cuts": list(splitting.cuts)}
    return {"splitting": {"kind": splitting.kind} | {key: value for key, value in about.items() if value}}


def splitting_in(file: File) -> Splitting:
    """The split that a file names; leave-last-out if it names none. Raises: BrokenFileError: it names no split."""
    if not file.has_attribute("splitting"):
        return LAST
    about = file.mapping("splitting")
    try:
        made = Splitting(
            kind=str(about["kind"]), quantiles=tuple(about.get("quantiles", ())), cuts=tuple(about.get("cuts", ()))
        )
        str(made)  # which only a known kind, with its moments, has
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise BrokenFileError(f"{file.path}: the attribute splitting names no split ({error!r})") from error
    return made


def catalogue_out(catalogue: Catalogue) -> tuple[dict[str, Any], dict[str, Value]]:
    """Attributes and datasets. Raises: BrokenFileError: values that contradict each other."""
    given = catalogue.sequences
    sequences = Sequences(
        indptr=given.indptr.astype(np.int64), items=given.items.astype(np.int32),
        timestamps=None if given.timestamps is None else given.timestamps.astype(np.int64),
        parts=None if given.parts is None else given.parts.astype(np.uint8),
    )  # fmt: skip
    _check_sequences(dataclasses.replace(catalogue, sequences=sequences), "the catalogue")
    datasets: dict[str, Value] = {
        "users/id": catalogue.user_ids,
        "items/id": catalogue.item_ids,
        "items/title": catalogue.titles,
        "sequences/indptr": sequences.indptr,
        "sequences/items": sequences.items,
    }
    if sequences.timestamps is not None:
        datasets["sequences/timestamps"] = sequences.timestamps
    if sequences.parts is not None:
        datasets["sequences/part"] = sequences.parts
    datasets |= {f"items/{name}": values for name, values in catalogue.attributes.items()}
    return splitting_out(catalogue.splitting), datasets


def catalogue_in(file: File) -> Catalogue:
    """Raises: BrokenFileError: values that contradict each other."""
    times = file.array("sequences/timestamps") if "sequences/timestamps" in file else None
    sequences = Sequences(
        indptr=file.array("sequences/indptr"), items=file.array("sequences/items"), timestamps=times,
        parts=file.array("sequences/part") if "sequences/part" in file else None,
    )  # fmt: skip
    catalogue = Catalogue(
        user_ids=Vocabulary(file.strings("users/id")),
        item_ids=Vocabulary(file.strings("items/id")),
        titles=file.strings("items/title"),
        sequences=sequences,
        attributes={
            name: file.strings(f"items/{name}")
            for name in file.names("items", arrays=True)
            if name not in RESERVED_ATTRIBUTES
        },
        splitting=splitting_in(file),
    )
    _check_sequences(catalogue, str(file.path))
    for name, ids in (("users/id", catalogue.user_ids), ("items/id", catalogue.item_ids)):
        if len(set(ids)) < len(ids):
            twice = next(each for each, count in Counter(ids).items() if count > 1)
            raise BrokenFileError(f"{file.path}: /{name} holds {twice!r} more than once")
    return catalogue


def _check_sequences(catalogue: Catalogue, where: str) -> None:
    sequences, parts = catalogue.sequences, catalogue.sequences.parts
    pointer, items = sequences.indptr, sequences.items
    if pointer[0] != 0 or pointer[-1] != len(items) or (pointer[1:] < pointer[:-1]).any():
        raise BrokenFileError(f"{where}: /sequences/indptr does not fit /sequences/items")
    if len(items) and (items.min() < 0 or items.max() >= catalogue.items):
        raise BrokenFileError(f"{where}: /sequences/items names an item row outside 0…{catalogue.items - 1}")
    if (parts is None) != (catalogue.splitting.kind == "last"):
        raise BrokenFileError(f"{where}: /sequences/part and the attribute splitting go together; one is missing")
    if parts is not None:
        if len(parts) != len(items):
            raise BrokenFileError(
                f"{where}: /sequences/part has {len(parts):,} values, /sequences/items {len(items):,}"
            )
        borders = pointer[(pointer > 0) & (pointer < len(items))]
        falls = parts[1:] < parts[:-1]
        falls[borders - 1] = False
        if (parts >= len(PARTS)).any() or falls.any():
            raise BrokenFileError(f"{where}: /sequences/part must rise from 0 to {len(PARTS) - 1} within each user")
