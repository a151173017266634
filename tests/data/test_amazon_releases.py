"""Hand-made files as the releases of 2018 and 2023 have them, and what is downloaded of each release."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from functools import partial

import pytest
from sources import read_source

from bbqrec_cli.data.sources import amazon
from bbqrec_cli.data.sources.amazon import Amazon
from bbqrec_cli.data.sources.amazon_texts import cleaned, picture_address, read_metadata
from bbqrec_cli.data.sources.options.amazon import AmazonOptions
from bbqrec_cli.errors import DataError, UsageError

read = partial(read_source, "amazon")


def jsonl(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def review_2018(user: str, item: str, time: int) -> dict:
    return {
        "overall": 4.0, "vote": "2", "verified": True, "reviewTime": "03 11, 2014", "reviewerID": user, "asin": item,
        "style": {"Format:": " DVD-ROM"}, "reviewerName": "N", "reviewText": "Good.", "summary": "Nice",
        "unixReviewTime": time,
    }  # fmt: skip


REVIEWS_2018 = jsonl(
    review_2018("A1", "0077613252", 1394496000),
    review_2018("A2", "B000000002", 1394582400),
    review_2018("A1", "B000000002", 1394409600),
    review_2018("A1", "0077613252", 1394496000),
)
META_2018 = jsonl(
    {
        "category": ["Software", "Education &amp; Reference", "</span></span></span>", "Software"], "tech1": "",
        "description": ["<b>Learn</b> to", "", "type."], "fit": "", "title": "Typing &quot;Pro&quot;", "also_buy": [],
        "feature": ["Easy &amp; fast", "<span>For all</span>", "var x = 3;"], "rank": [">#1"], "brand": "Oriel",
        "price": "$12.99", "asin": "0077613252",
        "imageURL": ["https://images.example/I/1._SS40_.jpg"], "imageURLHighRes": ["https://images.example/I/1.jpg"],
    },
    {
        "category": [], "description": [], "asin": "B000000002", "price": "\n\n.a-box-inner{background-color:#fff}",
        "title": "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();", "feature": [],
        "brand": "<script>P.when('A').execute(function(A) {});</script> Moss", "imageURL": [], "imageURLHighRes": [],
    },
    {"asin": "0077613252", "title": "The same item again", "category": ["Other"]},
    {"asin": "B000000009", "title": "Nobody's"},
)  # fmt: skip

IMAGES_2023 = [
    {"thumb": "https://m.example/2._SL75.jpg", "large": "https://m.example/2.jpg", "variant": "PT01", "hi_res": None},
    {"thumb": "https://m.example/1._SL75.jpg", "large": "https://m.example/1.jpg", "variant": "MAIN", "hi_res": None},
]


def review_2023(user: str, item: str, time: int) -> dict:
    return {
        "rating": 5.0, "title": "Such a lovely scent", "text": "Good.", "images": [], "asin": f"V{item}",
        "parent_asin": item, "user_id": user, "timestamp": time, "helpful_vote": 0, "verified_purchase": True,
    }  # fmt: skip


REVIEWS_2023 = jsonl(
    review_2023("AGKH", "B00YQ6X8EO", 1588687728923),
    review_2023("AGKH", "B081TJ8YS3", 1588687728922),
    review_2023("AEZP", "B081TJ8YS3", 1589665266052),
)
META_2023 = jsonl(
    {
        "main_category": "All Beauty", "title": "Howard Restor-A-Finish &amp; Wax", "average_rating": 4.8,
        "rating_number": 10, "features": ["Gentle", "8 oz &gt; 4 oz"], "description": ["Line one.", "<p>Line two.</p>"],
        "price": None, "images": IMAGES_2023, "videos": [], "store": "Howard Products", "categories": [],
        "details": {"Package Dimensions": "7 x 5 inches", "Brand": "Howard"}, "parent_asin": "B00YQ6X8EO",
        "bought_together": None,
    },
    {
        "main_category": "Beauty", "title": "Scent", "features": [], "description": [], "price": "from 14.99",
        "images": [], "store": None, "categories": ["Beauty", "Hair Care"], "details": {"Manufacturer": "Moss"},
        "parent_asin": "B081TJ8YS3",
    },
)  # fmt: skip


def test_2018(put, tmp_path, listener):
    put("Software_5.json.gz", REVIEWS_2018)
    put("meta_Software.json.gz", META_2018)
    interactions, items = read([tmp_path], listener)
    assert interactions.user_ids == ["A1", "A2"]
    assert interactions.item_ids == ["B000000002", "0077613252"]
    assert interactions.items.tolist() == [0, 1, 1, 0]
    assert interactions.timestamps.tolist() == [1394409600, 1394496000, 1394496000, 1394582400]
    assert items.fields == {
        "title": ["", 'Typing "Pro"'],
        "brand": ["Moss", "Oriel"],
        "category": ["", "Software|Education & Reference"],
        "features": ["", "Easy & fast|For all"],
        "description": ["", "Learn to type."],
        "image_url": ["", "https://images.example/I/1.jpg"],
    }
    assert listener.logged == [
        "Software_5.json.gz: the 2018 release",
        "meta_Software.json.gz: 1 entries are left out: their items have no interactions among those kept",
        "meta_Software.json.gz: 1 lines repeat an item and are left out; the first line of each counts",
    ]
    assert listener.warned == [
        "1 of 4 interactions repeat user, item and time of another one and count as they stand, "
        "for --min-user-interactions too; --duplicates drop leaves them out",
        "meta_Software.json.gz: 1 items have a script instead of a title or brand, which is left out",
    ]


def test_2018_duplicates_are_dropped_and_counted(put, listener):
    path = put("Software_5.json.gz", REVIEWS_2018)
    made, _ = read([path], listener, duplicates="drop")
    assert (len(made.items), made.left_out) == (3, {"duplicates": 1})


def test_2023(put, tmp_path, listener):
    put("All_Beauty.jsonl.gz", REVIEWS_2023)
    put("meta_All_Beauty.jsonl.gz", META_2023)
    interactions, items = read([tmp_path], listener)
    assert interactions.user_ids == ["AGKH", "AEZP"]
    assert interactions.item_ids == ["B081TJ8YS3", "B00YQ6X8EO"], "a millisecond decides"
    assert interactions.timestamps.tolist() == [1588687728, 1588687728, 1589665266]
    assert len(set(interactions.moments.tolist())) == 3
    assert items.fields == {
        "title": ["Scent", "Howard Restor-A-Finish & Wax"],
        "brand": ["Moss", "Howard Products"],
        "category": ["Beauty|Hair Care", "All Beauty"],
        "features": ["", "Gentle|8 oz > 4 oz"],
        "description": ["", "Line one. Line two."],
        "image_url": ["", "https://m.example/1.jpg"],
    }
    assert listener.logged == ["All_Beauty.jsonl.gz: the 2023 release"]
    assert listener.warned == []


TABLE = "user_id,parent_asin,rating,timestamp\n"


def test_the_5_core_of_2023_as_a_table(put, listener):
    path = put("All_Beauty.csv.gz", TABLE + "AGKH,B081TJ8YS3,4.0,1588615855070\nAGKH,B097R46CSY,5.0,1588615855069\n")
    made, _ = read([path], listener)
    assert made.item_ids == ["B097R46CSY", "B081TJ8YS3"]
    assert made.timestamps.tolist() == [1588615855, 1588615855]


def test_the_parts_of_a_split_are_one_set(put, tmp_path, listener):
    """Of last_out_w_his, whose histories only repeat other lines."""
    head = "user_id,parent_asin,rating,timestamp,history\n"
    put("Software.train.csv", head + "A,B1,4.0,1000,\nA,B2,5.0,2000,B1\n")
    put("Software.valid.csv", head + "A,B3,4.0,3000,B1 B2\n")
    with pytest.raises(UsageError, match="train, valid and test together are the interactions"):
        read([tmp_path], listener)
    put("Software.test.csv", head + "A,B4,4.0,4000,B1 B2 B3\n")
    source = Amazon([tmp_path], AmazonOptions(), seed=0, progress=listener)
    assert source.interactions().item_ids == ["B1", "B2", "B3", "B4"]
    assert (source.minimum, len(source.files)) == (0, 3)
    put("Software.test.csv", head + "A,B4,4.0,3000,B1 B2 B3\n")
    assert read([tmp_path], listener)[0].items.tolist() == [0, 1, 2, 3], "of equal times the validation item goes first"
    put("Software.csv", TABLE + "A,B1,4.0,1000\n")
    with pytest.raises(UsageError, match=r"several files of one kind: Software\.csv, Software\.test"):
        read([tmp_path], listener)


@pytest.mark.parametrize(
    ("name", "minimum"),
    [
        ("Software.json.gz", 5), ("Software_5.json.gz", 0), ("All_Beauty.jsonl", 5), ("All_Beauty.csv.gz", 5),
        ("reviews_Beauty.json.gz", 5),
    ],
)  # fmt: skip
def test_what_goes_through_the_5_core(put, listener, name, minimum):
    assert Amazon([put(name, "x")], AmazonOptions(), seed=0, progress=listener).minimum == minimum


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("X.jsonl", jsonl(review_2023("", "B1", 1)), "line 1: user_id is '', parent_asin 'B1', timestamp 1"),
        ("X.jsonl", jsonl(review_2023("A", "B1", 1), review_2018("A", "B1", 1)), "line 2: user_id is None"),
        ("X.jsonl", jsonl(review_2023("A", "B1", -1)), "line 1: .*timestamp -1; all three .*whole milliseconds"),
        ("X_5.json", jsonl(review_2018("A", "", 1)), "line 1: reviewerID is 'A', asin ''"),
        ("X.csv", "A,B,5.0,1\n", "line 1: A, B, 5.0, 1; user_id, parent_asin, rating and timestamp are needed"),
        ("X.csv", TABLE + "A,B,5.0,soon\n", "line 2: user_id is 'A', parent_asin 'B', timestamp 'soon'"),
        ("X.csv", TABLE + "A,B,5.0\n", "line 2: 3 columns; the header has 4"),
        ("X.csv", TABLE, "no reviews in it"),
        ("X.jsonl", "", "no reviews in it"),
    ],
)
def test_malformed_reviews(put, listener, name, text, message):
    with pytest.raises(DataError, match=rf"{name}(,|:) {message}"):
        read([put(name, text)], listener)


@pytest.mark.parametrize(
    ("row", "address"),
    [
        ({}, ""),
        ({"imUrl": "http://a/1.jpg"}, "http://a/1.jpg"),
        ({"imageURL": ["https://a/s.jpg"], "imageURLHighRes": []}, "https://a/s.jpg"),
        ({"imageURL": "https://a/s.jpg", "imageURLHighRes": None}, "https://a/s.jpg"),
        ({"images": [{"large": None, "hi_res": "https://a/h.jpg", "thumb": "https://a/t.jpg"}]}, "https://a/h.jpg"),
        ({"images": [{"thumb": "https://a/t.jpg"}]}, "https://a/t.jpg"),
        ({"images": {"large": ["https://a/p.jpg", "https://a/m.jpg"], "variant": ["PT01", "MAIN"]}}, "https://a/m.jpg"),
        ({"images": []}, ""),
        ({"images": "none"}, ""),
        ({"images": [{"large": "file:///etc/passwd"}]}, ""),
    ],
)
def test_addresses_of_pictures(row, address):
    assert picture_address(row) == address


@pytest.mark.parametrize(
    ("title", "plain"),
    [
        ("Savings $(20) multi-function(s) window.It is", "Savings $(20) multi-function(s) window.It is"),
        ('<span id="productTitle">Quicken &amp; More</span>', "Quicken & More"),
        ("P.when('A').execute(function(A){ A.trigger(); })", ""),
        ("$('#x').show()", ""),
        (".a-box { color: red; width: 1px }", ""),
        ("window.ue=1", ""),
        ("document.write('x')", ""),
        (None, ""),
    ],
)
def test_scripts_are_no_titles(title, plain):
    assert cleaned({"title": title})["title"] == plain


def test_marked_sections_that_are_none():
    """Python's parser of HTML asserts that it knows them."""
    for odd in ("<![ everything ]>", "<![everything[ now ]]>", "<![", "<![if"):
        assert cleaned({"title": f"A <b>B</b> {odd}"})["title"].startswith("A B")
    assert cleaned({"title": "A <![CDATA[B]]> <![if !vml]>C<![endif]>"})["title"] == "A C"


