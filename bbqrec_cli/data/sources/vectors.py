"""Precomputed features from rows of numbers. I items, d width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from bbqrec_cli.data.sources.files import field_name, stored_names
from bbqrec_cli.errors import DataError
from bbqrec_cli.hdf5 import check_finite
from bbqrec_cli.records import Feature


def as_vector(numbers: Sequence[float | str | None]) -> np.ndarray:
    """(d,) float32: a null is NaN, what is too large is infinite. Raises: ValueError: a text that is no number."""
    with np.errstate(over="ignore"):
        return np.array(numbers, dtype=np.float32)


def features_of(
    item_ids: Sequence[str], vectors: Mapping[str, Mapping[str, np.ndarray]], where: str
) -> dict[str, Feature]:
    """The features that any of the items has. vectors: name -> item id -> (d,) float32; where: they stand.

    Raises:
        DataError: vectors of different widths, numbers that nothing can be computed from; it names an item.
    """
    made = {name: _feature(item_ids, rows, f"{where}: {name}") for name, rows in vectors.items()}
    return {name: each for name, each in made.items() if each.present.any()}


def _feature(item_ids: Sequence[str], rows: Mapping[str, np.ndarray], where: str) -> Feature:
    """The vectors (I, d) of the items, absent where `rows` has none."""
    widths = Counter(map(len, rows.values())).most_common()
    if len(widths) > 1:
        odd = next(item for item, row in rows.items() if len(row) == widths[-1][0])
        raise DataError(f"{where}: {widths[-1][0]} numbers for item {odd!r}, {widths[0][0]} for most", "correct it")
    values = np.zeros((len(item_ids), widths[0][0] if widths else 0), np.float32)
    present = np.array([item in rows for item in item_ids], bool)
    for row, item in enumerate(item_ids):
        if item in rows:
            values[row] = rows[item]
    check_finite(values, item_ids, where)
    return Feature(values=values, present=present)


def stored_features(features: Mapping[str, Feature]) -> dict[str, Feature]:
    """The precomputed features of any source under the names that the file can hold.

    Raises:
        DataError: two have the same name there; one is called id, as the signal of the items themselves, or nothing.
    """
    stored = stored_names(features, field_name, "the features")
    for name in stored:
        if name.strip() in ("", "id"):
            why = "id is the signal of the items themselves" if name.strip() else "a name is needed"
            raise DataError(f"the items have a feature called {name!r}: {why}", "give its column another name")
    return {plain: features[name] for plain, name in stored.items()}
