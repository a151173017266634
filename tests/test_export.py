"""export: what other programs read, and what comes back."""

from __future__ import annotations

import ast
import csv
import dataclasses
import json
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bbqrec_cli.data.sources.columns import plain_name
from bbqrec_cli.data.sources.files import as_field, as_id, field_name
from bbqrec_cli.data.splits import PAD, split_of
from bbqrec_cli.errors import DataError, OutputExistsError, UsageError
from bbqrec_cli.hdf5 import read_dataset, read_item_data, write_dataset, write_features, write_metrics, write_model
from bbqrec_cli.records import Catalogue, Dataset, Feature, Sequences
from bbqrec_cli.stages.export import ExportConfig, run
from bbqrec_cli.stages.prepare import PrepareConfig
from bbqrec_cli.stages.prepare import run as prepare

SOURCES = {"recbole": "recbole", "csv": "table", "parquet": "table"}


def needs(to: str) -> None:
    if to == "parquet":
        pytest.importorskip("pyarrow")


def export(file: Path, to: str, output: Path, **options):
    return run(ExportConfig(file=file, to=to, output=output, **options))


def again(said: str, output: Path) -> Dataset:
    """The dataset that the command `said` makes."""
    words = said.split()
    assert words[:2] == ["bbqrec", "prepare"]
    options = {"--order": "order", "--time-unit": "time_unit", "--split-column": "split_column"}
    options |= {"--text-embeddings": "text_embeddings", "--image-embeddings": "image_embeddings"}
    given_options: dict = {options[flag]: words[words.index(flag) + 1] for flag in options if flag in words}
    given_options = {name: Path(each) if "embeddings" in name else each for name, each in given_options.items()}
    fields = (words[words.index("--text-fields") + 1],) if "--text-fields" in words else ()
    prepare(
        PrepareConfig(source=words[2], paths=(words[3],), output=output, text_fields=fields, options=given_options)
    )  # fmt: skip
    return read_dataset(output)


def same(one: Dataset, other: Dataset) -> None:
    a, b = one.catalogue, other.catalogue
    assert list(a.user_ids) == list(b.user_ids)
    assert list(a.item_ids) == list(b.item_ids)
    assert np.array_equal(a.sequences.indptr, b.sequences.indptr)
    assert np.array_equal(a.sequences.items, b.sequences.items)
    assert (a.sequences.timestamps is None) == (b.sequences.timestamps is None)
    if a.sequences.timestamps is not None:
        assert np.array_equal(a.sequences.timestamps, b.sequences.timestamps)
    assert a.titles == b.titles
    assert a.attributes == b.attributes
    assert list(one.texts) == list(other.texts)


@pytest.mark.parametrize("to", SOURCES)
def test_what_is_exported_comes_back(files, tmp_path, to):
    needs(to)
    result = export(files["dataset"], to, tmp_path / "made")
    assert result.read_back.split()[2] == SOURCES[to]
    same(read_dataset(files["dataset"]), again(result.read_back, tmp_path / "again.h5"))


ALPHABET = "abAB09 \"',;|:\t\\#é漢<{-._=/\N{ZERO WIDTH SPACE}\N{NO-BREAK SPACE}"
TEXTS = st.text(ALPHABET, max_size=8) | st.sampled_from(
    ["NA", "null", "nan", "None", "[PAD]", "1e5", "007", '"', "a b"]
)
IDS = TEXTS.map(as_id).filter(bool)
NAMES = TEXTS.map(field_name).filter(lambda name: name.strip() and name not in ("id", "title", "text", "image"))


