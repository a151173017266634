from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from functools import partial

import numpy as np
import pytest
from sources import histories, read_source

from bbqrec_cli.errors import BrokenFileError, DataError, MissingFileError, UsageError

read = partial(read_source, "huggingface")

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

LOG = {"user_id": ["u", "v", "u"], "item_id": [7, 8, 9], "timestamp": [978300055, 978300000, 978300019]}
ITEMS = {
    "item_id": [9, 7, 8], "title": ["nine", "seven", None], "tags": [["a", "b"], [], None],
    "vector": [[0.5, 1.0], [2.0, 3.0], None], "cover": [{"bytes": b"p", "path": None}, None, None],
}  # fmt: skip


def save_to_disk(folder, columns, files: int = 1) -> None:
    """What `datasets.Dataset.save_to_disk` writes: Arrow streams, and a state.json that names them."""
    folder.mkdir(parents=True)
    table, names = pa.table(columns), []
    for number in range(files):
        names.append({"filename": f"data-{number:05}-of-{files:05}.arrow"})
        part = table.slice(number * len(table) // files, len(table) // files)
        with pa.OSFile(str(folder / names[-1]["filename"]), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
            out.write_table(part)
    (folder / "state.json").write_text(json.dumps({"_data_files": names, "_split": "train"}))
    (folder / "dataset_info.json").write_text("{}")


def save_dict(folder, splits) -> None:
    for name, columns in splits.items():
        save_to_disk(folder / name, columns)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


def test_a_saved_data_set(tmp_path, listener):
    save_to_disk(tmp_path / "d", LOG, files=3)
    made, _ = read(tmp_path / "d", listener)
    assert histories(made) == {"u": ["9", "7"], "v": ["8"]}
    assert made.timestamps.tolist() == [978300019, 978300055, 978300000]


def test_splits_and_items(tmp_path, listener):
    held = {"user_id": ["u"], "item_id": [8], "timestamp": [978300060]}
    save_dict(tmp_path / "d", {"test": held, "train": LOG, "items": ITEMS})
    made, items = read(tmp_path / "d", listener)
    assert histories(made) == {"u": ["9", "7", "8"], "v": ["8"]}
    assert items.fields == {"title": ["nine", "seven", ""], "tags": ["a|b", "", ""]}
    assert items.features["vector"].values.tolist() == [[0.5, 1], [2, 3], [0, 0]]
    assert items.features["vector"].present.tolist() == [True, True, False]
    assert items.images == [b"p", b"", b""]
    assert any("train, test are joined" in said for said in listener.logged)


def test_a_row_per_user(tmp_path, listener):
    rows = {"user": ["u", "v"], "item_list": [["a", "b"], ["b"]], "timestamps": [[2, 1], [5]]}
    pq.write_table(pa.table(rows), tmp_path / "train-00000-of-00001.parquet")
    assert histories(read(tmp_path, listener, order="file")[0]) == {"u": ["a", "b"], "v": ["b"]}
    for options in ({}, {"time_column": "timestamps"}):
        made, _ = read(tmp_path, listener, **options)
        assert histories(made) == {"u": ["b", "a"], "v": ["b"]}


def test_times_of_a_type_for_times(tmp_path, listener):
    stamps = [dt.datetime(2014, 7, 1, second=s, tzinfo=dt.timezone.utc) for s in (2, 0, 1)]
    pq.write_table(pa.table(LOG | {"timestamp": stamps}), tmp_path / "log.parquet")
    made, _ = read(tmp_path / "log.parquet", listener)
    assert made.timestamps.tolist() == [1404172801, 1404172802, 1404172800]
    for texts in (["1404172802", "1404172800", "1404172801"], ["1404172802000", "1404172800000", "1404172801000"]):
        pq.write_table(pa.table(LOG | {"timestamp": texts}), tmp_path / "log.parquet")
        numbers, _ = read(tmp_path, listener)
        assert numbers.timestamps.tolist() == made.timestamps.tolist(), "numbers that are stored as texts"
    pq.write_table(pa.table(LOG | {"timestamp": ["2014-07-01", "2014-07-03", "2014-06-30"]}), tmp_path / "log.parquet")
    assert histories(read(tmp_path / "log.parquet", listener)[0]) == {"u": ["9", "7"], "v": ["8"]}


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (None, "has no times"),
        ([dt.datetime(2014, 7, 1)], "has times as timestamps"),
        (["2014-07-01"], "has times as texts"),
    ],
)
def test_splits_store_times_alike(tmp_path, listener, times, said):
    pq.write_table(pa.table(LOG), tmp_path / "train.parquet")
    held = {"user_id": ["u"], "item_id": [8]} | ({} if times is None else {"timestamp": times})
    pq.write_table(pa.table(held), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=rf"test\.parquet {said}, but .*train\.parquet has times as numbers") as caught:
        read(tmp_path, listener)
    assert "--order file" in caught.value.hint
    assert histories(read(tmp_path, listener, order="file")[0]) == {"u": ["7", "9", "8"], "v": ["8"]}


