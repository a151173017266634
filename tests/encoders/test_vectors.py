from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from helpers import Listener

from bbqrec_cli.encoders import vectors
from bbqrec_cli.encoders.vectors import read_ids, to_feature
from bbqrec_cli.errors import DataError, MissingFileError, UnsafeFileError, UsageError
from bbqrec_cli.records import Vocabulary

ITEMS = Vocabulary([f"i{row}" for row in range(6)])
IDS = ["i4", "new", "i0", "i1"]
VALUES = np.arange(12, dtype=np.float32).reshape(4, 3) + 1


def npy(path, values, ids):
    np.save(path, values)


def npz(path, values, ids):
    np.savez(path, vectors=values, ids=np.array(ids))


def safetensors(path, values, ids):
    from safetensors.numpy import save_file

    save_file({"vectors": values, "item_ids": np.array([int(each) for each in ids])}, path)


def hdf5(path, values, ids):
    with h5py.File(path, "w") as file:
        file["deep/vectors"] = values
        file["deep/id"] = np.array(ids, dtype=object)


def parquet(path, values, ids):
    polars = pytest.importorskip("polars")
    polars.DataFrame({"item_id": ids, "emb": values.tolist()}).write_parquet(path)


def wide(path, values, ids):
    polars = pytest.importorskip("polars")
    polars.DataFrame({"item_id": ids, **{f"d{at}": column for at, column in enumerate(values.T)}}).write_parquet(path)


WITH_IDS = [(npz, "v.npz"), (hdf5, "v.h5"), (hdf5, "v.hdf5"), (parquet, "v.parquet"), (wide, "v.parquet")]


def read(path, *, name="text", array="", ids=None, items=ITEMS, said=None):
    return to_feature(path, name, array, items, ids, said or Listener())


TYPED = [
    pytest.param(save, file, dtype, id=f"{save.__name__} {file} {dtype.__name__}")
    for save, file in WITH_IDS
    for dtype in (np.float16, np.float32, np.float64, np.int64)
    if not (save in (parquet, wide) and dtype is np.float16)  # not in every version of polars
]


@pytest.mark.parametrize(("save", "file", "dtype"), TYPED)
def test_rows_find_their_items(tmp_path, save, file, dtype):
    save(tmp_path / file, VALUES.astype(dtype), IDS)
    said = Listener()
    feature = read(tmp_path / file, said=said)
    expected = np.zeros((6, 3), dtype=np.float32)
    expected[[4, 0, 1]] = VALUES[[0, 2, 3]]
    np.testing.assert_array_equal(feature.values, expected)
    assert feature.values.dtype == np.float32
    assert np.flatnonzero(feature.present).tolist() == [0, 1, 4]
    assert said.warned == [f"text: 1 of 4 ids of {tmp_path / file} are no items of the dataset and left out: 'new'"]


@pytest.mark.parametrize("ids", [["7", "3", "9", "4"], [7, 3, 9, 4]])
def test_safetensors_with_ids_in_the_metadata(tmp_path, ids):
    from safetensors.numpy import save_file

    path, said = tmp_path / "v.safetensors", Listener()
    save_file({"vectors": VALUES}, path, metadata={"ids": json.dumps(ids)})
    feature = read(path, items=Vocabulary(["3", "4", "7", "9"]), said=said)
    np.testing.assert_array_equal(feature.values, VALUES[[1, 3, 0, 2]])
    assert said.warned == []
    for wrong in ("7,3", '{"7": 0}', "[7, 3, 9, null]"):
        save_file({"vectors": VALUES}, path, metadata={"ids": wrong})
        with pytest.raises(DataError, match="the ids in its metadata are no JSON list of ids"):
            read(path)


@pytest.mark.parametrize("kind", [object, "S1"])
def test_ids_as_a_column(tmp_path, kind):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["vectors"], file["ids"] = VALUES, np.array([["7"], ["3"], ["9"], ["4"]], dtype=kind)
    feature = read(tmp_path / "v.h5", items=Vocabulary(["3", "4", "7", "9"]))
    np.testing.assert_array_equal(feature.values, VALUES[[1, 3, 0, 2]])


