from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.tokenizers.collisions import depths, largest_groups, perplexity, prefixes

BEAUTY = Path(__file__).parents[3] / "shared" / "data" / "amazon-beauty" / "letter.index.json"

BY_HAND = np.array([[1, 1], [1, 2], [1, 2], [2, 1], [3, 1], [3, 1], [3, 1]])[:, :, None]
"""Seven items, two levels, one signal: 12 twice, 31 three times, 11 and 21 alone."""


def test_by_hand():
    first, second = depths(BY_HAND, ("id",))
    assert (first.depth, first.distinct, first.colliding_items, first.largest) == (1, 3, 6, 3)
    assert (second.depth, second.distinct, second.colliding_items, second.largest) == (2, 4, 5, 3)
    assert (first.usage, second.usage) == ({"id": 3}, {"id": 2})
    share = np.array([5, 2]) / 7
    assert second.perplexity["id"] == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    assert [group.tolist() for group in largest_groups(BY_HAND, 5)] == [[4, 5, 6], [1, 2]]
    assert [group.tolist() for group in largest_groups(BY_HAND, 1)] == [[4, 5, 6]]


def test_perplexity_of_even_codes_is_their_number():
    assert perplexity(np.resize(np.arange(5), 100)) == pytest.approx(5)
    assert perplexity(np.zeros(9, dtype=np.uint16)) == pytest.approx(1)


def test_against_counting_tuples():
    codes = np.random.default_rng(0).integers(0, 3, (400, 3, 2)).astype(np.uint16)
    found = depths(codes, ("id", "text"))
    for depth in (1, 2, 3):
        ids = [tuple(item[:depth].ravel()) for item in codes]
        counts = Counter(ids)
        each, (token, sharing) = found[depth - 1], prefixes(codes)[depth - 1]
        assert each.distinct == len(counts) == len(sharing)
        assert each.colliding_items == sum(n for n in counts.values() if n > 1)
        assert each.largest == max(counts.values())
        assert sharing[token].tolist() == [counts[i] for i in ids]
        assert each.usage["text"] == len({item[depth - 1, 1] for item in codes})
    ids = [tuple(item.ravel()) for item in codes]
    sizes = [n for _, n in Counter(ids).most_common(4)]
    groups = largest_groups(codes, 4)
    assert [len(group) for group in groups] == sizes
    assert all(len({ids[row] for row in group}) == 1 for group in groups)


def test_a_million_items():
    codes = np.random.default_rng(0).integers(0, 256, (1_000_000, 3, 2)).astype(np.uint16)
    first, _, third = depths(codes, ("id", "text"))
    assert first.distinct == 65_536
    assert third.colliding_items == 0


def test_command_on_tokens(files, bbqrec):
    outcome = bbqrec("collisions", files["tokens"], "--json")
    assert outcome.status == 0
    said = json.loads(outcome.out)
    assert (said["items"], said["distinct"], said["colliding_items"], said["groups"]) == (12, 12, 0, [])
    first = {"depth": 1, "distinct": 3, "colliding_items": 12, "largest": 4}
    assert said["depths"][0] == first | {
        "usage": {"id": 3, "text": 3},
        "perplexity": pytest.approx({"id": 3, "text": 3}),
    }
    assert bbqrec("collisions", files["tokens"], "--max-collisions", 0).status == 0
    plain = bbqrec("collisions", files["tokens"])
    assert "3 of 4" in plain.out


def test_the_limit_speaks_after_the_result(tokens, tmp_path, bbqrec):
    codes = tokens.codes.codes.copy()
    codes[[0, 1, 5]] = codes[0]
    both = dataclasses.replace(tokens, codes=dataclasses.replace(tokens.codes, codes=codes))
    hdf5.write_tokens(tmp_path / "tokens.h5", both, config={})
    plain = bbqrec("collisions", tmp_path / "tokens.h5", "--max-collisions", 2)
    assert plain.status == 3
    assert "apple; banana; pliers" in plain.out
    assert "3 items are in collisions; --max-collisions allows 2" in plain.err
    outcome = bbqrec("collisions", tmp_path / "tokens.h5", "--max-collisions", 2, "--json")
    assert json.loads(outcome.err)["error"] == "collisions"
    (group,) = json.loads(outcome.out)["groups"]
    assert (group["size"], group["code"]) == (3, [[0, 0], [0, 0]])
    assert group["items"][2] == {"id": "i5", "title": "pliers"}
    assert bbqrec("collisions", tmp_path / "tokens.h5", "--max-collisions", 3).status == 0


def test_model_files_are_read_and_others_refused(files, bbqrec):
    assert json.loads(bbqrec("collisions", files["model"], "--json").out)["method"] == "bbqrec"
    outcome = bbqrec("collisions", files["features"], "--json")
    assert (outcome.status, json.loads(outcome.err)["error"]) == (3, "wrong_kind")


@pytest.mark.realdata
@pytest.mark.skipif(not BEAUTY.exists(), reason=f"LETTER's index is not there: {BEAUTY}")
def test_letter_on_beauty(bbqrec):
    said = json.loads(bbqrec("collisions", BEAUTY, "--json").out)
    assert (said["items"], said["distinct"], said["colliding_items"]) == (12_101, 12_088, 24)
    found = [(each["distinct"], each["colliding_items"]) for each in said["depths"]]
    assert found == [(197, 12_085), (7_931, 6_409), (11_696, 674), (12_088, 24)]
