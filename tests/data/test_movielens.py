"""Hand-made samples of the three layouts, as folders and as zips."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sources import read_source

from bbqrec_cli import hdf5
from bbqrec_cli.data.sources import movielens
from bbqrec_cli.data.sources.movielens import GENRES, MovieLens, title_and_year
from bbqrec_cli.data.sources.options.movielens import MovieLensOptions
from bbqrec_cli.data.sources.options.table import TableOptions
from bbqrec_cli.data.sources.table import InteractionTable
from bbqrec_cli.errors import DataError, MissingFileError, UsageError
from bbqrec_cli.stages.prepare import PrepareConfig, run

read = partial(read_source, "movielens")


def flags(*genres: str) -> str:
    return "|".join("1" if genre in genres else "0" for genre in GENRES)


OLD = {
    "u.data": "196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t1\t5\t881250940\n196\t267\t1\t881250950\n",
    "u.item": (
        f"1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy|{flags('Animation', 'Comedy')}\n"
        f"242|Kolya (1996)|24-Jan-1997||http://us.imdb.com/M/title-exact?Kolya|{flags('Comedy')}\n"
        f"267|unknown||||{flags('unknown')}\n"
        f"302|Misérables, Les (1995)|01-Jan-1995||http://us.imdb.com/x|{flags('Drama', 'Western')}\n"
        f"999|Nobody's (1990)|01-Jan-1990||http://us.imdb.com/x|{flags('War')}\n"
    ).encode("latin-1"),
    "u1.base": "ignored",
}
DAT = {
    "ratings.dat": "1::1193::5::978300760\n1::661::3.5::978302109\n2::1193::4::978298413\n",
    "movies.dat": (
        "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
        "1193::Cité: des :: enfants, La (1995)::Drama\n"
    ).encode("latin-1"),
}
CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,3,0.5,964981247\n7,1,5.0,964982224\n",
    "movies.csv": (
        "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
        '3,"American President, The (1995)",(no genres listed)\n5,Nobody\'s (1990),War\n'
    ),
    "tags.csv": (
        'userId,movieId,tag,timestamp\n1,1,pixar,1\n2,1,Fun,2\n3,1, PIXAR ,3\n4,1,fun  park,4\n5,5,x,5\n6,3,"a, b",6\n'
    ),
    "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n3,0112346,\n5,1,1\n",
}


def zipped(files: dict, folder: str = "ml/") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(folder + name, content)
    return stream.getvalue()


@pytest.fixture(params=["folder", "zip", "file"])
def given(request, put, tmp_path):
    """`given(files)`: the path of a set, as a folder, as a zip, or as the ratings in the folder."""

    def made(files: dict) -> Path:
        if request.param == "zip":
            return put("ml.zip", zipped(files))
        for name, content in files.items():
            put(f"ml/{name}", content)
        return tmp_path / "ml" / (next(iter(files)) if request.param == "file" else "")

    return made


def test_100k(given, listener):
    interactions, items = read(given(OLD), listener)
    assert interactions.user_ids == ["196", "186"]
    assert interactions.item_ids == ["1", "242", "267", "302"]
    assert interactions.timestamps.tolist() == [881250940, 881250949, 881250950, 891717742]
    assert items.fields == {
        "title": ["Toy Story", "Kolya", "unknown", "Les Misérables"],
        "year": ["1995", "1996", "", "1995"],
        "genres": ["Animation|Comedy", "Comedy", "", "Drama|Western"],
    }
    assert "MovieLens, the layout of u.data" in listener.logged[0]
    assert listener.warned == []


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_1m_and_10m(given, listener, encoding):
    files = DAT | {"movies.dat": DAT["movies.dat"].decode("latin-1").encode(encoding)}
    interactions, items = read(given(files), listener)
    assert (interactions.user_ids, interactions.item_ids) == (["1", "2"], ["1193", "661"])
    assert interactions.users.tolist() == [0, 0, 1]
    assert interactions.items.tolist() == [0, 1, 0]
    assert items.fields == {
        "title": ["La Cité: des :: enfants", "James and the Giant Peach"],
        "year": ["1995", "1996"],
        "genres": ["Drama", "Animation|Children's|Musical"],
    }


def test_tags_of_10m(given, listener):
    tags = "1::661::a :: b::1\n2::661::peach::2\n3::661::peach::3\n"
    assert read(given(DAT | {"tags.dat": tags}), listener)[1].fields["user_tags"] == ["", "peach|a :: b"]


def test_tags_are_counted_by_users(given, listener):
    tags = "1::661::Mine::1\n1::661::mine::2\n1::661::MINE::3\n2::661::peach::4\n3::661::peach::5\n"
    assert read(given(DAT | {"tags.dat": tags}), listener)[1].fields["user_tags"] == ["", "peach|mine"]


def test_spaces_in_ids_do_not_count(given, listener):
    head = "userId,movieId,tag,timestamp\n"
    spaced = {"ratings.csv": CSV["ratings.csv"].replace("1,3,", "1 , 3,"), "tags.csv": f"{head}1, 3,fun,1\n"}
    assert spaced["ratings.csv"] != CSV["ratings.csv"]
    wanted, known = read(given(CSV | {"tags.csv": f"{head}1,3,fun,1\n"}), listener)
    made, items = read(given(CSV | spaced), listener)
    assert (made.user_ids, made.item_ids, items.fields) == (wanted.user_ids, wanted.item_ids, known.fields)
    assert items.fields["user_tags"] == ["fun", ""]


def test_20m_and_later(given, listener):
    interactions, items = read(given(CSV), listener)
    assert interactions.item_ids == ["3", "1"]
    assert interactions.timestamps.tolist() == [964981247, 964982703, 964982224]
    assert items.fields == {
        "title": ["The American President", "Toy Story"],
        "year": ["1995", "1995"],
        "genres": ["", "Adventure|Animation"],
        "imdb_id": ["tt0112346", "tt0114709"],
        "tmdb_id": ["", "862"],
        "user_tags": ["a, b", "pixar|fun|fun park"],
    }


def test_without_tags_and_links(given, listener):
    files = {name: CSV[name] for name in ("ratings.csv", "movies.csv")}
    assert set(read(given(files), listener)[1].fields) == {"title", "year", "genres"}


def test_without_movies(given, listener):
    assert read(given({"ratings.csv": CSV["ratings.csv"]}), listener)[1].fields == {}
    assert "no movies.csv in it, so no titles" in listener.warned[0]


def test_low_ratings_are_left_out_and_counted(given, listener):
    interactions, _ = read(given(CSV), listener, min_rating=4.0)
    assert (interactions.item_ids, interactions.left_out) == (["1"], {"ratings": 1})
    with pytest.raises(DataError, match="no ratings of 6 or better"):
        read(given(CSV), listener, min_rating=6.0)


def test_ones_own_items_and_pictures(put, tmp_path, listener):
    for name, content in CSV.items():
        put(f"ml/{name}", content)
    put("ml/posters/3.jpg", b"picture")
    own = put("own.json", '{"1": {"title": "Mine"}, "3": {"title": "Other"}}')
    _, items = read(tmp_path / "ml", listener, items=own)
    assert items.fields == {"title": ["Other", "Mine"]}
    assert items.images == [b"picture", b""]


@pytest.mark.parametrize(
    ("text", "plain", "year"),
    [
        ("Matrix, The (1999)", "The Matrix", "1999"),
        ("City of Lost Children, The (Cité des enfants perdus, La) (1995)",
         "The City of Lost Children (La Cité des enfants perdus)", "1995"),
        ("Postino, Il (Postman, The) (The Postman) (1994)", "Il Postino (The Postman) (The Postman)", "1994"),
        ("Avventura, L' (a.k.a. Adventure, The) (1960)", "L'Avventura (a.k.a. The Adventure)", "1960"),
        ("Walk, Don't Run (1966)", "Walk, Don't Run", "1966"),
        ("Walk, the Line (x) y (1966)", "Walk, the Line (x) y", "1966"),
        ("Big Bang Theory, The (2007-)", "The Big Bang Theory", "2007"),
        ("(500) Days of Summer (2009) ", "(500) Days of Summer", "2009"),
        ("1984", "1984", ""),
        ("2001 (1968)", "2001", "1968"),
        ("unknown", "unknown", ""),
        ("", "", ""),
    ],
)  # fmt: skip
def test_titles(text, plain, year):
    assert title_and_year(text) == (plain, year)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ratings.dat": "1::2::3\n"}, r"ratings.dat, line 1: '1::2::3'; user, movie, rating and seconds"),
        ({"ratings.dat": "1::2::3::4\n1::2::x::4\n"}, "ratings.dat, line 2"),
        ({"ratings.dat": "1::2::3::-4\n"}, "ratings.dat, line 1"),
        ({"ratings.dat": "::2::3::4\n"}, "ratings.dat, line 1"),
        ({"ratings.dat": "1::2::3::4.5\n"}, "ratings.dat, line 1"),
        ({"ratings.dat": "1::2::nan::4\n"}, "ratings.dat, line 1"),
        ({"ratings.dat": ""}, "no ratings in it"),
        ({"ratings.csv": "user,item,rating,time\n"}, "line 1: starts with 'user,item,rating,time', not with userId,"),
        ({"ratings.csv": b"\xff"}, "ratings.csv, line 1: byte 0xff is not UTF-8"),
        ({**CSV, "movies.csv": 'movieId,title,genres\n1,"a\n'}, "movies.csv, line 2: not a readable table"),
        ({**CSV, "movies.csv": "movieId,title,genres\n1,a\n"}, "movies.csv, line 2: 2 columns; 3 are needed"),
        ({**CSV, "movies.csv": CSV["movies.csv"] + "1,a,b\n"}, "movies.csv, line 5: movie '1' appears twice"),
        ({**OLD, "u.item": "1|Toy Story|0|1\n"}, "u.item, line 1: 4 columns; 24 are needed"),
        ({**CSV, "links.csv": "movieId,imdbId,tmdbId\n1,2\n"}, "links.csv, line 2: 2 columns; 3 are needed"),
        ({**CSV, "tags.csv": "userId,movieId,tag,timestamp\n1,2,3\n"}, "tags.csv, line 2: 3 columns; 4 are needed"),
    ],
)
def test_malformed_files(given, listener, files, message):
    with pytest.raises(DataError, match=message) as caught:
        read(given(files), listener)
    assert caught.value.hint


def test_paths(put, tmp_path, listener):
    with pytest.raises(UsageError, match="needs one path; there are 0"):
        MovieLens([], MovieLensOptions(), seed=0, progress=listener)
    with pytest.raises(MissingFileError, match="no such file or folder"):
        read(tmp_path / "none", listener)
    with pytest.raises(MissingFileError, match=r"no u.data, ratings.dat, ratings.csv in it"):
        read(tmp_path, listener)
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        read(put("x.csv", "1"), listener)


def test_archives_are_not_unpacked(put, tmp_path, listener):
    """Names that lead out of the folder, shadows of macOS and deeper copies change nothing."""
    files = {"../../ratings.csv": CSV["ratings.csv"], "__MACOSX/ml/movies.csv": "shadow"}
    files |= {"a/b/c/movies.csv": "deeper", "/abs/movies.csv": CSV["movies.csv"]}
    path = put("in/ml.zip", zipped(files, folder=""))
    before = sorted(tmp_path.rglob("*"))
    assert read(path, listener)[1].fields["title"] == ["The American President", "Toy Story"]
    assert sorted(tmp_path.rglob("*")) == before


def test_damaged_archives(put, listener):
    with pytest.raises(DataError, match=r"ml.zip: u.data cannot be read \(File is not a zip file\)"):
        read(put("ml.zip", b"<html>"), listener)
    blob = bytearray(zipped(CSV))
    at = blob.index(b"ratings.csv") + len("ratings.csv") + 5
    blob[at] ^= 0xFF
    with pytest.raises(DataError, match=r"ml.zip: ratings.csv cannot be read"):
        read(put("ml.zip", bytes(blob)), listener)


@pytest.mark.realdata
def test_movielens_1m_in_its_own_layouts(tmp_path, listener):
    """The same histories as those of `table`, and the counts of the data's README."""
    source = Path(__file__).parents[3] / "shared" / "data" / "movielens-1m"
    if not source.is_dir():
        pytest.skip(f"needs {source}, the research data beside the checkout")
    expected = InteractionTable([source], TableOptions(), seed=0, progress=listener).interactions()
    with gzip.open(source / "interactions.csv.gz", "rt") as stream:
        rows = [line.strip().split(",") for line in stream][1:]
    layouts = {
        "u.data": "".join(f"{user}\t{item}\t4\t{time}\n" for user, item, time in rows),
        "ratings.dat": "".join(f"{user}::{item}::4::{time}\n" for user, item, time in rows),
        "ratings.csv": "userId,movieId,rating,timestamp\n" + "".join(f"{u},{i},4.0,{t}\n" for u, i, t in rows),
    }
    for name, text in layouts.items():
        path = tmp_path / f"{name}.zip"
        path.write_bytes(zipped({name: text}))
        made = read(path, listener)[0]
        assert (len(made.user_ids), len(made.item_ids), len(made.items)) == (6040, 3416, 999611)
        assert (made.user_ids, made.item_ids) == (expected.user_ids, expected.item_ids)
        np.testing.assert_array_equal(made.items, expected.items)