def test_safetensors_with_integer_ids(tmp_path):
    safetensors(tmp_path / "v.safetensors", VALUES, ["7", "3", "9", "4"])
    feature = read(tmp_path / "v.safetensors", items=Vocabulary(["3", "4", "7", "9"]))
    np.testing.assert_array_equal(feature.values, VALUES[[1, 3, 0, 2]])


def test_bfloat16(tmp_path):
    torch, save_file = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch").save_file
    save_file({"x": torch.from_numpy(VALUES).bfloat16()}, tmp_path / "v.safetensors")
    np.testing.assert_array_equal(read(tmp_path / "v.safetensors", ids=IDS).values[[4, 0, 1]], VALUES[[0, 2, 3]])


def test_ids_from_a_file_of_their_own(tmp_path):
    npy(tmp_path / "v.npy", VALUES, None)
    (tmp_path / "ids.txt").write_text("\ufeff" + "\r\n".join(IDS) + "\n", encoding="utf-8")
    assert read_ids(tmp_path / "ids.txt") == IDS
    assert np.flatnonzero(read(tmp_path / "v.npy", ids=IDS).present).tolist() == [0, 1, 4]
    with pytest.raises(DataError, match="4 rows, but 3 ids"):
        read(tmp_path / "v.npy", ids=IDS[:3])
    (tmp_path / "ids.txt").write_text("i1\n\ni2\n")
    with pytest.raises(DataError, match="line 2: empty"):
        read_ids(tmp_path / "ids.txt")
    with pytest.raises(MissingFileError):
        read_ids(tmp_path / "none.txt")


@pytest.mark.parametrize("name", ["movieId", "product_id", "parent_asin", "__index_level_0__", "item id"])
@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_numeric_ids_of_a_usual_name_are_ids(tmp_path, name, suffix):
    """They are no numbers of the vectors, and rows go to their items, not to those in the dataset's order."""
    polars, path = pytest.importorskip("polars"), tmp_path / f"v.{suffix}"
    if suffix == "npz":
        np.savez(path, vectors=VALUES, **{name: np.arange(4)})
    else:
        columns = {f"d{at}": column for at, column in enumerate(VALUES.T)}
        polars.DataFrame({name: np.arange(4), **columns}).write_parquet(path)
    feature = read(path, items=Vocabulary(["3", "1", "0", "2"]))
    np.testing.assert_array_equal(feature.values, VALUES[[3, 1, 0, 2]])


def test_ids_beside_other_columns(tmp_path):
    """A second column of ids may have gaps, and is no number; an index counts after a column of texts."""
    polars, path = pytest.importorskip("polars"), tmp_path / "v.parquet"
    columns = {"__index_level_0__": [5, 7], "a": [1.0, 2.0], "b": [3.0, 4.0]}
    polars.DataFrame({"item_id": ["i1", "i0"], "isbn": [None, 7], **columns}).write_parquet(path)
    np.testing.assert_array_equal(read(path).values[:2], [[2, 4], [1, 3]])
    polars.DataFrame({"code": ["i1", "i0"], **columns}).write_parquet(path)
    np.testing.assert_array_equal(read(path).values[:2], [[2, 4], [1, 3]])


def test_several_columns_of_ids(tmp_path):
    """A running number `id` is not taken in silence for the ids, nor what a shop counts; equal ones are no matter."""
    polars, path, vectors = pytest.importorskip("polars"), tmp_path / "v.parquet", VALUES.tolist()
    made = {"id": [0, 1, 2, 3], "movieId": [3, 1, 0, 2], "v": vectors}
    polars.DataFrame(made).write_parquet(path)
    with pytest.raises(DataError, match=r"id and movieId may be the ids of v, and differ") as caught:
        read(path, items=Vocabulary("0123"))
    assert "item_id" in caught.value.hint
    polars.DataFrame({"item_id": made["movieId"], **made}).write_parquet(path)
    expected = VALUES[[2, 1, 3, 0]]
    np.testing.assert_array_equal(read(path, items=Vocabulary("0123")).values, expected)
    polars.DataFrame(made | {"id": made["movieId"]}).write_parquet(path)
    np.testing.assert_array_equal(read(path, items=Vocabulary("0123")).values, expected)