@st.composite
def datasets(draw) -> Dataset:
    """Any ids, fields and texts that a dataset file may hold, some with times, every item with an interaction."""
    items = draw(st.lists(IDS, min_size=1, max_size=6, unique=True))
    users = draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
    rows = [draw(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=6)) for _ in users]
    rows[-1] += sorted(set(range(len(items))) - {item for row in rows for item in row})
    times = None
    if draw(st.booleans()):
        times = [sorted(draw(st.lists(st.integers(0, 2**40), min_size=len(r), max_size=len(r)))) for r in rows]

    def column():
        return [as_field(draw(TEXTS)) for _ in items]

    plain = NAMES.filter(lambda name: name not in ("description", "image", "picture", "image_path", "poster"))
    names = draw(st.lists(plain, max_size=3, unique=True))
    columns = {name: column() for name in names}
    texts = [" ".join(text.replace("|", ", ").split()) for text in column()]
    texts[0] = texts[0] or "text"  # where there are titles, prepare makes texts
    catalogue = Catalogue(
        user_ids=users, item_ids=items, titles=column(), sequences=Sequences.from_lists(rows, times),
        attributes={name: values for name, values in columns.items() if any(values)},
    )  # fmt: skip
    return Dataset(catalogue=catalogue, texts=texts, images=[b""] * len(items))


def round_trip(to: str, data: Dataset) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_dataset(folder / "a.h5", data, config={})
        odd = [name for name in data.catalogue.attributes if plain_name(name) != name]
        if to == "csv" and odd:
            with pytest.raises(DataError, match="CSV cannot carry the field"):
                export(folder / "a.h5", to, folder / "made")
            assert not (folder / "made").exists()
        else:
            result = export(folder / "a.h5", to, folder / "made")
            same(data, again(result.read_back, folder / "b.h5"))


@pytest.mark.parametrize("to", SOURCES)
@settings(max_examples=8, deadline=None)
@given(data=datasets())
def test_any_ids_and_fields_come_back(to, data):
    needs(to)
    round_trip(to, data)


@pytest.mark.parametrize("to", SOURCES)
def test_a_bar_in_a_title_is_no_list(to, dataset):
    """Even where every title has one."""
    needs(to)
    titles = [f"A|{row}" for row in range(len(dataset.catalogue.item_ids))]
    catalogue = dataclasses.replace(dataset.catalogue, titles=titles, attributes={})
    round_trip(to, dataclasses.replace(dataset, catalogue=catalogue))


@pytest.mark.slow
@pytest.mark.parametrize("to", SOURCES)
@settings(max_examples=60, deadline=None)
@given(data=datasets())
def test_many_ids_and_fields_come_back(to, data):
    needs(to)
    round_trip(to, data)


def pairs(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream, delimiter="\t"))[1:]


def test_recboles_split_is_ours(files, tmp_path):
    export(files["dataset"], "recbole", tmp_path / "toy", history=3)
    catalogue = read_dataset(files["dataset"]).catalogue
    split = split_of(catalogue.sequences, history=3)
    for part, held in (("valid", split.validation), ("test", split.test)):
        wanted = [
            [catalogue.user_ids[u], " ".join(catalogue.item_ids[i] for i in h if i != PAD), catalogue.item_ids[t]]
            for u, h, t in zip(held.users, held.read(), held.targets, strict=True)
        ]
        assert pairs(tmp_path / "toy" / f"toy.{part}.inter") == wanted
    # u0 walks 0 1 2 3 0 1; 0 and 1 at the end are held out.
    assert pairs(tmp_path / "toy" / "toy.train.inter")[:3] == [
        ["u0", "i0", "i1"], ["u0", "i0 i1", "i2"], ["u0", "i0 i1 i2", "i3"],
    ]  # fmt: skip
    text = (tmp_path / "toy" / "toy.yaml").read_text()
    assert "benchmark_filename: [train, valid, test]" in text
    assert "MAX_ITEM_LIST_LENGTH: 3\n" in text
    assert "mode: full" in text


