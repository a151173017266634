"""Hand-made files of the release's exact formats. The real dumps are many GB and are not fetched by tests."""

from __future__ import annotations

import json
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sources import read_source

from bbqrec_cli.data.sources.amazon import Amazon
from bbqrec_cli.data.sources.amazon_features import read_image_features
from bbqrec_cli.data.sources.amazon_texts import plain_text, record
from bbqrec_cli.data.sources.options.amazon import AmazonOptions
from bbqrec_cli.errors import DataError, MissingFileError, UsageError

read = partial(read_source, "amazon")

REVIEW = (
    '{{"reviewerID": "{0}", "asin": "{1}", "reviewerName": "N", "helpful": [0, 0], "reviewText": "Good.", '
    '"overall": 5.0, "summary": "Nice", "unixReviewTime": {2}, "reviewTime": "03 19, 2014"}}\n'
)
REVIEWS = "".join(
    REVIEW.format(*row)
    for row in [
        ("A1", "B000000001", 1395187200),
        ("A2", "B000000002", 1395187200),
        ("A1", "B000000003", 1395100800),
        ("A1", "B000000002", 1395187200),  # the same day as the first: the file's order
    ]
)
META = "\n".join(
    [
        r"""{'asin': 'B000000001', 'description': 'Soft &amp;amp; light<br>for <b>every</b> day.', 'price': 3.5,"""
        r""" 'title': 'Brush "X" \'s', 'salesRank': {'Beauty': 7}, 'related': {'also_bought': ['B000000009']},"""
        r""" 'brand': 'Oriel', 'categories': [['Beauty', 'Tools', 'Brushes'], ['Beauty', 'Gifts']]}""",
        "{'asin': 'B000000002', 'imUrl': 'http://ecx.example/i.jpg', 'categories': [['Beauty']]}",
        r"{'asin': 'B000000009', 'title': 'Nobody\'s', 'categories': [['Beauty']]}",
        "",
    ]
)


def visual(*records: tuple[str, np.ndarray]) -> bytes:
    """image_features_X.b: 10 bytes of ASIN, then 4,096 little-endian float32."""
    return b"".join(asin.encode() + vector.astype("<f4").tobytes() for asin, vector in records)


def vector(value: float) -> np.ndarray:
    return value + np.arange(4096, dtype=np.float32)


VISUAL = visual(("B000000003", vector(3)), ("B000000009", vector(9)), ("B000000001", vector(1)))


def test_the_whole_release(put, tmp_path, listener):
    put("reviews_Beauty_5.json.gz", REVIEWS)
    put("meta_Beauty.json.gz", META)
    put("image_features_Beauty.b", VISUAL)
    interactions, items = read([tmp_path], listener)
    assert interactions.user_ids == ["A1", "A2"]
    assert interactions.item_ids == ["B000000003", "B000000001", "B000000002"]
    assert interactions.users.tolist() == [0, 0, 0, 1]
    assert interactions.items.tolist() == [0, 1, 2, 2]
    assert interactions.timestamps.tolist() == [1395100800, 1395187200, 1395187200, 1395187200]
    assert items.fields == {
        "title": ["", 'Brush "X" \'s', ""],
        "brand": ["", "Oriel", ""],
        "category": ["", "Beauty|Tools|Brushes|Gifts", "Beauty"],
        "description": ["", "Soft & light for every day.", ""],
        "image_url": ["", "", "http://ecx.example/i.jpg"],
    }
    image = items.features["image"]
    assert image.present.tolist() == [True, True, False]
    np.testing.assert_array_equal(image.values, [vector(3), vector(1), np.zeros(4096)])
    assert image.values.dtype == np.float32
    assert image.encoder == "amazon-2014-cnn-4096"
    assert listener.warned == [
        "meta_Beauty.json.gz: 1 of 3 items have no entry, so no title and no text",
        "image_features_Beauty.b: 1 of 3 items have no visual features",
    ]
    assert listener.logged == [
        "reviews_Beauty_5.json.gz: the 2014 release",
        "meta_Beauty.json.gz: 1 entries are left out: their items have no interactions among those kept",
    ]


def test_reviews_alone_and_named_files(put, listener):
    reviews, meta = put("reviews_Beauty_5.json.gz", REVIEWS), put("meta_Beauty.json.gz", META)
    interactions, items = read([reviews], listener)
    assert (len(interactions.items), items.fields, items.features) == (4, {}, {})
    _, items = read([meta, reviews], listener)
    assert items.fields["brand"] == ["", "Oriel", ""]