def test_texts_of_other_items_are_not_kept(put, listener):
    """20 MB of descriptions of which one is wanted: the memory is that of the ids and one line."""
    rows = ({"asin": f"B{number:05d}", "description": [f"{number} " + "word " * 400]} for number in range(10_000))
    path = put("meta_X.json", jsonl(*rows))
    assert path.stat().st_size > 20e6
    tracemalloc.start()
    try:
        found = read_metadata(path, {"B00007"}, listener)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert list(found) == ["B00007"]
    assert peak < 3e6


# Downloads: a stand-in writes what the address promises


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    found: list[str] = []

    def fake(url, target, *, progress, md5=""):
        found.append(url)
        text = META_2023 if "meta_" in url else TABLE + "AGKH,B081TJ8YS3,4.0,1588615855070\n"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(text.encode()))
        return target

    monkeypatch.setattr(amazon, "download", fake)
    return found


SNAP, UCSD = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles", amazon._UCSD


@pytest.mark.parametrize(
    ("release", "unfiltered", "addresses"),
    [
        ("2014", False, [f"{SNAP}/reviews_Beauty_5.json.gz", f"{SNAP}/meta_Beauty.json.gz"]),
        ("2014", True, [f"{SNAP}/reviews_Beauty.json.gz", f"{SNAP}/meta_Beauty.json.gz"]),
        (
            "2018", False,
            [
                f"{UCSD}/amazon_v2/categoryFilesSmall/Beauty_5.json.gz",
                f"{UCSD}/amazon_v2/metaFiles2/meta_Beauty.json.gz",
            ],
        ),
        (
            "2023", False,
            [
                f"{UCSD}/amazon_2023/benchmark/5core/rating_only/Beauty.csv.gz",
                f"{UCSD}/amazon_2023/raw/meta_categories/meta_Beauty.jsonl.gz",
            ],
        ),
        (
            "2023", True,
            [
                f"{UCSD}/amazon_2023/raw/review_categories/Beauty.jsonl.gz",
                f"{UCSD}/amazon_2023/raw/meta_categories/meta_Beauty.jsonl.gz",
            ],
        ),
    ],
)  # fmt: skip
def test_what_is_downloaded(asked, tmp_path, listener, release, unfiltered, addresses):
    options = AmazonOptions(download=release, category="Beauty", unfiltered=unfiltered)
    paths = Amazon.fetch([tmp_path / "new"], options, listener)
    assert asked == addresses
    assert [path.parent for path in paths] == [tmp_path / "new"] * 2
    Amazon(paths, options, seed=0, progress=listener)