# Downloads


def test_the_published_zip_is_checked_by_its_checksum(tmp_path, listener, monkeypatch):
    asked = []
    monkeypatch.setattr(movielens, "published_md5", lambda url: asked.append(url) or "0" * 32)

    def fake(url, target, *, md5, progress):
        asked.append((url, md5))
        target.write_bytes(zipped(DAT))
        return target

    monkeypatch.setattr(movielens, "download", fake)
    paths = MovieLens.fetch([tmp_path], MovieLensOptions(download="1m"), listener)
    assert asked == [(f"{movielens.SITE}/ml-1m.zip", "c4d9eecfca2ab87c1945afe126590906")]
    assert read(paths[0], listener)[0].item_ids == ["1193", "661"]
    asked.clear()
    options = MovieLensOptions(download="latest-small", mirror="https://mirror.example/ml")
    MovieLens.fetch([tmp_path], options, listener)
    url = "https://mirror.example/ml/ml-latest-small.zip"
    assert asked == [url, (url, "0" * 32)], "the sets that change have their checksum beside them"
    with pytest.raises(UsageError, match="--mirror has no effect without --download"):
        MovieLens.fetch([tmp_path], MovieLensOptions(mirror="http://x"), listener)
    assert MovieLens.fetch([tmp_path], MovieLensOptions(), listener) == [tmp_path]


def test_checksums_are_checksums():
    assert all(len(bytes.fromhex(value)) == hashlib.md5().digest_size for value in movielens.MD5.values())


def test_no_text_knows_what_users_said_after_the_split(given, tmp_path, listener):
    """They may say it of what is held out."""
    made = run(PrepareConfig(source="movielens", paths=(str(given(CSV)),), output=tmp_path / "d.h5"), listener)
    assert made.text_fields == ("title", "genres")
    assert "pixar" not in " ".join(hdf5.read_dataset(made.output).texts).casefold()
