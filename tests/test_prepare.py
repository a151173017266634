from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import Listener

from bbqrec_cli import hdf5
from bbqrec_cli.data.fields import NO_ATTRIBUTES, TEXT_FIELDS
from bbqrec_cli.data.sources import demo
from bbqrec_cli.errors import DataError, OutputExistsError, UsageError
from bbqrec_cli.records import Dataset
from bbqrec_cli.stages import prepare
from bbqrec_cli.stages.prepare import PrepareConfig, run

REAL = Path(__file__).parents[2] / "shared" / "data"
LOG = "user,item,timestamp\n" + "".join(
    f"{user},{item},{time}\n"
    for user, items in {"u": "abcab", "v": "bac", "w": "ad"}.items()
    for time, item in enumerate(items)
)
ITEMS = {
    "a": {"title": "Apple", "genres": ["Fruit", "Red"], "price": 1.5, "description": "Round."},
    "b": {"title": "Bed", "genres": ["Furniture"], "image": "none"},
    "c": {"genres": [], "description": "No title."},
}


def test_sparsity_of_more_pairs_than_32_bits_hold(tmp_path):
    """73,728 users with an item each; of 65,536 items."""
    items = 1 << 16
    lines = [f"{user},{user % items}" for user in range(items + (1 << 13))]
    (tmp_path / "log.csv").write_text("user,item\n" + "\n".join(lines) + "\n")
    made = run(
        PrepareConfig(
            source="table", paths=(str(tmp_path / "log.csv"),), output=tmp_path / "d.h5", options={"order": "file"}
        )
    )
    assert (made.items, made.interactions) == (items, len(lines))
    assert made.sparsity == round(1 - 1 / items, 6) == 0.999985


@pytest.fixture
def folder(tmp_path, dataset) -> Path:
    """A table source: interactions, items, pictures (that of 'c' is damaged)."""
    made = tmp_path / "raw"
    (made / "pictures").mkdir(parents=True)
    (made / "interactions.csv").write_text(LOG)
    (made / "items.json").write_text(json.dumps(ITEMS))
    (made / "pictures" / "a.png").write_bytes(dataset.images[0])
    (made / "pictures" / "c.png").write_bytes(dataset.images[2][:-40])
    return made


def config(folder: Path, **options) -> PrepareConfig:
    return PrepareConfig(
        **{"source": "table", "paths": (str(folder),), "output": folder.parent / "dataset.h5"} | options
    )


def histories(made: Dataset) -> dict[str, list[str]]:
    catalogue = made.catalogue
    rows = zip(catalogue.user_ids, catalogue.sequences, strict=True)
    return {user: [catalogue.item_ids[item] for item in row] for user, row in rows}


def test_what_the_file_holds(folder):
    listener = Listener()
    result = run(config(folder), listener)
    made = hdf5.read_dataset(result.output)
    assert histories(made) == {"u": [*"abcab"], "v": [*"bac"], "w": [*"ad"]}
    assert made.catalogue.sequences.timestamps.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 0, 1]
    rows = [list(made.catalogue.item_ids).index(item) for item in "abcd"]

    def of_items(column) -> list:
        return [column[row] for row in rows]

    assert of_items(made.catalogue.titles) == ["Apple", "Bed", "", ""]
    assert of_items(made.texts) == ["Apple. Fruit, Red. Round.", "Bed. Furniture", "No title.", ""]
    assert {name: of_items(column) for name, column in made.catalogue.attributes.items()} == {
        "genres": ["Fruit|Red", "Furniture", "", ""],
        "price": ["1.5", "", "", ""],
        "image_": ["", "none", "", ""],
    }
    assert [bool(picture) for picture in of_items(made.images)] == [True, False, False, False]
    assert listener.warned == [
        "items.json: 1 of 4 items have no entry, so no title and no text",
        "1 pictures cannot be read and count as missing; the first are of the items c",
        "1 of 4 items have no text",
        "3 of 4 items have no picture",
        "1 of 3 users have fewer than 3 interactions and are not evaluated; --min-user-interactions 3 leaves them out",
    ]
    assert listener.logged == [
        "interactions.csv: times are read as a counter",
        "texts are made from the fields title, genres, description",
    ]