@pytest.mark.parametrize("suffix", ["h5", "npz"])
def test_the_ids_beside_the_vectors_are_theirs(tmp_path, suffix):
    """Not those of another group; those around them count, and those of the only other group."""
    path = tmp_path / f"v.{suffix}"

    def save(arrays: dict):
        if suffix == "npz":
            np.savez(path, **arrays)
            return
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values.astype("S") if values.dtype.kind == "U" else values

    items, ids = Vocabulary("abcd"), np.array(list("abcd"))
    save({"a/text": VALUES, "a/ids": ids, "b/look": VALUES[::-1], "b/ids": ids[::-1]})
    for array in ("a/text", "b/look"):
        np.testing.assert_array_equal(read(path, array=array, items=items).values, VALUES)
    save({"ids": ids[::-1], "a/ids": ids, "b/c/text": VALUES})
    np.testing.assert_array_equal(read(path, array="b/c/text", items=items).values, VALUES[::-1])
    save({"items/id": ids[::-1], "features/text": VALUES})
    np.testing.assert_array_equal(read(path, items=items).values, VALUES[::-1])
    save({"one/ids": ids[:3], "one/text": VALUES[:3], "two/look": VALUES})
    np.testing.assert_array_equal(read(path, array="two/look", items=items).values, VALUES)
    save({"one/ids": ids[::-1], "two/ids": ids, "features/text": VALUES})
    with pytest.raises(DataError, match="one/ids and two/ids may be the ids of features/text, and differ"):
        read(path, items=items)


def test_ids_of_another_shape(tmp_path):
    path, items, ids = tmp_path / "v.npz", Vocabulary("abcd"), np.array(list("dcba"))
    np.savez(path, text=VALUES, ids=ids[:, None])
    np.testing.assert_array_equal(read(path, items=items).values, VALUES[::-1])
    np.savez(path, text=VALUES, ids=ids[:3])
    with pytest.raises(DataError, match="ids has 3 ids, and text 4 rows"):
        read(path, items=items)


def test_ids_that_contradict_those_of_the_file(tmp_path):
    npz(tmp_path / "v.npz", VALUES, IDS)
    with pytest.raises(UsageError, match=r"--ids: .*v\.npz holds other ids of its own \(ids\)") as caught:
        read(tmp_path / "v.npz", ids=IDS[::-1])
    assert "leave --ids out" in caught.value.hint
    np.testing.assert_array_equal(read(tmp_path / "v.npz", ids=IDS).values[4], VALUES[0])


def test_rows_without_ids_only_if_the_counts_agree(tmp_path):
    npy(tmp_path / "v.npy", VALUES, None)
    said = Listener()
    feature = read(tmp_path / "v.npy", items=Vocabulary("abcd"), said=said)
    np.testing.assert_array_equal(feature.values, VALUES)
    assert "holds no ids: its rows are taken as the items in the order of the dataset" in said.warned[0]
    with pytest.raises(DataError, match="4 rows without ids, and the dataset has 6 items") as caught:
        read(tmp_path / "v.npy")
    assert "--ids" in caught.value.hint


def test_the_only_table_beside_texts_of_that_name(tmp_path):
    np.savez(tmp_path / "v.npz", text=np.array(IDS), look=VALUES, ids=np.array(IDS))
    np.testing.assert_array_equal(read(tmp_path / "v.npz").values[4], VALUES[0])