def test_the_split_alone_comes_back(files, tmp_path):
    export(files["dataset"], "recbole", tmp_path / "toy")
    (tmp_path / "toy" / "toy.inter").unlink()
    made = again(f"bbqrec prepare recbole {tmp_path / 'toy'}", tmp_path / "again.h5").catalogue
    wanted = read_dataset(files["dataset"]).catalogue
    assert list(made.user_ids) == list(wanted.user_ids)
    assert np.array_equal(made.sequences.items, wanted.sequences.items)


def test_features_stand_in_recboles_items(files, tmp_path):
    result = export(files["features"], "recbole", tmp_path / "toy", what="interactions")
    made = again(result.read_back, tmp_path / "again.h5")
    _, data = read_item_data(files["features"])
    for name, feature in data.features.items():
        assert np.array_equal(made.features[name].values, feature.values)
        assert np.array_equal(made.features[name].present, feature.present)


def test_recboles_lists_have_spaces_between(tmp_path, dataset):
    fields = {"tags": ["a|b", "a", *[""] * 10], "kinds": ["a b|c", *["d"] * 11]}
    catalogue = dataclasses.replace(dataset.catalogue, attributes=fields)
    write_dataset(tmp_path / "a.h5", dataclasses.replace(dataset, catalogue=catalogue), config={})
    export(tmp_path / "a.h5", "recbole", tmp_path / "toy")
    head, first = (tmp_path / "toy" / "toy.item").read_text().splitlines()[:2]
    assert head == "item_id:token\ttitle:token\tkinds:token\ttags:token_seq\ttext:token"
    assert first.split("\t") == ["i0", "apple", "a b|c", "a b", "apple, one of the fruit"]


def test_letters_trainers_find_what_they_read(files, tmp_path, codes):
    result = export(files["tokens"], "letter", tmp_path / "Toy")
    folder, catalogue = tmp_path / "Toy", read_dataset(files["dataset"]).catalogue
    inter, index, item = (json.loads((folder / f"Toy.{n}.json").read_text()) for n in ("inter", "index", "item"))
    assert list(inter) == [str(user) for user in range(30)]
    assert inter["1"] == catalogue.sequences[1].tolist()
    # Level by level, the two signals side by side.
    assert index["5"] == ["<a_1>", "<b_1>", "<c_1>", "<d_1>"]
    assert item["5"] == {"title": "pliers", "description": "", "brand": "", "categories": "", "group": "tools"}
    assert (folder / "Toy.item2id").read_text().splitlines()[5] == "i5\t5"
    assert result.read_back == f"bbqrec prepare letter {folder}"
    made = again(result.read_back, tmp_path / "again.h5").catalogue
    assert [[made.item_ids[i] for i in row] for row in made.sequences] == [
        [str(i) for i in row] for row in catalogue.sequences
    ]


def test_letter_says_which_of_its_files_are_meant(tmp_path, dataset):
    """Texts come back as they were, and of several features beside the text the pictures'."""
    fields = {"category": ["a|b", "a, b", *[""] * 10], "genres": ["g"] * 12}
    catalogue = dataclasses.replace(dataset.catalogue, attributes=fields)
    vectors = {name: np.eye(12, dtype=np.float32) * size for size, name in enumerate(("text", "audio", "image"), 1)}
    features = {name: Feature(values=each, present=np.ones(12, bool)) for name, each in vectors.items()}
    write_dataset(
        tmp_path / "a.h5", dataclasses.replace(dataset, catalogue=catalogue, features=features), config={}
    )  # fmt: skip
    result = export(tmp_path / "a.h5", "letter", tmp_path / "Toy")
    first, second = list(json.loads((tmp_path / "Toy/Toy.item.json").read_text()).values())[:2]
    assert first == {
        "title": "apple",
        "description": "apple, one of the fruit",
        "brand": "",
        "categories": "a,b",
        "genres": "g",
    }
    assert second["categories"] == "a, b"
    assert result.read_back.split("Toy", 1)[1].split() == [
        "--text-fields", "description", "--image-embeddings", f"{tmp_path}/Toy/Toy.emb-bbqrec-image.npy"
    ]  # fmt: skip
    made = again(result.read_back, tmp_path / "again.h5")
    rows = np.argsort([int(item) for item in made.catalogue.item_ids])  # LETTER's ids are the exported rows
    assert [made.texts[row] for row in rows] == list(dataset.texts)
    assert [made.catalogue.titles[row] for row in rows] == list(dataset.catalogue.titles)
    own = {name: [values[row] for row in rows] for name, values in made.catalogue.attributes.items()}
    assert own == {"categories": ["a,b", "a, b", *[""] * 10], "genres": ["g"] * 12}
    assert np.array_equal(made.features["image"].values[rows], vectors["image"])
    assert np.array_equal(made.features["text"].values[rows], vectors["text"])