def test_targets_that_hang_on_a_tie_are_said(tmp_path):
    """u's test target is tied, w's validation target is; v's tie is one item twice; x is not evaluated."""
    times = {"u": "abc122", "v": "abb122", "w": "abc112", "x": "ab11", "y": "bac222"}
    rows = [f"{user},{s[i]},{s[i + len(s) // 2]}" for user, s in times.items() for i in range(len(s) // 2)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,timestamp", *rows]))
    listener = Listener()
    result = run(config(tmp_path / "log.csv"), listener)
    assert (result.evaluated_users, result.ties) == (4, {"test": 2, "validation": 3})
    said = "50.0% of the test targets and 75.0% of the validation targets hang on a tie: another item has the same time"
    assert said in listener.warned[-1]
    assert "2 interactions repeat" not in " ".join(listener.warned)
    filtered = run(config(tmp_path / "log.csv", min_user_interactions=3, force=True))
    assert (filtered.users, filtered.ties) == (4, {"test": 2, "validation": 3})


def test_under_a_split_by_time_ties_decide_histories(tmp_path):
    """Times 6 and 8 are validation, 9 test. Of u's two items of 6 one is in the other's history; w's b comes twice."""
    times = {"u": "abcd1669", "v": "abcd1238", "w": "abbcd12299", "x": "abc123"}
    rows = [f"{user},{s[i]},{s[i + len(s) // 2]}" for user, s in times.items() for i in range(len(s) // 2)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,timestamp", *rows]))
    listener = Listener()
    result = run(config(tmp_path / "log.csv", split="time", quantiles=(0.6, 0.8)), listener)
    assert result.split["targets"] == {"validation": 3, "test": 3}
    assert result.ties == {"test": 2, "validation": 2}
    said = "66.7% of the test targets and 66.7% of the validation targets hang on a tie: another item has the same time"
    said += ", and --ties (file, item or random) decides which of them come before the target"
    assert said in listener.warned[-1]


def test_duplicates_and_the_k_core(tmp_path):
    """Kept, three rows of one interaction make a user of three; dropped, they do not."""
    rows = [*["u,a,100"] * 3, "v,a,100", "v,b,101", "v,c,102"]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,timestamp", *rows]))
    for how, users in (("keep", 2), ("drop", 1)):
        made = config(tmp_path / "log.csv", min_user_interactions=3, force=True, options={"duplicates": how})
        assert run(made).users == users


def test_counts_are_printed_and_stored(folder):
    result = run(config(folder))
    fields = {"title": 2, "genres": 2, "price": 1, "description": 2, "image": 1}
    counts = {"users": 3, "items": 4, "interactions": 10, "texts": 3, "images": 1, "average_length": 3.33}
    counts |= {"evaluated_users": 2, "ties": {"test": 0, "validation": 0}}
    counts |= {"sparsity": 0.333333, "duplicates": 0, "left_out": {}}
    said = result.to_json()
    assert said.pop("output") == str(result.output)
    assert said.pop("text_fields") == ["title", "genres", "description"]
    split = said.pop("split")
    assert (split["kind"], split["name"]) == ("last", "leave-last-out")
    assert split["interactions"] == {"train": 6, "validation": 2, "test": 2}
    assert said == counts | {"fields": fields}
    about = hdf5.describe(result.output)
    assert about["config"]["counts"] == said
    assert about["config"]["text_fields"] == ["title", "genres", "description"]
    assert (about["config"]["source"], about["config"]["seed"]) == ("table", 0)
    assert [parent["path"] for parent in about["parents"]] == ["interactions.csv", "items.json", "pictures"]
    assert about["parents"][0]["sha256"] == hdf5.sha256(folder / "interactions.csv")


def test_text_fields(folder):
    result = run(config(folder, text_fields=("description", "price")))
    assert sorted(hdf5.read_dataset(result.output).texts) == ["", "", "No title.", "Round.. 1.5"]
    with pytest.raises(UsageError, match=r"names 'titel' \(did you mean 'title'\?\); the items have .*genres"):
        run(config(folder, text_fields=("titel",), force=True))


def test_fields_of_which_none_is_known_as_text(folder):
    (folder / "items.json").write_text('{"a": {"colour": "red"}, "b": {}}')
    listener = Listener()
    made = hdf5.read_dataset(run(config(folder), listener).output)
    assert made.texts == [""] * 4
    assert "no texts: no known text field; --text-fields can use colour" in listener.warned


def test_the_page_names_the_fields():
    page = " ".join((Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8").split())
    for names, said in (
        (TEXT_FIELDS, "is made of the fields {}, in this order"),
        (NO_ATTRIBUTES[1:], "All other fields but {} are kept"),
    ):
        *first, last = (f"`{name}`" for name in names)
        assert said.format(f"{', '.join(first)} and {last}") in page


@pytest.mark.parametrize("reserved", ["id", "image"])
def test_fields_that_the_file_would_hold_under_one_name(folder, reserved):
    """`attributes` appends '_' to a reserved name; a field that has such a name already is not lost for it."""
    (folder / "items.csv").write_text(f"item,{reserved},{reserved}_\na,x,y\n")
    (folder / "items.json").unlink()
    with pytest.raises(DataError, match=f"the fields '{reserved}' and '{reserved}_' would both be stored as"):
        run(config(folder))


def recbole(tmp_path, *names: str) -> PrepareConfig:
    """Four items with a feature of each name."""
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\n" + "".join(f"u\t{item}\n" for item in "abcd"))
    head = "\t".join(["item_id:token", *(f"{name}:float_seq" for name in names)])
    rows = ("\t".join([item, *("1 2" for _ in names)]) for item in "abcd")
    (tmp_path / "x.item").write_text("\n".join([head, *rows]))
    return PrepareConfig(source="recbole", paths=(str(tmp_path),), output=tmp_path / "x.h5")


def test_features_have_names_that_the_file_can_hold(tmp_path):
    """A name with '/' would make groups, which no reader finds."""
    made = hdf5.read_dataset(run(recbole(tmp_path, "emb/x", "plain")).output)
    assert {name: each.values[0].tolist() for name, each in made.features.items()} == {
        "emb_x": [1, 2], "plain": [1, 2]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["id"], "a feature called 'id': id is the signal of the items themselves"),
        ([""], "a feature called '': a name is needed"),
        (["a/b", "a_b"], "the features 'a/b' and 'a_b' would both be stored as 'a_b'"),
        (["x" * 5000], "a field or feature with a name of 5,000 characters"),
    ],
)
def test_names_that_no_feature_may_have(tmp_path, names, said):
    with pytest.raises(DataError, match=said):
        run(recbole(tmp_path, *names))
    assert not (tmp_path / "x.h5").exists()


def test_filters_leave_whole_users_and_items_out(folder):
    """Items with three: a and b (u twice each, v), c has two and goes; then w is left with one and goes as well."""
    listener = Listener()
    result = run(config(folder, min_user_interactions=2, min_item_interactions=3), listener)
    made = hdf5.read_dataset(result.output)
    assert histories(made) == {"u": [*"abab"], "v": [*"ba"]}
    assert made.catalogue.sequences.timestamps.tolist() == [0, 1, 3, 4, 0, 1]
    assert made.catalogue.titles == ["Apple", "Bed"]
    assert "at least 2 interactions per user and 3 per item: 1 users, 2 items and 4 interactions are left out" in (
        listener.logged
    )
    assert "items.json: 1 entries are left out: their items have no interactions among those kept" in listener.logged
    assert hdf5.describe(result.output)["config"]["min_item_interactions"] == 3
    with pytest.raises(DataError, match="at least 0 interactions per user and 9 per item: nothing is left") as caught:
        run(config(folder, min_item_interactions=9, force=True))
    assert "lower --min-user-interactions" in caught.value.hint


REVIEW = '{{"reviewerID": "{}", "asin": "B00000000{}", "unixReviewTime": {}}}\n'


@pytest.mark.parametrize(("options", "interactions"), [({}, 25), ({"min_user_interactions": 0}, 26)])
def test_amazons_whole_reviews_go_through_the_5_core(tmp_path, options, interactions):
    """Five users who took the same five items, and one who took one of them: out, unless the line says otherwise."""
    reviews = [REVIEW.format(f"A{user}", item, item) for user in range(5) for item in range(5)]
    path = tmp_path / "reviews_X.json.gz"
    path.write_bytes(gzip.compress("".join([*reviews, REVIEW.format("A9", 0, 1)]).encode()))
    result = run(PrepareConfig(source="amazon", paths=(str(path),), output=tmp_path / "d.h5", **options))
    assert result.interactions == interactions


def test_amazons_features_count_as_pictures(tmp_path):
    (tmp_path / "reviews_X_5.json").write_text(REVIEW.format("A1", 1, 1) + REVIEW.format("A1", 2, 2))
    vector = np.arange(4096, dtype="<f4")
    (tmp_path / "image_features_X.b").write_bytes(b"B000000002" + vector.tobytes())
    result = run(PrepareConfig(source="amazon", paths=(str(tmp_path),), output=tmp_path / "d.h5"))
    assert (result.items, result.images, result.texts) == (2, 1, 0)
    dataset = hdf5.read_dataset(result.output)
    made, row = dataset.features["image"], list(dataset.catalogue.item_ids).index("B000000002")
    assert made.present.tolist() == [row == 0, row == 1]
    np.testing.assert_array_equal(made.values[row], vector)


def content(path: Path) -> dict[str, object]:
    """Every dataset's and attribute's bytes but the time of writing."""
    found: dict[str, object] = {}
    with h5py.File(path) as file:
        found |= {key: value for key, value in file.attrs.items() if key != "created"}

        def visit(name, node):
            if isinstance(node, h5py.Dataset):
                whole = node[()]
                found[name] = [bytes(each) for each in whole] if whole.dtype == object else whole.tobytes()

        file.visititems(visit)
    return found


def test_the_demo_is_the_same_twice_and_the_seed_changes_it(tmp_path, monkeypatch):
    monkeypatch.setitem(demo.SIZES, "small", (60, 40))
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(PrepareConfig(source="demo", options={"size": "small"}, seed=seed, output=tmp_path / name))
    first, again, other = (content(tmp_path / name) for name in "abc")
    assert first == again
    assert (tmp_path / "a").stat().st_size == (tmp_path / "b").stat().st_size
    assert {name for name in first if first[name] == other.get(name)} <= {
        "format", "kind", "schema_version", "bbqrec_version", "parents", "features", "users/id", "items/id",
    }  # fmt: skip


def test_an_existing_output_is_refused_before_any_work(folder, monkeypatch):
    made = config(folder)
    made.output.write_text("mine")
    monkeypatch.setattr(prepare, "filtered", lambda *_, **__: pytest.fail("work was begun"))
    with pytest.raises(OutputExistsError):
        run(made)
    assert made.output.read_text() == "mine"


def test_an_input_is_no_output(folder):
    before = (folder / "interactions.csv").read_bytes()
    with pytest.raises(DataError, match="is an input and would be lost"):
        run(config(folder, output=folder / "interactions.csv", force=True))
    assert (folder / "interactions.csv").read_bytes() == before


DATES = ("2018-12-31 23:59:59", "2019-01-01", "2019-12-31 23:59:59", "2020-01-01")
DATED = "user,item,timestamp\n" + "".join(
    f"{user},{item},{date}\n" for user in "uvw" for item, date in zip("abcd", DATES, strict=True)
)


@pytest.mark.parametrize(
    ("options", "items"),
    [
        ({"since": "2019-01-01"}, "bcd"),
        ({"until": "2019-12-31"}, "abc"),
        ({"since": "2019-01-01", "until": "2019-12-31"}, "bc"),
        ({"since": "2018-12-31", "until": "2020-01-01"}, "abcd"),
        ({"since": "1990-01-01"}, "abcd"),
    ],
)
def test_dates(tmp_path, options, items):
    """Both days belong to what is kept."""
    (tmp_path / "log.csv").write_text(DATED)
    result = run(config(tmp_path / "log.csv", **options))
    made = hdf5.read_dataset(result.output)
    assert histories(made)["u"] == [*items]
    left = 3 * (4 - len(items))
    assert result.left_out == ({"dates": left} if left else {})
    assert {key: hdf5.describe(result.output)["config"][key] for key in options} == options


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"since": "2019"}, UsageError, "--since is '2019'; a date is needed"),
        ({"until": "31.12.2019"}, UsageError, "--until is '31.12.2019'; a date is needed"),
        ({"since": "2020-01-01", "until": "2019-01-01"}, UsageError, "--since 2020-01-01 is after --until 2019-01-01"),
        ({"since": "2021-01-01"}, DataError, "--since and --until leave nothing"),
        ({"since": "2019-01-01", "options": {"order": "file"}}, UsageError, "--since and --until need times"),
    ],
)
def test_dates_that_cannot_be(tmp_path, options, error, message):
    (tmp_path / "log.csv").write_text(DATED)
    with pytest.raises(error, match=message):
        run(config(tmp_path / "log.csv", **options))