def test_several_tables(tmp_path):
    np.savez(tmp_path / "v.npz", title=VALUES, look=-VALUES, ids=np.array(IDS))
    np.testing.assert_array_equal(read(tmp_path / "v.npz", name="look").values[4], -VALUES[0])
    np.testing.assert_array_equal(read(tmp_path / "v.npz", array="title").values[4], VALUES[0])
    with pytest.raises(DataError, match="several tables, title, look, and not one called 'text'") as caught:
        read(tmp_path / "v.npz")
    assert f"--vectors text={tmp_path / 'v.npz'}:title" in caught.value.hint
    with pytest.raises(DataError, match=r"holds no 'titel' \(did you mean 'title'\?\), but title, look, ids"):
        read(tmp_path / "v.npz", array="titel")


def test_a_features_file(files, tmp_path):
    """The vectors of another run of embed, under their ids."""
    ids = Vocabulary([f"i{row}" for row in range(11, -1, -1)])
    feature = read(files["features"], items=ids)
    from bbqrec_cli import hdf5 as store

    expected = store.read_features(files["features"]).features["text"]
    np.testing.assert_array_equal(feature.values, expected.values[::-1])
    np.testing.assert_array_equal(feature.present, expected.present[::-1])
    assert feature.encoder == "tiny"
    with pytest.raises(DataError, match="without the feature 'sound'; it has image, text"):
        read(files["features"], name="sound", items=ids)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.arange(4.0), "is one-dimensional"),
        (np.zeros((4, 2, 2)), r"is of shape \(4, 2, 2\)"),
        (np.zeros((4, 0)), r"is of shape \(4, 0\)"),
        (np.ones((4, 3), dtype=bool), "holds true and false"),
        (np.ones((4, 3), dtype=complex), "holds complex numbers"),
        (np.full((4, 3), "1.5"), "holds text"),
    ],
)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_no_table_of_numbers(tmp_path, values, what, suffix):
    path = tmp_path / f"v.{suffix}"
    np.save(path, values) if suffix == "npy" else np.savez(path, vectors=values)
    with pytest.raises(DataError, match=rf"{what}; a table of numbers \(items, width\) is needed"):
        read(path)


class Witness:
    """Whoever unpickles this makes a file."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_objects_are_never_unpickled(tmp_path):
    trap = np.array([Witness(tmp_path / "ran")] * 4, dtype=object)
    np.save(tmp_path / "v.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "v.npz", vectors=trap)
    np.savez(tmp_path / "ids.npz", vectors=VALUES, ids=trap)
    for name in ("v.npy", "v.npz", "ids.npz"):
        with pytest.raises(DataError, match="holds Python objects, which bbqrec does not unpickle"):
            read(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_rows_with_nan_are_named(tmp_path):
    values = VALUES.copy()
    values[[1, 3], 0] = np.nan, np.inf
    npz(tmp_path / "v.npz", values, IDS)
    # Row 1 is of no item of the dataset.
    with pytest.raises(DataError, match=r"NaN or infinity in 1 of 4 rows, from 0: 3 \(item 'i1'\)$"):
        read(tmp_path / "v.npz")
    npz(tmp_path / "v.npz", np.full((4, 3), 1e300), IDS)  # beyond float32
    with pytest.raises(DataError, match=r"NaN or infinity in 3 of 4 rows, from 0: 0 \(item 'i4'\), 2 .*, 3 "):
        read(tmp_path / "v.npz")


@pytest.mark.parametrize("twice", ["i4", "new"])
def test_an_id_with_two_rows(tmp_path, twice):
    npz(tmp_path / "v.npz", VALUES, [*IDS[:3], twice])
    with pytest.raises(DataError, match=rf"the id '{twice}' has two rows, {IDS.index(twice)} and 3"):
        read(tmp_path / "v.npz")


def test_ids_of_another_catalogue(tmp_path):
    npz(tmp_path / "v.npz", VALUES, ["a", "b", "c", "d"])
    with pytest.raises(DataError, match="none of its 4 ids, such as 'a', is an item"):
        read(tmp_path / "v.npz")
    np.savez(tmp_path / "v.npz", vectors=VALUES, ids=np.arange(4.0))
    with pytest.raises(DataError, match="its ids: are of type float64; text or integers are needed"):
        read(tmp_path / "v.npz")


@pytest.mark.parametrize("suffix", [each for each in vectors.SUFFIXES if each != ".parquet"])
def test_damaged_files(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="damaged"):
        read(path)


def test_a_damaged_parquet_file(tmp_path):
    (tmp_path / "v.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read(tmp_path / "v.parquet")


def test_ragged_and_missing_rows_of_parquet(tmp_path):
    polars = pytest.importorskip("polars")
    polars.DataFrame({"id": ["i1", "i2"], "v": [[1.0], [1.0, 2.0]]}).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(DataError, match="the column v has vectors of 2 widths"):
        read(tmp_path / "v.parquet")
    polars.DataFrame({"id": ["i1", "i2"], "v": [[1.0], None]}).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(DataError, match="the column v has rows without a vector"):
        read(tmp_path / "v.parquet")


def test_a_parquet_file_is_the_one_that_was_named(tmp_path):
    """Brackets in its name are no pattern, and what stands before an = in its folder's is no column."""
    folder = tmp_path / "run=7"
    folder.mkdir()
    parquet(folder / "v1.parquet", -VALUES, IDS)
    parquet(folder / "v[1].parquet", VALUES, IDS)
    np.testing.assert_array_equal(read(folder / "v[1].parquet").values[4], VALUES[0])
    assert "run" not in vectors._parquet(folder / "v[1].parquet")