def test_letter_has_one_file_for_texts(tmp_path, dataset):
    features = {
        name: Feature(values=np.eye(12, dtype=np.float32), present=np.ones(12, bool)) for name in ("text", "td")
    }
    write_dataset(tmp_path / "a.h5", dataclasses.replace(dataset, features=features), config={})
    with pytest.raises(DataError, match="the features text and td would have one file"):
        export(tmp_path / "a.h5", "letter", tmp_path / "Toy")
    assert not (tmp_path / "Toy").exists()


def test_letter_leaves_out_users_without_two_held_out_items(tmp_path, dataset):
    sequences = Sequences.from_lists([[0, 1], [2, 3, 4], *[list(range(12))] * 28])
    catalogue = dataclasses.replace(dataset.catalogue, sequences=sequences)
    features = {"text": Feature(values=np.eye(12, dtype=np.float32), present=np.ones(12, bool))}
    data = dataclasses.replace(dataset, catalogue=catalogue, features=features)
    write_dataset(tmp_path / "a.h5", data, config={})
    result = export(tmp_path / "a.h5", "letter", tmp_path / "Toy")
    assert result.left_out == 1
    assert result.rows == {"users": 29, "items": 12, "interactions": 3 + 28 * 12}
    assert json.loads((tmp_path / "Toy/Toy.inter.json").read_text())["0"] == [2, 3, 4]
    assert (tmp_path / "Toy/Toy.user2id").read_text().startswith("u1\t0\nu2\t1\n")
    assert np.array_equal(np.load(tmp_path / "Toy/Toy.emb-bbqrec-td.npy"), features["text"].values)
    assert "Toy.index.json" not in result.files


def test_minionerecs_tables(files, tmp_path):
    export(files["tokens"], "minionerec", tmp_path / "Toy", history=2)
    folder = tmp_path / "Toy"
    with open(folder / "test" / "Toy.csv", encoding="utf-8", newline="") as stream:
        row = next(csv.DictReader(stream))
    # u0 walks apple banana cherry date apple banana.
    assert (row["user_id"], row["item_id"], row["item_title"]) == ("u0", "1", "banana")
    assert ast.literal_eval(row["history_item_id"]) == [3, 0]
    assert ast.literal_eval(row["history_item_title"]) == ["date", "apple"]
    assert ast.literal_eval(row["history_item_sid"]) == ["<a_0><b_0><c_3><d_3>", "<a_0><b_0><c_0><d_0>"]
    assert row["item_sid"] == "<a_0><b_0><c_1><d_1>"
    assert (folder / "info" / "Toy.txt").read_text().splitlines()[5] == "<a_1><b_1><c_1><d_1>\tpliers\t5"
    assert json.loads((folder / "index" / "Toy.index.json").read_text())["1"] == ["<a_0>", "<b_0>", "<c_1>", "<d_1>"]
    with pytest.raises(UsageError, match="has no semantic IDs"):
        export(files["dataset"], "minionerec", tmp_path / "Other")


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_recommendations_of_all_users(files, tmp_path, bbqrec):
    result = export(files["model"], "csv", tmp_path / "r.csv", top=3, batch_size=7)
    rows = table(tmp_path / "r.csv")
    assert result.rows == {"recommendations": 90}
    assert [row["rank"] for row in rows[:4]] == ["1", "2", "3", "1"]
    said = json.loads(bbqrec("recommend", files["model"], "--user", "u29", "--top", "3", "--json").out)
    assert [(row["item"], row["title"], float(row["score"])) for row in rows if row["user"] == "u29"] == [
        (item["id"], item["title"], item["score"]) for item in said["items"]
    ]


