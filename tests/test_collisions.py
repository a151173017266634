from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bbqrec_cli import hdf5

BEAUTY = Path(__file__).parents[2] / "shared" / "data" / "amazon-beauty" / "letter.index.json"
YELP = BEAUTY.parents[1] / "yelp" / "letter.index.json"


def test_command_on_tokens(files, bbqrec):
    outcome = bbqrec("collisions", files["tokens"], "--json")
    assert outcome.status == 0
    said = json.loads(outcome.out)
    assert (said["items"], said["distinct"], said["colliding_items"], said["groups"]) == (12, 12, 0, [])
    first = {"depth": 1, "distinct": 3, "colliding_items": 12, "largest": 4, "gini": pytest.approx(0)}
    first |= {"entropy": pytest.approx(math.log2(3)), "mean_children": 3, "max_children": 3}
    assert said["depths"][0] == first | {
        "usage": {"id": 3, "text": 3},
        "perplexity": pytest.approx({"id": 3, "text": 3}),
    }
    assert (said["near"], said["neighbours"], said["alike"], said["others"], said["agreement"]) == (
        None,
        [],
        {},
        [],
        [],
    )
    assert bbqrec("collisions", files["tokens"], "--max-collisions", 0).status == 0
    assert "3 of 4" in bbqrec("collisions", files["tokens"], "--details").out


def test_two_sentences_and_one_table_by_default(files, bbqrec):
    """What an option asks for by itself is shown as well."""
    titles = ("prefixes", "codebooks", "IDs of other parts", "what tells items apart", "kept neighbours")

    def shown(*flags) -> list[str]:
        lines = bbqrec("collisions", files["tokens"], *flags).out.splitlines()
        return [line.strip() for line in lines if line.strip() in titles]

    said = " ".join(bbqrec("collisions", files["tokens"]).out.split())
    assert "tokens.h5: 0 of 12 items (0.0%) share their whole ID." in said
    assert "tokens.h5: IDs by bbqrec, 2 levels of 4 codes, signals id, text." in said
    assert shown() == ["prefixes"]
    assert shown("--details") == list(titles[:4])
    assert shown("--features", files["features"]) == ["prefixes", "kept neighbours"]


def test_the_limit_speaks_after_the_result(tokens, tmp_path, bbqrec):
    codes = tokens.codes.codes.copy()
    codes[[0, 1, 5]] = codes[0]
    both = dataclasses.replace(tokens, codes=dataclasses.replace(tokens.codes, codes=codes))
    hdf5.write_tokens(tmp_path / "tokens.h5", both, config={})
    plain = bbqrec("collisions", tmp_path / "tokens.h5", "--max-collisions", 2, "--details")
    assert plain.status == 3
    assert "apple; banana; pliers" in plain.out
    assert "3 items collide; --max-collisions allows 2" in plain.err
    outcome = bbqrec("collisions", tmp_path / "tokens.h5", "--max-collisions", 2, "--json")
    assert json.loads(outcome.err)["error"] == "collisions"
    (group,) = json.loads(outcome.out)["groups"]
    assert (group["size"], group["code"]) == (3, [[0, 0], [0, 0]])
    assert group["items"][2] == {"id": "i5", "title": "pliers"}
    assert bbqrec("collisions", tmp_path / "tokens.h5", "--max-collisions", 3).status == 0


def test_many_levels_are_counted_and_eight_of_them_have_columns(files, tokens, tmp_path, bbqrec):
    """32 levels, as VQ-Rec has them: the tokens' two, 16 times."""
    many = dataclasses.replace(tokens.codes, codes=np.tile(tokens.codes.codes, (1, 16, 1)), codebooks=None)
    hdf5.write_tokens(tmp_path / "many.h5", dataclasses.replace(tokens, codes=many), config={})
    given = [tmp_path / "many.h5", tmp_path / "many.h5", "--features", files["features"], "--json"]
    said = json.loads(bbqrec("collisions", *given).out)
    assert [each["distinct"] for each in said["depths"]] == [3] + 31 * [12]
    assert len(said["alike"]["text"]) == 33
    page = tmp_path / "page.md"
    assert bbqrec("collisions", *given, "--report", page).status == 0
    heads = [line for line in page.read_text().splitlines() if line.startswith(("| feature | 0", "| files | what"))]
    assert [head.count("level") for head in heads] == [8, 9, 9]


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


@pytest.mark.realdata
@pytest.mark.skipif(not YELP.exists(), reason=f"LETTER's index is not there: {YELP}")
def test_letter_on_yelp(bbqrec):
    said = json.loads(bbqrec("collisions", YELP, "--json").out)
    index = json.loads(YELP.read_text())
    counts = Counter(map(tuple, index.values()))
    assert (said["items"], said["distinct"]) == (len(index), len(counts)) == (20_033, 19_201)
    assert said["colliding_items"] == sum(n for n in counts.values() if n > 1) == 1_247
    assert said["groups"][0]["size"] == max(counts.values())
    for level in range(4):
        left = Counter(row[:level] + row[level + 1 :] for row in map(tuple, index.values()))
        assert said["causes"]["without_level"][str(level + 1)] == sum(n for n in left.values() if n > 1)