def test_columns_of_parquet_that_nobody_asked_for(tmp_path):
    """They may hold what could not be read as vectors or ids."""
    polars, path = pytest.importorskip("polars"), tmp_path / "v.parquet"
    other = {"cover": [b"\xff\xd8", None], "tags": [["a"], None], "old": [[1.0], [1.0, 2.0]], "new": [True, None]}
    columns = {"item_id": [b"i1", "ié".encode()], **other, "emb": [[1.0, 2.0], [3.0, 4.0]]}
    polars.DataFrame(columns).write_parquet(path)
    feature = read(path, name="emb", items=Vocabulary(["ié", "i1"]))
    np.testing.assert_array_equal(feature.values, [[3, 4], [1, 2]])
    with pytest.raises(DataError, match="the column old has vectors of 2 widths"):
        read(path, array="old")
    polars.DataFrame(columns | {"item_id": [b"i1", b"\xff"]}).write_parquet(path)
    with pytest.raises(DataError, match="its ids are not UTF-8"):
        read(path, name="emb")
    numbers = {"a": [1.0, 3.0], "b": [2.0, 4.0]}
    polars.DataFrame({"item_id": ["i1", "i0"], "tags": [["x"], ["y"]], **numbers}).write_parquet(path)
    np.testing.assert_array_equal(read(path).values[:2], [[3, 4], [1, 2]])


def test_a_file_that_refers_to_another_one(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["vectors"] = h5py.ExternalLink("other.h5", "secret")
    with pytest.raises(UnsafeFileError, match="/vectors is an external link; nothing was read"):
        read(tmp_path / "v.h5")


def test_other_files(tmp_path):
    (tmp_path / "v.json").write_text(json.dumps([[1, 2]]))
    with pytest.raises(DataError, match="a file of another kind"):
        read(tmp_path / "v.json")
    with pytest.raises(MissingFileError):
        read(tmp_path / "none.npy")


def test_a_cut_npz(tmp_path):
    npz(tmp_path / "v.npz", VALUES, IDS)
    whole = (tmp_path / "v.npz").read_bytes()
    (tmp_path / "v.npz").write_bytes(whole.replace(VALUES[1].tobytes(), bytes(12)))  # its checksum no longer fits
    with pytest.raises(DataError, match="vectors"):
        read(tmp_path / "v.npz")