@pytest.mark.parametrize(("name", "minimum"), [("reviews_Beauty.json.gz", 5), ("reviews_Beauty_5.json.gz", 0)])
def test_the_whole_reviews_are_filtered_to_the_5_core(put, listener, name, minimum):
    assert Amazon([put(name, REVIEWS)], AmazonOptions(), seed=0, progress=listener).minimum == minimum


def test_spaces_in_ids_do_not_count(put, listener):
    lines = [
        REVIEW.format(user, item, time) for user, item, time in (("A1", "B1", 5), (" A1", "B1 ", 6), ("A 1", "B2", 7))
    ]
    made, _ = read([put("reviews_X_5.json", "".join(lines))], listener)
    assert (sorted(made.user_ids), sorted(made.item_ids)) == (["A 1", "A1"], ["B1", "B2"])


def test_pictures_named_by_asin(put, tmp_path, listener):
    put("reviews_Beauty_5.json", REVIEWS)
    put("images/B000000002.jpg", b"picture")
    assert read([tmp_path], listener)[1].images == [b"", b"", b"picture"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not a record\n", "neither JSON nor a Python literal: 'not a record'"),
        ("[1, 2]\n", "holds a list; an object of fields is needed"),
        ('{"reviewerID": "A1", "asin": "B1"}\n', "reviewerID is 'A1', asin 'B1', unixReviewTime None; all three are"),
        (REVIEW.format("", "B1", 5), "reviewerID is ''"),
        (REVIEW.format("A1", "B1", 5.5), "reviewerID is 'A1', asin 'B1', unixReviewTime 5.5"),
        (REVIEW.format("A1", "B1", 10**20), "reviewerID is 'A1', asin 'B1', unixReviewTime 1000"),
        (REVIEW.format("A1", "B1", -5), "reviewerID is 'A1', asin 'B1', unixReviewTime -5"),
    ],
)
def test_malformed_reviews(put, listener, line, message):
    path = put("reviews_X_5.json.gz", REVIEWS + line)
    with pytest.raises(DataError, match=rf"reviews_X_5.json.gz, line 5: {message}") as caught:
        read([path], listener)
    assert caught.value.hint


def test_empty_and_truncated_reviews(put, listener):
    with pytest.raises(DataError, match="no reviews in it"):
        read([put("reviews_X_5.json.gz", "")], listener)
    path = put("reviews_X_5.json.gz", REVIEWS * 100)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="not a whole gzip file"):
        read([path], listener)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (META + META, r"line 4: item 'B000000001' has line 1 already"),
        (META + "{'title': 'x'}\n", "line 4: no asin among its fields title"),
        (META + "{'asin': 'B1', 'title': __import__('os').getcwd()}\n", "line 4: neither JSON nor a Python literal"),
        ("{'asin': 'Z'}\n", "none of the 3 items has an entry"),
    ],
)
def test_malformed_metadata(put, listener, text, message):
    paths = [put("reviews_X_5.json.gz", REVIEWS), put("meta_X.json.gz", text)]
    with pytest.raises(DataError, match=rf"meta_X.json.gz(,|:) {message}") as caught:
        read(paths, listener)
    assert caught.value.hint


def test_metadata_is_never_run(tmp_path):
    witness = tmp_path / "witness"
    line = f"{{'asin': open({str(witness)!r}, 'w').write('run')}}"
    with pytest.raises(DataError, match="neither JSON nor a Python literal"):
        record(Path("meta"), 1, line)
    assert not witness.exists()


def test_records_of_both_kinds():
    """Warnings are errors here: the escapes that JSON knows and Python does not must not make one."""
    assert record(Path("m"), 1, r"{'title': 'a\/b', 'ok': True, 'none': None}")["ok"] is True
    assert record(Path("m"), 1, '{"title": "a", "ok": true}')["ok"] is True
    deep = "[" * 5000 + "]" * 5000
    with pytest.raises(DataError):
        record(Path("m"), 1, deep)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (None, ""),
        ("plain", "plain"),
        ("<p>One</p><ul><li>two</li><li>three</li></ul>four<br/>five", "One two three four five"),
        ("<script>var a = 1;</script>seen<style>p {color: red}</style>", "seen"),
        ("Moss &amp; Reed &#39;s &amp;quot;best&amp;quot;", 'Moss & Reed \'s "best"'),
        ("5 < 6 and 7 > 2", "5 < 6 and 7 > 2"),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
        ("<!-- hidden -->shown", "shown"),
        ("<a href='x'>link</a>\n\n text", "link text"),
        (["two", "<i>parts</i>"], "two parts"),
        (12, "12"),
        ("a\0b", "a b"),
    ],
)
def test_html_is_cleaned(text, plain):
    assert plain_text(text) == plain


