from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.collisions.inputs import read_ids
from bbqrec_cli.errors import BrokenFileError, DataError, MissingFileError
from bbqrec_cli.formats.semantic_id_json import align, load_index
from bbqrec_cli.records import Sequences
from bbqrec_cli.tokenizers.base import TokenizerInput
from bbqrec_cli.tokenizers.methods.published import Published
from bbqrec_cli.tokenizers.options.published import PublishedConfig
from bbqrec_cli.training.trainer import RunSettings

BEAUTY = Path(__file__).parents[3] / "shared" / "data" / "amazon-beauty"


def index(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "x.index.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_reads_any_length_and_letters(tmp_path):
    found = load_index(index(tmp_path, {"B0A": ["<a_183>", "<b_70>", "<c_65535>"], "B0B": ["<a_0>", "<b_1>", "<c_2>"]}))
    assert found.item_ids == ["B0A", "B0B"]
    assert found.codes.tolist() == [[[183], [70], [65535]], [[0], [1], [2]]]
    assert found.codes.dtype == np.uint16
    marked = "\ufeff" + json.dumps({"7": ["<A_3>"]})
    assert load_index(index(tmp_path, marked)).codes.tolist() == [[[3]]], "as Windows writes it"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": ["<a_1>"], "b": ["<a_x>"]}, "item 'b' has the token '<a_x>'"),
        ({"a": ["<a_1>"], "b": [7]}, "item 'b' has the token 7"),
        ({"a": ["<a_-1>"]}, "item 'a' has the token"),
        ({"a": ["<a_1> "]}, "item 'a' has the token"),
        ({"a": ["<a_65536>"]}, "codes go up to 65,535"),
        ({"a": ["<a_1>"], "b": ["<a_1>", "<b_1>"]}, "item 'b' has 2 levels, item 'a' 1"),
        ({"a": ["<a_1>", "<b_1>"], "b": ["<b_1>", "<a_1>"]}, "item 'b' has the levels b a, item 'a' a b"),
        ({"a": []}, r"item 'a' has \[\]"),
        ({"a": "<a_1>"}, "item 'a' has '<a_1>'"),
        ({"a": {"b": 1}}, "item 'a' has"),
        ('{"a": ["<a_1>"], "a": ["<a_2>"]}', "item 'a' appears twice"),
    ],
)
def test_malformed_entries_are_named(tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        load_index(index(tmp_path, content))


MINIONEREC = {
    "0": ["<a_60>", "<b_159>", "<c_203>"],
    "1": ["<a_204>", "<b_229>", "<c_36>", "<d_1>"],
    "2": ["<a_204>", "<b_229>", "<c_36>", "<d_2>"],
    "3": ["<a_60>", "<b_219>", "<c_174>"],
}


def test_minionerec_numbers_items_that_share_an_id(tmp_path):
    found = load_index(index(tmp_path, MINIONEREC))
    assert found.codes[:, :, 0].tolist() == [[60, 159, 203, 0], [204, 229, 36, 1], [204, 229, 36, 2], [60, 219, 174, 0]]
    assert "2 items have one more token" in found.note
    assert found.letters == ("a", "b", "c", "d")
    plain = {item: tokens[:3] for item, tokens in MINIONEREC.items()}
    assert load_index(index(tmp_path, plain)).note == ""


def test_a_level_that_numbers_is_no_codebook(tmp_path):
    """Neither here nor in `bbqrec collisions` of the file itself."""
    path = index(tmp_path, MINIONEREC)
    inputs = TokenizerInput(item_ids=list("0123"), features={}, train=Sequences.from_lists([]))
    made = Published(PublishedConfig(index=(str(path),))).fit(inputs, RunSettings()).codes
    for codes in (made, read_ids(path).codes):
        assert (codes.suffix, codes.quantised_levels, codes.level_sizes) == (True, 3, [230, 230, 230, 3])


@pytest.mark.parametrize(
    "changed",
    [
        {"2": ["<a_204>", "<b_229>", "<c_36>", "<d_3>"]},  # not 1, 2
        {"2": ["<a_204>", "<b_229>", "<c_36>"]},  # one of the two has no number
        {"2": ["<a_204>", "<b_229>", "<c_36>", "<d_1>"]},  # the same number twice
        {"0": ["<a_60>", "<b_159>", "<c_203>", "<d_1>"]},  # a number without need
        {"0": ["<a_60>", "<b_159>"]},  # three lengths
        {"0": ["<a_60>", "<b_159>", "<c_203>", "<d_1>", "<e_1>"]},
    ],
)
def test_other_lengths_are_not_taken_for_numbers(tmp_path, changed):
    with pytest.raises(DataError, match="levels, item '0'") as caught:
        load_index(index(tmp_path, MINIONEREC | changed))
    assert "MiniOneRec" in caught.value.hint


def test_numbers_of_thousands_of_digits(tmp_path):
    with pytest.raises(DataError, match="has the token '<a_999"):
        load_index(index(tmp_path, {"1": ["<a_" + "9" * 5000 + ">"]}))
    (tmp_path / "long.json").write_text('{"1": [' + "9" * 5000 + "]}")
    with pytest.raises(BrokenFileError, match=r"not JSON: .*digits"):
        load_index(tmp_path / "long.json")


def test_numbers_have_one_letter(tmp_path):
    wrong = MINIONEREC | {"2": ["<a_204>", "<b_229>", "<c_36>", "<e_2>"]}
    with pytest.raises(DataError, match="item '2' has the levels a b c e"):
        load_index(index(tmp_path, wrong))


def two(tmp_path: Path, first: str, second: str, levels: int = 2) -> str:
    """MQL4GRec's two files, with these letters."""
    for name, letters in (("lemb", first), ("vitemb", second)):
        made = {f"i{i}": [f"<{letter}_{i + level}>" for level, letter in enumerate(letters)] for i in range(12)}
        (tmp_path / f"index_{name}.json").write_text(json.dumps(made, indent=4))
    return f"{tmp_path / 'index_lemb.json'},{tmp_path / 'index_vitemb.json'}"


@pytest.mark.parametrize(
    ("first", "second", "signals"),
    [
        ("ab", "AB", ["text", "image"]),
        ("AB", "ab", ["image", "text"]),
        ("ab", "ab", ["published_1", "published_2"]),
        ("ab", "aB", ["published_1", "published_2"]),
    ],
)
def test_two_files_are_two_signals(tmp_path, files, bbqrec, first, second, signals):
    out = tmp_path / "tokens.h5"
    done = bbqrec(
        "tokenize", files["features"], "-o", out, "--method", "published", "--index", two(tmp_path, first, second)
    )
    assert done.status == 0, done.err
    codes = hdf5.read_tokens(out).codes
    assert list(codes.modalities) == signals
    assert codes.codes.tolist() == [[[i, i], [i + 1, i + 1]] for i in range(12)]
    assert ("as in MQL4GRec" in done.err) == ("text" in signals)
    parents = [parent["path"] for parent in hdf5.describe(out)["parents"]]
    assert parents == ["features.h5", "index_lemb.json", "index_vitemb.json"]


def test_two_files_need_as_many_levels(tmp_path, files, bbqrec):
    both = two(tmp_path, "ab", "ABC")
    done = bbqrec("tokenize", files["features"], "--method", "published", "--index", both, "-o", tmp_path / "t.h5")
    assert done.status == 3
    assert "3 levels, and" in done.err


@pytest.mark.parametrize("content", ["{", "[]", "{}", '[["a", 1]]', "7", '"x"', "\x00"])
def test_what_is_no_index(tmp_path, content):
    with pytest.raises(BrokenFileError):
        load_index(index(tmp_path, content))


def test_no_file(tmp_path):
    with pytest.raises(MissingFileError):
        load_index(tmp_path / "none.json")
    with pytest.raises(BrokenFileError):
        load_index(tmp_path)


CODES = np.array([[[10]], [[11]], [[12]]], dtype=np.uint16)


def aligned(index_ids: list[str], item_ids: list[str]) -> tuple[list[int], str]:
    codes, note = align(index_ids, CODES, item_ids, where="x.json")
    return codes.ravel().tolist(), note


def test_ids_as_they_stand():
    assert aligned(["b", "a", "c"], ["c", "b"]) == ([12, 10], "")
    assert aligned(["1", "2", "3"], ["3", "2", "1"]) == ([12, 11, 10], "")
    assert aligned(["0", "1", "2"], ["0", "2"]) == ([10, 12], "")
    assert aligned(["1", "2", "3"], ["2", "3"]) == ([11, 12], "")


def test_ids_from_0_are_seen_checked_and_said():
    codes, note = aligned(["0", "1", "2"], ["3", "1"])
    assert codes == [12, 10]
    assert "start at 0" in note
    assert "all 2 items" in note


def test_two_readings_are_none():
    with pytest.raises(DataError, match="cannot be told"):
        aligned(["0", "1", "2"], ["1", "2"])


@pytest.mark.parametrize("items", [["a", "z"], ["1", "5"], ["0", "3"]])
def test_every_item_needs_an_entry(items):
    with pytest.raises(DataError, match="1 of the catalogue's 2 items have no entry"):
        aligned(["a", "1", "0"], items)


def test_tokenize_with_an_index(files, tmp_path, bbqrec):
    made = index(tmp_path, {f"i{i}": [f"<a_{i // 4}>", f"<b_{i % 4}>"] for i in reversed(range(12))})
    out = tmp_path / "tokens.h5"
    outcome = bbqrec("tokenize", files["features"], "-o", out, "--method", "published", "--index", made, "--json")
    assert outcome.status == 0, outcome.err
    said = json.loads(outcome.out)
    assert (said["levels"], said["codebook_size"], said["signals"]) == (2, 4, ["published"])
    codes = hdf5.read_tokens(out).codes.codes
    assert [parent["path"] for parent in hdf5.describe(out)["parents"]] == ["features.h5", "x.index.json"]
    assert codes[:, :, 0].tolist() == [[i // 4, i % 4] for i in range(12)]
    outcome = bbqrec("tokenize", files["features"], "-o", tmp_path / "b.h5", "--method", "published", "--json")
    assert (outcome.status, json.loads(outcome.err)["error"]) == (2, "usage")


@pytest.mark.realdata
@pytest.mark.skipif(not BEAUTY.exists(), reason=f"Amazon Beauty is not there: {BEAUTY}")
def test_letters_beauty_fits_the_sequences():
    rows = (BEAUTY / "sequences.txt").read_text().splitlines()
    items = sorted({item for row in rows for item in row.split()[1:]}, key=int)
    read = load_index(BEAUTY / "letter.index.json")
    ids, codes = read.item_ids, read.codes
    found, note = align(ids, codes, items, where="letter.index.json")
    assert "start at 0" in note
    assert (codes[ids.index("0")] == found[items.index("1")]).all()
    assert found.shape == (12_101, 4, 1)
