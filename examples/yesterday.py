"""A catalogue as it was before some of its items came:  python examples/yesterday.py features.h5 yesterday.h5

One item in twenty is taken out, with everything that users did with it.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import BBQRecError, DataError
from bbqrec_cli.hdf5 import read_features, write_features
from bbqrec_cli.records import Features, Sequences

EVERY, FIRST = 20, 7
"""Of every 20 items the eighth is new."""


def yesterday(today: Features) -> Features:
    """Less the new items. Rows change, ids do not.

    Raises:
        DataError: the file holds out others than the last two interactions of each user.
    """
    catalogue = today.catalogue
    if catalogue.splitting.kind != "last":
        raise DataError(f"the split of these data is {catalogue.splitting.kind}; prepare them with --split last")
    stay = np.arange(catalogue.items) % EVERY != FIRST
    place, rows = np.cumsum(stay) - 1, np.flatnonzero(stay)
    train, walks = split_of(catalogue.sequences).train, []
    for user, walk in enumerate(catalogue.sequences):
        left = walk[stay[walk]]
        # Nobody holds out items of so short a sequence: today's held-out ones must not be trained on.
        left = left if len(left) >= 3 else train[user][stay[train[user]]]
        walks.append(place[left].tolist())
    less = dataclasses.replace(
        catalogue,
        item_ids=[catalogue.item_ids[row] for row in rows],
        titles=[catalogue.titles[row] for row in rows],
        sequences=Sequences.from_lists(walks),
        attributes={name: [values[row] for row in rows] for name, values in catalogue.attributes.items()},
    )
    features = {
        name: dataclasses.replace(feature, values=feature.values[rows], present=feature.present[rows])
        for name, feature in today.features.items()
    }
    return Features(catalogue=less, features=features)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("python examples/yesterday.py features.h5 yesterday.h5")
    source, output = map(Path, sys.argv[1:])
    try:
        less = yesterday(read_features(source))
        write_features(output, less, config={"without": f"one item in {EVERY}"}, parents=[source])
    except BBQRecError as error:
        sys.exit(f"error: {error.message}")