def test_metadata_of_another_release_is_not_taken_for_this_ones(asked, tmp_path, listener):
    """2014's and 2018's have the same name."""
    for there, wanted, name in (("2014", "2018", "reviews_Games_5.json.gz"), ("2018", "2014", "Games_5.json.gz")):
        folder = tmp_path / there
        for _ in range(2):
            Amazon.fetch([folder], AmazonOptions(download=there, category="Games"), listener)
        with pytest.raises(UsageError, match=f"is there already, beside {name} of the release of {there}"):
            Amazon.fetch([folder], AmazonOptions(download=wanted, category="Games"), listener)
        Amazon.fetch([folder], AmazonOptions(download="2023", category="Games"), listener)
        Amazon.fetch([folder], AmazonOptions(download=wanted, category="Toys"), listener)


def test_a_file_is_no_folder_to_download_into(asked, tmp_path, listener):
    (tmp_path / "f.gz").write_bytes(b"")
    with pytest.raises(UsageError, match=r"needs a folder to download into; .*f\.gz is a file"):
        Amazon.fetch([tmp_path / "f.gz"], AmazonOptions(download="2014", category="Games"), listener)


def test_pictures_of_which_none_can_be_had(put, tmp_path, listener, monkeypatch):
    monkeypatch.setattr(amazon, "download_pictures", lambda addresses, folder, *, progress: 0)
    put("All_Beauty.jsonl.gz", REVIEWS_2023)
    put("meta_All_Beauty.jsonl.gz", META_2023)
    assert read([tmp_path], listener, download_pictures=True)[1].images == []