def test_categories_of_any_shape(put, listener):
    meta = "{'asin': 'B000000001', 'categories': ['A', 'B']}\n{'asin': 'B000000002', 'categories': 'Whole'}\n"
    paths = [put("reviews_X_5.json.gz", REVIEWS), put("meta_X.json.gz", meta)]
    assert read(paths, listener)[1].fields["category"] == ["", "A|B", "Whole"]


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (VISUAL[:-1], "record 3: truncated, 16,393 of 16,394 bytes"),
        (b"", "record 1: truncated, 0 of 16,394 bytes"),
        (VISUAL[:16394] + b"\0" * 16394, "record 2: starts with b'\\\\x00.*which is not an ASIN"),
        (visual(("B000000001", vector(np.nan))), "record 1: NaN or infinity in .* in item 'B000000001'"),
        (visual(("B000000001", vector(np.inf))), "record 1: NaN or infinity"),
        (visual(("B000000007", vector(1))), "has none of the 1 items; their ids look like 'B000000001'"),
    ],
)
def test_damaged_visual_features(put, listener, blob, message):
    with pytest.raises(DataError, match=rf"image_features_X.b(,|:) {message}") as caught:
        read_image_features(put("image_features_X.b", blob), ["B000000001"], listener)
    assert caught.value.hint


def test_a_second_record_of_an_item_is_left_out_and_said(put, listener):
    path = put("image_features_X.b", visual(("B000000001", vector(1)), ("B000000001", vector(2))))
    made = read_image_features(path, ["B000000001"], listener)
    np.testing.assert_array_equal(made.values[0], vector(1))
    assert listener.warned == ["image_features_X.b: 1 repeated records of items are left out"]


def test_visual_features_are_streamed(tmp_path, listener):
    """50 MB of records of which two are wanted: memory stays below that of 60 records."""
    path, body = tmp_path / "image_features_X.b", vector(0).tobytes()
    with open(path, "wb") as stream:
        for number in range(3000):
            stream.write(f"B{number:09d}".encode() + body)
    tracemalloc.start()
    try:
        made = read_image_features(path, ["B000002999", "B000000000"], listener)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made.present.all()
    assert peak < 60 * 16394
    assert path.stat().st_size > 49e6


def test_paths(put, tmp_path, listener):
    with pytest.raises(UsageError, match=r"found no reviews \(reviews_X_5.json.gz, .*\): no path was given"):
        Amazon([], AmazonOptions(), seed=0, progress=listener)
    with pytest.raises(UsageError, match="found no reviews"):
        Amazon([tmp_path], AmazonOptions(), seed=0, progress=listener)
    with pytest.raises(MissingFileError, match="none: no such file or folder"):
        Amazon([tmp_path / "none"], AmazonOptions(), seed=0, progress=listener)
    reviews = put("reviews_X.json.gz", REVIEWS)
    with pytest.raises(UsageError, match=r"cannot tell what metadata.json is"):
        Amazon([reviews, put("metadata.json", META)], AmazonOptions(), seed=0, progress=listener)
    put("reviews_X_5.json.gz", REVIEWS)
    with pytest.raises(UsageError, match=r"several files of one kind: reviews_X.json.gz, reviews_X_5.json.gz"):
        Amazon([tmp_path], AmazonOptions(), seed=0, progress=listener)


def test_metadata_under_another_name(put, listener):
    reviews, meta = put("reviews_X_5.json.gz", REVIEWS), put("mine.json", META)
    assert read([reviews], listener, items=meta)[1].fields["brand"] == ["", "Oriel", ""]


def test_the_hand_made_review_is_json():
    assert json.loads(REVIEWS.splitlines()[0])["unixReviewTime"] == 1395187200


def test_ties_and_duplicates(put, listener):
    """The release has days only: A1's two reviews of one day are in the file's order, unless the ids say."""
    path = put("reviews_X_5.json", REVIEWS + REVIEW.format("A1", "B000000002", 1395187200))
    order = {}
    for ties, duplicates in (("file", "keep"), ("item", "drop")):
        made = read([path], listener, ties=ties, duplicates=duplicates)[0]
        ids = [made.item_ids[row] for row in made.items[made.users == made.user_ids.index("A1")]]
        order[ties] = [name[-1] for name in ids]
    assert order == {"file": [*"3122"], "item": [*"312"]}
    assert "1 of 5 interactions repeat user, item and time" in listener.warned[0]
    assert "and are left out" in listener.logged[-1]
