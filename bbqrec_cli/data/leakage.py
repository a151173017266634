"""Whether data hold out what a model or tokenizer was trained on. n interactions."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b

import numpy as np

from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import DataError
from bbqrec_cli.records import Catalogue, TrainedModel


def training_digests(catalogue: Catalogue) -> np.ndarray:
    """(n,) uint64: of each interaction of the training part a number that the ids of its user and item make."""
    train = split_of(catalogue.sequences).train
    return _digests(catalogue, train.users, train.items)


def digests_of_model(model: TrainedModel) -> np.ndarray:
    """(n,) uint64: `training_digests` of all that a model and those that it goes on from were trained on."""
    own, before = training_digests(model.catalogue), model.earlier_interactions
    if before is None:
        return own
    found, (here, there) = _counts(own, before)
    return np.repeat(found, np.maximum(here, there))


def _counts(*parts: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The numbers that are in any of the parts, ascending, and how often each one is in each of them."""
    found, place = np.unique(np.concatenate(parts), return_inverse=True)
    places = np.split(place, np.cumsum([len(part) for part in parts])[:-1])
    return found, [np.bincount(each, minlength=len(found)) for each in places]


def digests_of_names(names: Collection[str]) -> np.ndarray:
    """(n,) uint64: a number for each of n names, the same wherever the name stands."""
    digests = (int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") for name in names)
    return np.fromiter(digests, np.uint64, len(names))


def _digests(catalogue: Catalogue, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n,) uint64, of pairs of rows."""
    of_users, of_items = digests_of_names(catalogue.user_ids), digests_of_names(catalogue.item_ids)
    return of_users[users] * np.uint64(0x9E3779B97F4A7C15) + of_items[items]


def check_held_out(model: TrainedModel, new: Catalogue, *, name: object, where: object) -> np.ndarray:
    """Refuse data that hold out what a model was trained on, or test what its epoch was chosen by.

    name, where: the files of the model and of the data. Returns: `digests_of_model`. Raises: DataError: they do.
    """
    was = digests_of_model(model)
    if leaked := trained_on(was, new):
        raise DataError(
            f"{where}: {name} was trained on {leaked:,} interactions that are held out here",
            "prepare the data with the split of before, or a later one",
        )
    if chosen_by := _chosen_by(model, new, was):
        raise DataError(
            f"{where}: {chosen_by:,} of its test targets are of the validation by which {name} was chosen",
            "prepare the data with the split of before, or a later one",
        )
    return was


def _chosen_by(model: TrainedModel, new: Catalogue, was: np.ndarray) -> int:
    """How many test targets of `new` were validation targets of the model, and are so in no other part of `new`.

    was: `digests_of_model`; what a user took before, too, is in both training parts.
    """
    old, mine = split_of(model.catalogue.sequences).validation, split_of(new.sequences)
    _, (then, tested, trained, *others) = _counts(
        _digests(model.catalogue, old.users, old.targets), _digests(new, mine.test.users, mine.test.targets), was,
        _digests(new, mine.validation.users, mine.validation.targets), training_digests(new),
    )  # fmt: skip
    elsewhere = np.maximum(sum(others) - trained, 0)
    return int(np.minimum(tested, np.maximum(then - elsewhere, 0)).sum())


def lost(was: np.ndarray, new: Catalogue) -> int:
    """How many interactions of `was`, the `training_digests` (n,) of then, `new` does not have."""
    _, (then, now) = _counts(was, training_digests(new))
    return int(np.maximum(then - now, 0).sum())


def trained_on(was: np.ndarray, new: Catalogue) -> int:
    """How many held-out interactions of `new` something was trained on. was (n,): `training_digests` of then.

    An interaction that a user repeats counts as often as it is in `was` and not in the training part of `new`.
    """
    mine = split_of(new.sequences)
    parts = [(each.users, each.targets) for each in (mine.validation, mine.test)]
    parts.append((mine.train.users, mine.train.items))
    users, items = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    digests, held = _digests(new, users, items), len(users) - len(mine.train.items)
    _, (of_held, now, then) = _counts(digests[:held], digests[held:], was)
    return int(np.minimum(of_held, np.maximum(then - now, 0)).sum())