def test_ids_stored_as_floats_are_integers(tmp_path, listener):
    pq.write_table(pa.table(LOG | {"user_id": [1.0, 2.0, 1.0], "item_id": [7.0, 8.0, 9.0]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"item_id": [7.0, 9.0], "title": ["seven", "nine"]}), tmp_path / "items.parquet")
    made, items = read(tmp_path, listener)
    assert histories(made) == {"1": ["9", "7"], "2": ["8"]}
    assert items.fields == {"title": ["nine", "seven", ""]}
    assert "train.parquet: item_id holds floats; an id such as 12.0 is read as 12" in listener.logged
    pq.write_table(pa.table({"user": ["u"], "items": [[7.0, 8.0]]}), tmp_path / "train.parquet")
    assert histories(read(tmp_path / "train.parquet", listener)[0]) == {"u": ["7", "8"]}


def test_ids_stored_as_decimals_are_integers(tmp_path, listener):
    pq.write_table(pa.table({"user": ["u"], "item": [Decimal("12.00")]}), tmp_path / "log.parquet")
    few = pa.array([4.1], pa.float32())
    pq.write_table(pa.table({"item": [Decimal("12.00")], "stars": few}), tmp_path / "items.parquet")
    made, items = read(tmp_path, listener)
    assert histories(made) == {"u": ["12"]}
    assert items.fields == {"stars": ["4.1"]}


def test_ids_stored_as_bytes_are_texts(tmp_path, listener):
    ids = {"user_id": [b"u", "é".encode(), b"u"], "item_id": [b"7", b"8", b"9"]}
    pq.write_table(pa.table(LOG | ids), tmp_path / "train.parquet")
    pq.write_table(pa.table({"item_id": [b"7", b"9"], "title": ["seven", "nine"]}), tmp_path / "items.parquet")
    made, items = read(tmp_path, listener)
    assert histories(made) == {"u": ["9", "7"], "é": ["8"]}
    assert items.fields == {"title": ["nine", "seven", ""]}
    pq.write_table(pa.table({"user": [b"u"], "items": [[b"7", b"8"]]}), tmp_path / "train.parquet")
    assert histories(read(tmp_path / "train.parquet", listener)[0]) == {"u": ["7", "8"]}
    pq.write_table(pa.table(LOG | {"item_id": [b"7", b"\xff", b"9"]}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet, row 2: the id b'\\xff' is not UTF-8"):
        read(tmp_path, listener)


def test_ratings(tmp_path, listener):
    pq.write_table(pa.table(LOG | {"rating": [1.0, 5.0, 4.0]}), tmp_path / "log.parquet")
    made = read(tmp_path, listener, min_rating=4)[0]
    assert histories(made) == {"v": ["8"], "u": ["9"]}
    assert made.left_out == {"ratings": 1}
    pq.write_table(pa.table(LOG | {"rating": pa.array([4.0, 4.1, None], pa.float32())}), tmp_path / "log.parquet")
    with pytest.raises(DataError, match="row 3: the rating is None"):
        read(tmp_path, listener, min_rating=4)
    pq.write_table(pa.table(LOG | {"rating": pa.array([4.0, 4.1, 4.2], pa.float32())}), tmp_path / "log.parquet")
    assert histories(read(tmp_path, listener, min_rating=4.1)[0]) == {"v": ["8"], "u": ["9"]}
    exact = [Decimal("3.9"), Decimal("5.0"), Decimal("4.0")]
    pq.write_table(pa.table(LOG | {"rating": exact}), tmp_path / "log.parquet")
    assert histories(read(tmp_path, listener, min_rating=4)[0]) == {"v": ["8"], "u": ["9"]}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"user": ["u", None], "item": ["a", "b"]}, "row 2: a user, item or time is missing"),
        ({"user": ["u"], "item": ["a"], "timestamp": [-1]}, "the time is -1; 1970 or later"),
        ({"user": ["u"], "item": [1.5]}, "row 1: the id is 1.5; an id is a text or a whole number"),
        ({"user": [True], "item": ["a"]}, "row 1: the id is True"),
        ({"user": ["u"], "item": [Decimal("12.50")]}, r"row 1: the id is Decimal\('12.50'\)"),
        ({"user": ["u"], "thing": ["a"]}, "no column for item among user, thing"),
        ({"user": ["u"], "history": [["a", "b"]], "target": ["c"]}, "history and target look like a history and its"),
        ({"user": ["u"], "items": [["a", "b"]], "timestamp": [[1]]}, "2 items, but 1 times"),
        ({"user": ["u"], "items": [["a", "b"]], "timestamp": [1]}, "only one of items and timestamp holds lists"),
        ({"user": ["u", "u"], "items": [["a"], ["a", "b"]]}, "the list of user 'u' repeats"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, listener, columns, said):
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=said):
        read(tmp_path, listener)