def test_downloads_are_read(asked, tmp_path, listener):
    options = {"download": "2023", "category": "All_Beauty", "mirror": "http://mirror.example/a/"}
    paths = Amazon.fetch([tmp_path], AmazonOptions(**options), listener)
    assert asked[0] == "http://mirror.example/a/benchmark/5core/rating_only/All_Beauty.csv.gz"
    assert read(paths, listener, **options)[1].fields["title"] == ["Scent"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"download": "2014"}, "--category is None"),
        ({"download": "2014", "category": "../x"}, r"--category is '\.\./x'"),
        ({"category": "Beauty"}, "--category has no effect without --download"),
        ({"unfiltered": True}, "--unfiltered has no effect without --download"),
        ({"mirror": "http://x"}, "--mirror has no effect without --download"),
    ],
)
def test_options_of_downloads(asked, tmp_path, listener, options, message):
    with pytest.raises(UsageError, match=message):
        Amazon.fetch([], AmazonOptions(**options), listener)
    assert asked == []


def test_pictures_are_downloaded_on_request_only(put, tmp_path, listener, monkeypatch):
    asked: dict[str, str] = {}

    def fake(addresses, folder, *, progress):
        asked.update(addresses)
        for item in addresses:
            put(f"{folder.name}/{item}.jpg", b"picture")

    monkeypatch.setattr(amazon, "download_pictures", fake)
    put("All_Beauty.jsonl.gz", REVIEWS_2023)
    meta = put("meta_All_Beauty.jsonl.gz", META_2023)
    assert read([tmp_path], listener)[1].images == []
    assert asked == {}
    assert read([tmp_path], listener, download_pictures=True)[1].images == [b"", b"picture"]
    assert asked == {"B00YQ6X8EO": "https://m.example/1.jpg"}
    assert (tmp_path / "images" / "B00YQ6X8EO.jpg").exists()
    assert read([tmp_path], listener)[1].images == [b"", b"picture"], "found as a folder of one's own"
    meta.unlink()
    with pytest.raises(DataError, match="no item has the address of a picture"):
        read([tmp_path], listener, download_pictures=True)