def test_a_counter_has_no_dates(folder):
    with pytest.raises(UsageError, match="--since and --until need times since 1970"):
        run(config(folder, until="2019-12-31"))


def test_the_summary_says_what_is_left_out(tmp_path, bbqrec):
    """u and v have a, b, c in 2019; w has one of them; one row comes twice; one is of another year."""
    rows = [f"{user},{item},2019-0{month}-01" for user in "uv" for month, item in enumerate("abc", start=1)]
    rows += ["w,a,2019-01-01", "u,a,2019-01-01", "v,c,2018-01-01"]
    log, out = tmp_path / "log.csv", tmp_path / "d.h5"
    log.write_text("\n".join(["user,item,timestamp", *rows]))
    limits = ["--since", "2019-01-01", "--min-user-interactions", 2, "-o", out, "--force"]
    said = json.loads(bbqrec("prepare", "table", log, *limits, "--json").out)
    assert (said["users"], said["items"], said["interactions"], said["duplicates"]) == (2, 3, 7, 1)
    assert said["left_out"] == {"dates": 1, "k_core": 1}
    assert said["sparsity"] == 0, "every user has every item"
    shown = bbqrec("prepare", "table", log, *limits, "--duplicates", "drop")
    table = {name.strip(): count.strip() for _, name, count, _ in (
        line.split("│") for line in shown.out.splitlines() if line.startswith("│")
    )}  # fmt: skip
    assert table | {
        "users": "2", "items": "3", "interactions": "6", "average_length": "3.0", "sparsity": "0.00%",
        "duplicates": "0", "tied test targets": "0", "left out: duplicates": "1", "left out: other dates": "1",
        "left out: k-core": "1",
    } == table  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch) -> Iterator[str]:
    """The address of a server of tmp_path/site."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "site").mkdir()
    handler = partial(Quiet, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_download_from_a_mirror(mirror, tmp_path, bbqrec, monkeypatch):
    """The zip and its checksum come over HTTP; a second time nothing is fetched; an existing output stops before."""
    archive = tmp_path / "site" / "ml-latest-small.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("ml/ratings.csv", "userId,movieId,rating,timestamp\n1,3,4.0,964982703\n1,6,4.5,964982224\n")
        made.writestr("ml/movies.csv", "movieId,title,genres\n3,Grumpier Old Men (1995),Comedy\n6,Heat (1995),Crime\n")
    checksum = archive.with_name("ml-latest-small.zip.md5")
    checksum.write_text(f"{hashlib.md5(archive.read_bytes()).hexdigest()}  ml-latest-small.zip\n")
    monkeypatch.chdir(tmp_path)
    line = ["prepare", "movielens", "raw", "--download", "latest-small", "--mirror", mirror]
    done = bbqrec(*line, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["interactions"] == 2
    assert hdf5.read_dataset(tmp_path / "dataset.h5").catalogue.titles == ["Grumpier Old Men", "Heat"]
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["ml-latest-small.zip"]
    archive.unlink()
    assert bbqrec(*line, "--force").status == 0
    assert bbqrec("prepare", "movielens", "raw/ml-latest-small.zip", "--force").status == 0
    refused = bbqrec("prepare", "movielens", "elsewhere", *line[3:])
    assert (refused.status, "exists already" in refused.err) == (3, True)
    assert not (tmp_path / "elsewhere").exists()
    gone = bbqrec("prepare", "movielens", "elsewhere", *line[3:], "-o", "other.h5", "--json")
    assert (gone.status, json.loads(gone.err.splitlines()[-1])["error"]) == (4, "download")
    archive.write_bytes(b"PK another file")
    wrong = bbqrec("prepare", "movielens", "elsewhere", *line[3:], "-o", "other.h5")
    assert wrong.status == 4
    assert "not the published" in " ".join(wrong.err.split())
    assert not (tmp_path / "other.h5").exists()


def test_help_lists_sources_and_shows_ones_options(bbqrec, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    every = bbqrec("prepare", "--help").out
    assert "yelp: Yelp's open dataset" in every
    assert "Example: bbqrec prepare movielens --download 1m" in every
    assert "--size" not in every
    one = bbqrec("prepare", "yelp", "--help").out
    assert "Options of yelp" in one
    assert "--min-rating" in one
    assert "Example: bbqrec prepare yelp yelp_dataset.tar --since" in one
    assert "--download" not in one
    assert "--since" in one


# From the command line


def test_command(folder, bbqrec, monkeypatch):
    """The default name, the documented keys, and nothing else on stdout."""
    monkeypatch.chdir(folder.parent)
    outcome = bbqrec("prepare", "table", "raw", "--json")
    assert outcome.status == 0, outcome.err
    said = json.loads(outcome.out)
    assert said.keys() >= {"output", "users", "items", "interactions", "texts", "images", "average_length"}
    assert (said["output"], said["interactions"]) == ("dataset.h5", 10)
    again = bbqrec("prepare", "table", "raw")
    assert (again.status, again.out) == (3, "")
    assert "dataset.h5: exists already" in again.err
    assert "--force" in again.err
    forced = bbqrec("prepare", "table", "raw", "--force")
    assert forced.status == 0
    assert "items with genres" in forced.out
    assert "texts are made from the fields title, genres, description" in forced.err


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


SEQUENCES = {"s/sequences.txt": "u 1 2 1\nv 2 1 2\n"}
FAILURES = {
    "unknown source": ({}, "recbol x", 2, "SOURCE is 'recbol'; known: demo, amazon", "--help"),
    "unknown source, nearly": ({}, "s3-rec x", 2, "did you mean 's3rec'?", "--help"),
    "a file for a source": ({"r.csv": LOG}, "r.csv", 2, "SOURCE is 'r.csv'; known: demo", "bbqrec prepare table r.csv"),
    "a folder for a source": (SEQUENCES, "s", 2, "SOURCE is 's'; known: demo", "bbqrec prepare s3rec s"),
    "no source": ({}, "", 2, "SOURCE", ""),
    "option of another source": (
        SEQUENCES, "s3rec s --min-rating 4", 2,
        "s3rec has no min rating; --min-rating is an option of huggingface, movielens, recbole, table and 1 more",
        "--id-shift",
    ),
    "option of no source": (
        {}, "demo --images x", 2,
        "demo has no images; --images is an option of amazon, huggingface, letter, movielens and 4 more", "--size",
    ),
    "no path": ({}, "table", 2, "prepare table needs files, or one folder; there are 0", "bbqrec prepare table"),
    "unknown text field": (
        SEQUENCES | {"s/items.json": '{"1": {"title": "a"}, "2": {}}'},
        "s3rec s --text-fields name", 2, "--text-fields names 'name'; the items have title", "choose among these",
    ),
    "missing folder": ({}, "s3rec none", 3, "none: no such file", "check the name"),
    "folder without sequences": ({"s/x.txt": ""}, "s3rec s", 3, "s/sequences.txt: no such file", "give the file of"),
    "missing items file": (SEQUENCES, "s3rec s --items none.json", 3, "none.json: no such file", "check the name"),
    "missing pictures": (SEQUENCES, "s3rec s --images none", 3, "none: no such folder of pictures", "--images FOLDER"),
    "malformed line": ({"x.txt": "u 1 2\nv\n"}, "s3rec x.txt", 3, "x.txt, line 2: user 'v' has no items", "u1 i1"),
    "malformed row": (
        {"x.csv": "user,item,timestamp\nu,a,1\nu,b\n"}, "table x.csv", 3, "x.csv, line 3: 2 columns; the header has 3",
        "double quotes",
    ),
    "wrong columns": (
        {"x.csv": "uid,what,when\nu,a,1\n"}, "table x.csv", 3,
        "x.csv, line 1: no column for item, time; split at commas, the first line has 'uid', 'what', 'when'",
        "bbqrec prepare table x.csv --item-column NAME --time-column NAME",
    ),
    "duplicate user": ({"x.txt": "u 1 2\nu 3 4\n"}, "s3rec x.txt", 3, "line 2: user 'u' has line 1", "line per user"),
    "duplicate item": (
        {"x.csv": "user,item,timestamp\nu,a,1\n", "i.csv": "id,title\na,A\na,B\n"}, "table x.csv --items i.csv", 3,
        "i.csv, line 3: item 'a' appears twice", "keep one line per item",
    ),
    "NaN in features": (
        {"a/reviews_X_5.json": REVIEW.format("A", 1, 1), "a/image_features_X.b": b"B000000001" + b"\xff" * 16384},
        "amazon a", 3, "image_features_X.b, record 1: NaN or infinity in 1 of 1 items, first in item 'B000000001'",
        "correct the feature",
    ),
    "truncated gzip": (
        {"x.csv.gz": gzip.compress(LOG.encode())[:-9]}, "table x.csv.gz", 3, "x.csv.gz: not a whole gzip file",
        "download or copy it again",
    ),
    "empty file": ({"x.txt": ""}, "s3rec x.txt", 3, "x.txt: empty; lines of `user item item …` are needed", "u1 i1"),
    "empty gzip": ({"x.csv.gz": gzip.compress(b"")}, "table x.csv.gz", 3, "x.csv.gz: empty; a line with", "user,item"),
    "latin-1": ({"x.txt": b"u 1\nv \xe9\n"}, "s3rec x.txt", 3, "x.txt, line 2: byte 0xe9 after 'v ': not UTF", "iconv"),
    "pictures of nobody": (
        SEQUENCES | {"p/x.png": b"x"}, "s3rec s --images p", 3, "p: none of its 1 pictures is of one of the 2 items",
        "2.jpg",
    ),
    "ids that can not be told": (
        SEQUENCES | {"s/items.json": '{"0": {}, "1": {}, "2": {}}'}, "s3rec s", 3, "which is meant cannot be told",
        "--id-shift N",
    ),
    "nothing left": (SEQUENCES, "s3rec s --min-user-interactions 9", 3, "nothing is left", "lower --min-user"),
    "folder of the output": (SEQUENCES, "s3rec s -o no/x.h5", 3, "the folder no does not exist", "mkdir -p no"),
    "output is a folder": (SEQUENCES, "s3rec s -o s", 3, "s: is a folder", "file name"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILURES)
def test_clean_failures(case, bbqrec, tmp_path, monkeypatch):
    """File, line, what was found, what was needed, the next step; no output, no traceback, the documented status."""
    files, line, status, says, hint = FAILURES[case]
    write(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    plain = bbqrec("prepare", *line.split())
    assert (plain.status, plain.out) == (status, "")
    flat = " ".join(plain.err.split())
    assert says in flat
    assert hint in flat
    assert "Traceback" not in plain.err
    told = bbqrec("prepare", *line.split(), "--json")
    assert (told.status, told.out) == (status, "")
    error = json.loads(told.err.splitlines()[-1])
    assert says in error["message"]
    assert hint in error["hint"]
    assert not list(tmp_path.rglob("*.h5*"))


def test_from_the_shell(tmp_path):
    """Another process, as people start it."""
    write(tmp_path, {"x.txt": "u 1 2\nv\n"} | SEQUENCES)

    def shell(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "bbqrec_cli", "prepare", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    failed = shell("s3rec", "x.txt")
    assert (failed.returncode, failed.stdout) == (3, "")
    assert failed.stderr.splitlines() == [
        "error: x.txt, line 2: user 'v' has no items; `user item item …` is needed",
        "  try: one line per user: u1 i1 i2 i3",
    ]
    done = shell("s3rec", "s", "--json")
    said = "no item has a text or a picture: only what needs no features can use this file\n"
    assert (done.returncode, done.stderr) == (0, said)
    assert json.loads(done.stdout)["interactions"] == 6
    assert "dataset.h5" in os.listdir(tmp_path)


# The real sets

COMMANDS = {
    "amazon-beauty": ("s3rec amazon-beauty", 22363, 12101, 198502, {"title": 12094, "category": 12101}, 0),
    "amazon-toys": ("s3rec amazon-toys", 19412, 11924, 167597, {"title": 11865, "category": 11924}, 0),
    "amazon-clothing": ("s3rec amazon-clothing", 39387, 23033, 278677, {"title": 22948}, 0),
    "yelp": ("s3rec yelp", 30431, 20033, 316354, {"title": 20033, "description": 20033}, 0),
    "movielens-1m": (
        "table movielens-1m", 6040, 3416, 999611, {"title": 3416, "genres": 3416, "description": 2734}, 3256,
    ),
}  # fmt: skip


@pytest.mark.realdata
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("options", [(), ("--min-user-interactions", "5", "--min-item-interactions", "5")])
def test_real_sets_have_the_counts_of_their_readme(name, options, bbqrec, tmp_path, monkeypatch):
    """With the filter as well: all of them went through it already."""
    if not (REAL / name).is_dir():
        pytest.skip(f"needs {REAL / name}, the research data beside the checkout")
    line, users, items, interactions, fields, images = COMMANDS[name]
    monkeypatch.chdir(REAL)
    outcome = bbqrec("prepare", *line.split(), "-o", tmp_path / "dataset.h5", "--json", *options)
    assert outcome.status == 0, outcome.err
    said = json.loads(outcome.out)
    assert (said["users"], said["items"], said["interactions"]) == (users, items, interactions)
    assert fields.items() <= said["fields"].items()
    assert said["images"] == images
    assert ("1 is added to each" in outcome.err) == (name == "yelp")
    documented = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    row = [line.split()[0], users, items, interactions, said["average_length"], said["texts"], images]
    assert f"| `{name}` | " + " | ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in row) + " |" in documented


@pytest.mark.realdata
def test_yelps_moved_ids_are_right(tmp_path):
    """Independently: every item with attribute 1, by the sequences' own ids, is a restaurant by the moved entries."""
    if not (REAL / "yelp").is_dir():
        pytest.skip(f"needs {REAL / 'yelp'}, the research data beside the checkout")
    made = hdf5.read_dataset(
        run(PrepareConfig(source="s3rec", paths=(str(REAL / "yelp"),), output=tmp_path / "d.h5")).output
    )
    carried = json.loads((REAL / "yelp" / "item2attributes.json").read_text())
    text = dict(zip(made.catalogue.item_ids, made.texts, strict=True))
    restaurants = [item for item, attributes in carried.items() if 1 in attributes]
    assert len(restaurants) == 13747
    assert all("Restaurants" in text[item] for item in restaurants)


