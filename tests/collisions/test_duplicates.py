from __future__ import annotations

import numpy as np
import pytest

from bbqrec_cli.collisions import duplicates as module
from bbqrec_cli.collisions.duplicates import DUPLICATE, NOT_COLLIDING, UNKNOWN, VICTIM, judge_duplicates
from bbqrec_cli.records import Feature


def feature(angles: list[float | None]) -> Feature:
    """Unit vectors in the plane; None: absent."""
    values = np.array([[0, 0] if a is None else [np.cos(a), np.sin(a)] for a in angles], dtype=np.float32)
    return Feature(values=values, present=np.array([a is not None for a in angles]))


CODES = np.array([0, 0, 0, 0, 1, 1, 2, 3, 3, 3])[:, None, None]
TITLES = ["Red  Hat", "red hat", "blue hat", "", "x", "y", "red hat", "", "", ""]


def test_by_titles_alone():
    made, found = judge_duplicates(CODES, TITLES, {})
    assert found.tolist() == [
        DUPLICATE, DUPLICATE, VICTIM, UNKNOWN, VICTIM, VICTIM, NOT_COLLIDING, UNKNOWN, UNKNOWN, UNKNOWN,
    ]  # fmt: skip
    assert (made.colliding_items, made.duplicates, made.victims, made.unknown) == (9, 2, 3, 4)
    assert (made.same_title, made.same_features) == (2, None)


@pytest.mark.parametrize("portion", [4096, 3])
def test_by_features(portion, monkeypatch):
    """A cosine of .99 is an angle of .1415."""
    monkeypatch.setattr(module, "PORTION", portion)
    text = feature([0, 1, 2, 2.1, 0, 0.15, 0, None, None, 1])
    image = feature([None, None, None, 3, 1, 1, 0, 0.1, 0.2, None])
    made, found = judge_duplicates(CODES, TITLES, {"text": text, "image": image})
    pair = [DUPLICATE] * 2 if portion > 3 else [VICTIM, VICTIM]  # rows 2 and 3 fall into two portions
    assert found.tolist() == [
        DUPLICATE, DUPLICATE, *pair, VICTIM, VICTIM, NOT_COLLIDING, DUPLICATE, DUPLICATE, VICTIM,
    ]  # fmt: skip
    assert made.same_features == (4 if portion > 3 else 2)


def test_all_features_must_agree():
    codes = np.zeros((2, 1, 1))
    _, found = judge_duplicates(codes, ["", ""], {"text": feature([0, 0]), "image": feature([0, 1])})
    assert found.tolist() == [VICTIM, VICTIM]
    _, found = judge_duplicates(codes, ["", ""], {"text": feature([0, 0]), "image": feature([0, None])})
    assert found.tolist() == [DUPLICATE, DUPLICATE]


def test_nothing_collides():
    made, found = judge_duplicates(np.arange(4)[:, None, None], [""] * 4, {"text": feature([0, 0, 0, 0])})
    assert (made.colliding_items, made.duplicates, found.tolist()) == (0, 0, [NOT_COLLIDING] * 4)
