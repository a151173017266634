"""Hand-made lines of Yelp's files, as a folder, gzipped, in a tar, and in a zip around a tar."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from functools import partial

import pytest
from sources import read_source

from bbqrec_cli.data.sources.options.yelp import YelpOptions
from bbqrec_cli.data.sources.yelp import BUSINESSES, REVIEWS, Yelp
from bbqrec_cli.errors import DataError, MissingFileError, UsageError

read = partial(read_source, "yelp")


def review(user: str, business: str, date: str, stars: float = 4.0) -> str:
    row = {"review_id": "r", "user_id": user, "business_id": business, "stars": stars, "useful": 0, "funny": 0}
    return json.dumps(row | {"cool": 0, "text": "Good.\nVery.", "date": date}) + "\n"


FILES = {
    REVIEWS: review("u1", "b2", "2019-07-07 22:09:11")
    + review("u2", "b1", "2014-02-13")
    + review("u1", "b1", "2019-07-07 22:09:10", 2.0),
    BUSINESSES: "".join(
        json.dumps(row) + "\n"
        for row in [
            {"business_id": "b1", "name": "Café  Uno", "address": "1 St", "city": "Tampa", "state": "FL",
             "categories": "Gastropubs, Food,  Beer Gardens", "hours": None},
            {"business_id": "b2", "name": "Two", "city": "", "state": "PA", "categories": ["Bars", "Food"]},
            {"business_id": "b9", "name": "Nobody's", "categories": None},
        ]
    ),
}  # fmt: skip


def tarred(mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, text in {"../Dataset_User_Agreement.pdf": "x", **FILES}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return stream.getvalue()


def zipped(files: dict) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture(params=["folder", "file", "gz", "tar", "tgz", "zip", "zip of a tar"])
def path(request, put, tmp_path):
    kind = request.param
    if kind in ("folder", "file", "gz"):
        for name, text in FILES.items():
            put(f"yelp/{name}" + ".gz" * (kind == "gz"), text)
        return tmp_path / "yelp" / (REVIEWS if kind == "file" else "")
    if kind == "zip":
        return put("yelp.zip", zipped({f"a/{name}": text for name, text in FILES.items()}))
    if kind == "zip of a tar":
        return put("Yelp-JSON.zip", zipped({"Yelp JSON/yelp_dataset.tar": tarred(), "__MACOSX/yelp.tar": "x"}))
    return put(f"yelp_dataset.{kind}", tarred("w:gz" if kind == "tgz" else "w"))


def test_reviews_and_businesses(path, tmp_path, listener):
    before = sorted(tmp_path.rglob("*"))
    interactions, items = read(path, listener)
    assert interactions.user_ids == ["u1", "u2"]
    assert interactions.item_ids == ["b1", "b2"]
    assert interactions.items.tolist() == [0, 1, 0]
    assert interactions.timestamps.tolist() == [1562537350, 1562537351, 1392249600]
    assert items.fields == {
        "name": ["Café Uno", "Two"],
        "categories": ["Gastropubs|Food|Beer Gardens", "Bars|Food"],
        "city": ["Tampa", ""],
        "state": ["FL", "PA"],
    }
    assert f"{BUSINESSES}: 1 entries are left out: their items are not among those kept" in listener.logged
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"


def test_few_stars_are_left_out_and_counted(path, listener):
    interactions, _ = read(path, listener, min_rating=3.0)
    assert (interactions.item_ids, interactions.left_out) == (["b2", "b1"], {"ratings": 1})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({REVIEWS: "{\n"}, "review.json, line 1: not JSON"),
        ({REVIEWS: "[]\n"}, "review.json, line 1: holds '\\[\\]'; an object of fields is needed"),
        ({REVIEWS: review("", "b", "2019-01-01")}, "review.json, line 1: user_id is ''"),
        ({REVIEWS: review("u", "b", "yesterday")}, "review.json, line 1: .*date 'yesterday'; all are needed"),
        ({REVIEWS: review("u", "b", "1969-01-01")}, "review.json, line 1: .*date '1969-01-01'; all are needed"),
        ({REVIEWS: ""}, "no reviews in it"),
        ({**FILES, BUSINESSES: FILES[BUSINESSES] * 2}, "business.json, line 4: business 'b1' appears twice"),
        ({**FILES, BUSINESSES: '{"name": "x"}\n'}, "business.json, line 1: no business_id"),
        ({**FILES, BUSINESSES: '{"business_id": "x"}\n'}, "business.json: none of the 2 items has an entry"),
    ],
)
def test_malformed_files(put, tmp_path, listener, files, message):
    for name, text in files.items():
        put(f"y/{name}", text)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "y", listener)
    assert caught.value.hint


def test_paths_and_damage(put, tmp_path, listener):
    with pytest.raises(UsageError, match="needs one path; there are 0"):
        Yelp([], YelpOptions(), seed=0, progress=listener)
    with pytest.raises(MissingFileError, match=f"no {REVIEWS} in it"):
        read(tmp_path, listener)
    with pytest.raises(MissingFileError, match=f"no {REVIEWS} in it"):
        read(put("other.zip", zipped({"a.txt": "x"})), listener)
    with pytest.raises(DataError, match="cannot be read"):
        read(put("yelp_dataset.tgz", tarred("w:gz")[:-40]), listener)
    cut = put(f"y/{REVIEWS}.gz", FILES[REVIEWS])
    cut.write_bytes(gzip.compress(FILES[REVIEWS].encode() * 100)[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        read(cut, listener)
