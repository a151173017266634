"""What a plugin's source gives is checked before it becomes numbers."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from bbqrec_cli.data.sources.base import Interactions, Items, by_user
from bbqrec_cli.data.sources.checks import check_interactions, check_items
from bbqrec_cli.errors import DataError
from bbqrec_cli.records import Feature


def some() -> Interactions:
    return by_user(["u", "v", "u", "v", "u"], ["a", "b", "c", "a", "b"], [3, 1, 5, 2, 5])


def test_what_by_user_makes_passes():
    check_interactions(some(), "it", divided=False)
    parts = np.array([0, 0, 1, 1, 2], dtype=np.uint8)
    divided = by_user(["u", "v", "u", "v", "u"], ["a", "b", "c", "a", "b"], [3, 9, 5, 2, 1], parts=parts)
    check_interactions(divided, "it", divided=True)
    for made, said in ((divided, False), (some(), True)):
        with pytest.raises(DataError, match=r"gives parts, but divided|is divided, but gives no parts"):
            check_interactions(made, "it", divided=said)


@pytest.mark.parametrize("time", [np.nan, np.inf])
def test_times_that_are_none(time):
    with pytest.raises(DataError, match=f"user 'v', item 'b': the time is {time}"):
        by_user(["u", "v"], ["a", "b"], [3.0, time])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"user_ids": ["u", "u"]}, "the user id 'u' twice"),
        ({"item_ids": ["a", " b", "c"]}, "the item id ' b', with spaces around it or several inside"),
        ({"item_ids": ["a", "b  c", "d"]}, "the item id 'b  c', with spaces around it or several inside"),
        ({"item_ids": ["a", "", "c"]}, "the item id '', which is no text"),
        ({"item_ids": ["a", 7, "c"]}, "the item id 7, which is no text"),
        ({"item_ids": ["a", "b", "c", "d"]}, "ids of items without an interaction"),
        ({"user_ids": [], "users": np.zeros(0, int)}, "no users"),
        ({"items": np.array([0, 1, 2, 3, 0])}, "items that are no rows of the 3 ids"),
        ({"items": np.array([0, 1, 2, -1, 0])}, "items that are no rows of the 3 ids"),
        ({"items": np.array([0, 1, 2])}, "3 items; 5 are needed, one per interaction"),
        ({"items": [0, 1, 2, 1, 0]}, "items that are no array of integers, (n,)"),
        ({"users": np.array([0.0, 0, 0, 1, 1])}, "users that are no array of integers, (n,)"),
        ({"users": np.array([0, 1, 0, 1, 0])}, "interactions that are not sorted by user"),
        ({"timestamps": np.array([3, 5, 4, 1, 2])}, "interactions of a user whose times do not ascend"),
        ({"timestamps": np.array([3.5, 4, 5, 1, 2])}, "times that are no array of integers"),
        ({"timestamps": np.array([3, 4])}, "times of the shape (2,); (5,) is needed"),
        ({"moments": np.array([2, 1, 1, 3, 4])}, "interactions of a user whose moments do not ascend"),
        ({"parts": np.array([0, 2, 1, 0, 0])}, "interactions of a user whose parts do not ascend"),
        ({"parts": np.array([0, 0, 9, 0, 0])}, "parts that are none of 0, 1 and 2: training, validation, test"),
    ],
)  # fmt: skip
def test_interactions_that_are_none(changed, said):
    with pytest.raises(DataError, match=f"^the source 'ring' gives {re.escape(said)}$") as raised:
        check_interactions(dataclasses.replace(some(), **changed), "the source 'ring'", divided="parts" in changed)
    assert "by_user" in raised.value.hint


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Items(fields={"title": ["x", "y"]}), "the field 'title' for 2 items; 3 are asked"),
        (Items(fields={"title": ["x", None, "z"]}), "the field 'title' with None, which is no text"),
        (Items(images=[b"", b""]), "images for 2 items; 3 are asked"),
        (
            Items(features={"text": Feature(values=np.ones((4, 2)), present=np.ones(4, bool), encoder="x")}),
            "the features 'text' for 4 items; 3 are asked",
        ),
    ],
)
def test_items_that_were_not_asked_for(found, said):
    with pytest.raises(DataError, match=f"^it gives {said}$"):
        check_items(found, 3, "it")
    check_items(Items(), 3, "it")
    check_items(Items(fields={"title": ["x", "", "z"]}, images=[b"", b"", b"x"]), 3, "it")