def test_users_who_saw_everything_have_no_rows(files, tmp_path, trained_model):
    sequences = Sequences.from_lists([list(range(12)), [0, 1]] + [[]] * 28)
    catalogue = dataclasses.replace(trained_model.catalogue, sequences=sequences)
    write_model(tmp_path / "m.h5", dataclasses.replace(trained_model, catalogue=catalogue), config={})
    for batch_size in (1, 2):
        export(tmp_path / "m.h5", "csv", tmp_path / f"{batch_size}.csv", batch_size=batch_size)
        rows = table(tmp_path / f"{batch_size}.csv")
        assert {row["user"] for row in rows} == {"u1"}
        assert not {row["item"] for row in rows} & {"i0", "i1"}


def test_recommendations_of_some_items_to_all_users(files, tmp_path, bbqrec):
    """As `recommend` makes them; that users have fewer than asked for, or none, is said."""
    (tmp_path / "gone.txt").write_text("i0\ni1\n")
    wanted = ("--filter", "group=fruit", "--deny", tmp_path / "gone.txt", "--top", 2)
    said = bbqrec("export", files["model"], "--to", "csv", "-o", tmp_path / "r.csv", *wanted)
    assert said.status == 0, said.err
    rows, told = table(tmp_path / "r.csv"), bbqrec("recommend", files["model"], "--users", 30, *wanted, "--json").out
    each = [json.loads(line) for line in told.splitlines()]
    items = [(one["user"], item["id"]) for one in each for item in one["items"]]
    assert [(row["user"], row["item"]) for row in rows] == items
    lacking, none = sum(len(one["items"]) < 2 for one in each), sum(not one["items"] for one in each)
    assert lacking >= none > 0
    assert f"{lacking} of 30 users have fewer than 2 items left (--top), {none} of them none, who have" in said.err


def test_recommendations_with_an_extended_tokens_file_and_with_a_second_model(files, tmp_path):
    """Both reach the session, which refuses the two together."""
    with pytest.raises(UsageError, match="--tokens and --unite exclude each other"):
        export(files["model"], "csv", tmp_path / "r.csv", tokens=files["tokens"], unite=(files["model"],))


def test_results_of_users(files, tmp_path, metrics):
    export(files["metrics"], "csv", tmp_path / "m.csv")
    rows = table(tmp_path / "m.csv")
    assert [int(row["rank"]) for row in rows] == metrics.ranks.tolist()
    assert [np.float32(row["ndcg@10"]) for row in rows] == metrics.ndcg[10].tolist()
    assert "target" not in rows[0], "the file has none"


def test_results_of_users_with_several_targets(tmp_path, metrics):
    targets, ranks = [f"i{row % 12}" for row in range(30)], np.where(np.arange(30) % 3, 4, 0)
    several = dataclasses.replace(metrics, user_ids=[f"u{row // 2}" for row in range(30)], targets=targets, ranks=ranks)
    write_metrics(tmp_path / "m.h5", several, config={})
    export(tmp_path / "m.h5", "csv", tmp_path / "m.csv")
    rows = table(tmp_path / "m.csv")
    assert list(rows[0])[:3] == ["user", "target", "rank"]
    assert [(row["user"], row["target"], row["rank"]) for row in rows[:3]] == [
        ("u0", "i0", ""), ("u0", "i1", "4"), ("u1", "i2", "4"),
    ]  # fmt: skip
    needs("parquet")
    export(tmp_path / "m.h5", "parquet", tmp_path / "m.parquet")
    found = import_module("pyarrow.parquet").read_table(tmp_path / "m.parquet").to_pydict()
    assert found["target"] == targets
    assert found["rank"] == [int(rank) or None for rank in ranks]