@pytest.mark.realdata
def test_movielens_by_hand(tmp_path):
    """Order, titles and posters against a plain reading of the files."""
    source = REAL / "movielens-1m"
    if not source.is_dir():
        pytest.skip(f"needs {source}, the research data beside the checkout")
    made = hdf5.read_dataset(run(PrepareConfig(source="table", paths=(str(source),), output=tmp_path / "d.h5")).output)
    rows: dict[str, list[tuple[int, int, str]]] = {}
    with gzip.open(source / "interactions.csv.gz", "rt") as stream:
        for number, line in enumerate(stream):
            if number:
                user, item, time = line.strip().split(",")
                rows.setdefault(user, []).append((int(time), number, item))
    assert histories(made) == {user: [item for _, _, item in sorted(of)] for user, of in rows.items()}
    entries = json.loads((source / "items.json").read_text())
    for item, title, picture in zip(made.catalogue.item_ids, made.catalogue.titles, made.images, strict=True):
        poster = source / "posters" / f"{item}.jpg"
        assert title == " ".join(entries[item]["title"].split())
        assert picture == (poster.read_bytes() if poster.exists() else b"")


def prepared(tmp_path, name: str, log: str) -> Dataset:
    (tmp_path / f"{name}.csv").write_text("user,item,timestamp\n" + log)
    run(PrepareConfig(source="table", paths=(str(tmp_path / f"{name}.csv"),), output=tmp_path / f"{name}.h5"))
    return hdf5.read_dataset(tmp_path / f"{name}.h5")