@pytest.mark.parametrize(("asked", "said"), [({"duplicates": "drop"}, "drop"), ({"ties": "random"}, "ties random")])
def test_what_compares_times_needs_some(tmp_path, listener, asked, said):
    pq.write_table(pa.table({"user": ["u"], "item": ["a"]}), tmp_path / "log.parquet")
    with pytest.raises(UsageError, match=f"{said} compares times, and no column has any"):
        read(tmp_path, listener, **asked)


def test_folders_that_are_none(tmp_path, listener):
    with pytest.raises(MissingFileError, match=r"no dataset_dict\.json, state\.json or \.parquet in it"):
        read(tmp_path, listener)
    for name in ("train", "clicks"):
        pq.write_table(pa.table(LOG), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match="the order of clicks in time is not known"):
        read(tmp_path, listener)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BrokenFileError, match="not a readable Arrow or Parquet file"):
        read(tmp_path / "broken.parquet", listener)


def test_a_state_names_files_of_its_folder_only(tmp_path, listener):
    save_to_disk(tmp_path / "d", LOG)
    (tmp_path / "d" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../secret.arrow"}]}))
    with pytest.raises(MissingFileError, match="no such file"):
        read(tmp_path / "d", listener)
    (tmp_path / "d" / "state.json").write_text(json.dumps({"_data_files": [], "_indices_data_files": [{}]}))
    with pytest.raises(DataError, match="holds a selection of rows"):
        read(tmp_path / "d", listener)


def test_what_arrow_can_not_turn_into_moments(tmp_path, listener):
    """Nanoseconds are cut; a time of day is no moment."""
    stamps = pa.array([1404172802000000300, 1404172800000000200, 1404172801000000100], pa.timestamp("ns"))
    pq.write_table(pa.table(LOG | {"timestamp": stamps}), tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet", listener)[0].timestamps.tolist() == [1404172801, 1404172802, 1404172800]
    pq.write_table(pa.table(LOG | {"timestamp": pa.array([3, 1, 2], pa.time32("s"))}), tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"the times are of the type time32.*; moments are needed"):
        read(tmp_path / "log.parquet", listener)


def test_items_in_two_files_and_vectors_with_a_null(tmp_path, listener):
    folder = tmp_path / "set"
    folder.mkdir()
    pq.write_table(pa.table(LOG), folder / "train.parquet")
    for number, title in enumerate(("one", "two")):
        items = pa.table({"item_id": [7, 10 + number], "title": [title, "z"]})
        pq.write_table(items, folder / f"items-0000{number}-of-00002.parquet")
    with pytest.raises(DataError, match=r"items-00001-of-00002\.parquet: item '7' is in an earlier file, too"):
        read(folder, listener)
    (folder / "items-00001-of-00002.parquet").unlink()
    items = pa.table({"item_id": [7, 8, 9], "vec": pa.array([[1, 2], [3, None], [5, 6]], pa.list_(pa.float32()))})
    pq.write_table(items, folder / "items-00000-of-00002.parquet")
    with pytest.raises(DataError, match=r"vec.*item '8'"):
        read(folder, listener)
    items = pa.table({"item_id": [7, 8, 9], "vec": [[0.1, 1e-46], None, [3.0, -2.0]]})
    pq.write_table(items, folder / "items-00000-of-00002.parquet")
    made, found = read(folder, listener)
    rows = [made.item_ids.index(item) for item in "789"]
    assert found.features["vec"].present[rows].tolist() == [True, False, True]
    expected = np.array([[0.1, 1e-46], [0, 0], [3, -2]], np.float32)
    np.testing.assert_array_equal(found.features["vec"].values[rows], expected, strict=True)