def test_ids_and_vectors_as_arrays(files, tmp_path, codes, features):
    export(files["tokens"], "npz", tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz", allow_pickle=False) as found:
        assert found["ids"].tolist() == [f"i{item}" for item in range(12)]
        assert np.array_equal(found["codes"], codes.codes)
        assert np.array_equal(found["codebooks"], codes.codebooks)
        assert found["modalities"].tolist() == ["id", "text"]
    export(files["features"], "safetensors", tmp_path / "f.safetensors")
    from safetensors import safe_open

    with safe_open(tmp_path / "f.safetensors", "np") as opened:
        assert json.loads(opened.metadata()["ids"]) == [f"i{item}" for item in range(12)]
        assert np.array_equal(opened.get_tensor("image"), features.features["image"].values)
        assert opened.get_tensor("image_present").tolist() == [item != 5 for item in range(12)]


def test_features_of_any_name_as_arrays(files, tmp_path, features):
    """NumPy's function for such files has arguments called file and allow_pickle."""
    one = features.features["text"]
    for name in ("file", "allow_pickle", "a b"):
        path = tmp_path / "f.h5"
        write_features(path, dataclasses.replace(features, features={name: one}), force=True)
        export(path, "npz", tmp_path / "f.npz", force=True)
        with np.load(tmp_path / "f.npz", allow_pickle=False) as found:
            assert sorted(found.files) == sorted(["encoders", "ids", name, f"{name}_present"])
            assert np.array_equal(found[name], one.values)
            assert found["encoders"].tolist() == [one.encoder]
    for names, to, said in (
        (["ids"], "npz", r"\.npz cannot carry the feature 'ids'"),
        (["encoders"], "npz", "cannot carry the feature 'encoders'"),
        (["a", "a_present"], "safetensors", "'a_present': the one of that name says which items have 'a'"),
    ):
        write_features(path, dataclasses.replace(features, features=dict.fromkeys(names, one)), force=True)
        with pytest.raises(DataError, match=said):
            export(path, to, tmp_path / "other")
    write_features(path, dataclasses.replace(features, features={"ids": one}), force=True)
    export(path, "safetensors", tmp_path / "f.safetensors")


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from bbqrec_cli.errors import DiskFullError
from bbqrec_cli.formats import output, tables
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for write in (tables.write_npz, tables.write_safetensors):
    try:
        with output.whole_file(Path(sys.argv[1]), force=False, inputs=[]) as path:
            write(path, {"x": np.zeros(50_000)}, ["i"], {})
    except DiskFullError as error:
        print(error)
"""


def test_arrays_on_a_full_disk(tmp_path):
    """A limit on the file's size stands for it."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "x"], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the disk is full; nothing was written") == 2
    assert not list(tmp_path.iterdir())


def test_ids_and_vectors_as_tables(files, tmp_path, features):
    export(files["tokens"], "csv", tmp_path / "ids.csv")
    assert table(tmp_path / "ids.csv")[5] == {
        "item": "i5", "title": "pliers", "id_1": "1", "text_1": "1", "id_2": "1", "text_2": "1"
    }  # fmt: skip
    result = export(files["features"], "csv", tmp_path / "f")
    assert set(result.files) == {"export.json", "image.csv", "text.csv"}
    rows = table(tmp_path / "f" / "image.csv")
    assert [row["item"] for row in rows] == [f"i{item}" for item in range(12) if item != 5]
    found = np.array([[np.float32(row[f"vector_{n}"]) for n in range(1, 9)] for row in rows])
    assert np.array_equal(found, np.delete(features.features["image"].values, 5, axis=0))
    pq = pytest.importorskip("pyarrow.parquet")
    export(files["features"], "parquet", tmp_path / "p")
    read = pq.read_table(tmp_path / "p" / "image.parquet").to_pydict()
    assert np.array_equal(np.array(read["vector"], np.float32), found)


def test_published_ids_come_back(files, tmp_path, codes):
    """An index with one signal is what `tokenize --method published` reads."""
    from bbqrec_cli.formats.semantic_id_json import index_tokens, load_index

    single = codes.codes[:, :, :1]
    path = tmp_path / "x.index.json"
    path.write_text(json.dumps({str(row): tokens for row, tokens in enumerate(index_tokens(single))}))
    assert np.array_equal(load_index(path).codes, single)
    assert index_tokens(np.arange(28, dtype=np.uint16)[None, :, None])[0][25:] == ["<z_25>", "<aa_26>", "<ab_27>"]


@pytest.mark.parametrize(
    ("kind", "to", "options", "said"),
    [
        ("dataset", "npz", {}, "carries features, ids, not interactions"),
        ("metrics", "csv", {"what": "ids"}, "a metrics file has no ids"),
        ("metrics", "recbole", {}, "--to recbole carries nothing of a metrics file"),
        ("checkpoint", "csv", {}, "a checkpoint file; export takes dataset, features, tokens, model, metrics files"),
        ("dataset", "csv", {"top": 5}, "--top has no effect on interactions as csv"),
        ("tokens", "csv", {"history": 5}, "--history has no effect"),
    ],
)
def test_what_a_file_or_format_has_not(files, tmp_path, kind, to, options, said):
    with pytest.raises(UsageError, match=said):
        export(files[kind], to, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_features_that_are_not_there(files, tmp_path):
    with pytest.raises(DataError, match="has no features"):
        export(files["dataset"], "npz", tmp_path / "f.npz", what="features")
    with pytest.raises(DataError, match="has no features") as caught:
        export(files["model"], "npz", tmp_path / "f.npz", what="features")
    assert caught.value.hint == "its features file, or --what interactions"
    assert not list(tmp_path.iterdir())


def test_names_that_cannot_be_an_output(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, said in (
        (".", "has no name of its own"),
        ("a.test", "RecBole ends the names"),
        ("no/a", "does not exist"),
    ):
        with pytest.raises(DataError, match=said):
            export(files["dataset"], "recbole", Path(name))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is not a folder"):
        export(files["dataset"], "recbole", Path("file"), force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_but_sequences(tmp_path):
    """No titles, no texts, no times."""
    (tmp_path / "s.txt").write_text("u b a b\nv a\n")
    prepare(PrepareConfig(source="s3rec", paths=(str(tmp_path / "s.txt"),), output=tmp_path / "a.h5"))
    for to in ("recbole", "csv"):
        result = export(tmp_path / "a.h5", to, tmp_path / to)
        same(read_dataset(tmp_path / "a.h5"), again(result.read_back, tmp_path / f"{to}.h5"))


def test_csv_refuses_names_that_would_change(tmp_path, dataset):
    for name in ("a:token", "poster"):
        catalogue = dataclasses.replace(dataset.catalogue, attributes={name: ["x"] * 12})
        write_dataset(tmp_path / "a.h5", dataclasses.replace(dataset, catalogue=catalogue), config={}, force=True)
        with pytest.raises(DataError, match=f"CSV cannot carry the field '{name}'"):
            export(tmp_path / "a.h5", "csv", tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_parquet_keeps_fields_that_name_pictures(tmp_path, dataset):
    needs("parquet")
    catalogue = dataclasses.replace(dataset.catalogue, attributes={"poster": ["x"] * 12})
    write_dataset(tmp_path / "a.h5", dataclasses.replace(dataset, catalogue=catalogue), config={})
    result = export(tmp_path / "a.h5", "parquet", tmp_path / "out")
    assert again(result.read_back, tmp_path / "b.h5").catalogue.attributes == {"poster": ["x"] * 12}


def test_an_output_is_replaced_whole_and_only_if_it_is_ours(files, tmp_path):
    out = tmp_path / "out"
    export(files["dataset"], "recbole", out)
    with pytest.raises(OutputExistsError, match="exists already"):
        export(files["dataset"], "csv", out)
    export(files["dataset"], "csv", out, force=True)
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "interactions.csv", "items.csv"]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"holds files that no export wrote, such as notes\.txt"):
        export(files["dataset"], "csv", out, force=True)
    assert (out / "notes.txt").read_text() == "mine"
    for path in out.iterdir():
        path.unlink()
    for record in ("mine", '{"files": [], "format": "another program"}'):
        (out / "export.json").write_text(record)
        with pytest.raises(OutputExistsError, match="holds files that no export wrote"):
            export(files["dataset"], "csv", out, force=True)
        assert (out / "export.json").read_text() == record
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_fails_leaves_the_old_output(files, tmp_path, monkeypatch):
    export(files["dataset"], "csv", tmp_path / "out")
    before = (tmp_path / "out" / "items.csv").read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bbqrec_cli.formats.tables.write_csv", full)
    with pytest.raises(Exception, match="disk is full"):
        export(files["dataset"], "csv", tmp_path / "out", force=True)
    assert (tmp_path / "out" / "items.csv").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_command_line(files, tmp_path, bbqrec, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = bbqrec("export", files["dataset"], "--to", "csv")
    assert done.status == 0
    assert "dataset-csv: interactions for csv" in done.out
    assert "to read it again: bbqrec prepare table dataset-csv --time-unit s --text-fields text" in done.err
    assert bbqrec("export", files["tokens"], "--to", "npz", "--quiet").err == ""
    assert (tmp_path / "tokens-ids.npz").is_file()
    assert bbqrec("export", files["dataset"], "--to", "word").status == 2
    assert bbqrec("export", files["dataset"]).status == 2


def test_a_split_goes_along(tmp_path):
    """By time: u1's a, b train; c validation; u2's d, e test. CSV has the parts, RecBole and MiniOneRec the targets."""
    log = tmp_path / "log.csv"
    rows = [f"u{n % 2 + 1},{item},{n}" for n, item in enumerate("aabbccddee")]
    log.write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    prepare(
        PrepareConfig(
            source="table", paths=(str(log),), output=tmp_path / "d.h5", split="time", quantiles=(0.5, 0.75),
            options={"time_unit": "s"},
        )
    )  # fmt: skip
    found = read_dataset(tmp_path / "d.h5")
    assert found.catalogue.sequences.parts is not None
    for to in ("csv", "parquet"):
        needs(to)
        result = export(tmp_path / "d.h5", to, tmp_path / to)
        assert result.read_back.endswith("--split-column part")
        back = again(result.read_back, tmp_path / f"{to}.h5")
        same(found, back)
        assert np.array_equal(found.catalogue.sequences.parts, back.catalogue.sequences.parts)
    export(tmp_path / "d.h5", "recbole", tmp_path / "r")
    split = split_of(found.catalogue.sequences)
    for part, held in (("valid", split.validation), ("test", split.test)):
        ids = found.catalogue.item_ids
        targets = zip(held.read(), held.targets, strict=True)
        wanted = [[" ".join(ids[i] for i in history if i != PAD), ids[target]] for history, target in targets]
        assert [row[1:] for row in pairs(tmp_path / "r" / f"r.{part}.inter")] == wanted
        assert wanted
    assert f"(split {found.catalogue.splitting})" in (tmp_path / "r" / "r.yaml").read_text()
    with pytest.raises(UsageError, match="hold out each user's last two items"):
        export(tmp_path / "d.h5", "letter", tmp_path / "l")