def test_the_order_of_items_does_not_know_what_is_held_out(tmp_path):
    """u0's test item decides which of the two appears first; scores that are equal are ranked by rows."""
    walks = {"u1": "pAq", "u2": "pBq", "u3": "qArB", "u4": "rBpA"}
    orders = []
    for target in "AB":
        every = {"u0": f"pqr{target}"} | walks
        lines = [f"{user},{item},{time}\n" for user, walk in every.items() for time, item in enumerate(walk)]
        orders.append(prepared(tmp_path, target, "".join(lines)).catalogue.item_ids)
        backwards = prepared(tmp_path, f"{target}-backwards", "".join(reversed(lines)))
        assert list(backwards.catalogue.item_ids) == list(orders[-1])
    assert list(orders[0]) == list(orders[1])


def test_what_says_the_order_of_items_is_an_input(bbqrec, tmp_path):
    """An exported folder's table of items, which a file of the folder is read with."""
    bbqrec("prepare", "demo", "--size", "small", "-o", tmp_path / "d.h5")
    bbqrec("export", tmp_path / "d.h5", "--to", "csv", "-o", tmp_path / "out")
    log, again = tmp_path / "out" / "interactions.csv", tmp_path / "again.h5"
    run(PrepareConfig(source="table", paths=(str(log),), output=again, options={"order": "file"}))
    assert list(hdf5.read_dataset(again).catalogue.item_ids) == list(
        hdf5.read_dataset(tmp_path / "d.h5").catalogue.item_ids
    )
    parents = [each["path"] for each in hdf5.describe(tmp_path / "again.h5")["parents"]]
    assert parents == ["interactions.csv", "items.csv", "export.json"]


@pytest.mark.parametrize(("how", "period"), [("last", {"until": "2019-12-31"}), ("first", {"since": "2019-01-01"})])
def test_a_period_is_a_log_that_ends_there(tmp_path, how, period):
    """What comes before or after it does not decide which of several interactions with an item stays."""
    lines = [f"ann,{item},{year}-05-0{day}" for year, items in {2018: "abcd", 2020: "ad"}.items()
             for day, item in enumerate(items, 1)]  # fmt: skip
    inside = [line for line in lines if ("2018" in line) == ("until" in period)]
    made = []
    for name, rows, more in (("all", lines, period), ("part", inside, {})):
        (tmp_path / f"{name}.csv").write_text("\n".join(["user,item,date", *rows]) + "\n")
        config = PrepareConfig(
            source="table", paths=(str(tmp_path / f"{name}.csv"),), output=tmp_path / f"{name}.h5",
            options={"duplicates": how}, **more,
        )  # fmt: skip
        run(config)
        made.append(histories(hdf5.read_dataset(config.output)))
    assert made[0] == made[1] == {"ann": [line.split(",")[1] for line in inside]}
