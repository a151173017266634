from __future__ import annotations

import json

import numpy as np
import pytest

from bbqrec_cli.data.sources.letter import Letter
from bbqrec_cli.data.sources.options.letter import LetterOptions
from bbqrec_cli.errors import DataError, MissingFileError

INTER = json.dumps({"0": [1, 2, 1], "1": [2, 1]})
ITEM = json.dumps(
    {str(n): {"title": f"t{n}", "description": f"d{n}", "brand": "b", "categories": "x,y"} for n in range(3)}
)
INDEX = json.dumps({str(n): [f"<a_{n}>", "<b_0>"] for n in range(3)})


@pytest.fixture
def toy(put, tmp_path):
    """A folder of three items, of which the first has no interaction."""
    put("Toy/Toy.inter.json", INTER)
    put("Toy/Toy.item.json", ITEM)
    put("Toy/Toy.index.json", INDEX)
    put("Toy/images/2.png", b"picture")
    return tmp_path / "Toy"


def save(path, rows: int, width: int = 2, dtype=np.float16) -> None:
    np.save(path, np.arange(rows * width, dtype=dtype).reshape(rows, width))


def read(path, listener, **options):
    source = Letter([path], LetterOptions(**options), seed=0, progress=listener)
    interactions = source.interactions()
    return source, interactions, source.items(interactions.item_ids)


def test_a_folder(toy, listener):
    save(toy / "Toy.emb-llama-td.npy", 3)
    save(toy / "Toy.emb-ViT-L-14.npy", 3, 4, np.float64)
    source, made, items = read(toy, listener)
    assert (made.user_ids, made.item_ids, made.items.tolist()) == (["0", "1"], ["1", "2"], [0, 1, 0, 1, 0])
    assert items.fields["title"] == ["t1", "t2"]  # ids count from 0 in all files: nothing is shifted
    assert items.images == [b"", b"picture"]
    assert items.features["text"].values.tolist() == [[2, 3], [4, 5]]
    assert items.features["text"].values.dtype == np.float32
    assert items.features["image"].values.tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert toy / "Toy.index.json" in source.files
    assert any(f"--method published --index {toy / 'Toy.index.json'}" in said for said in listener.logged)


def test_a_name_with_brackets_is_no_pattern(put, tmp_path, listener):
    for name in ("a[1]", "a1"):
        put(f"{name}.inter.json", INTER)
        put(f"{name}.item.json", ITEM)
        put(f"{name}.index.json", INDEX)
        save(tmp_path / f"{name}.emb-llama-td.npy", 3)
    source, _, items = read(tmp_path / "a[1].inter.json", listener)
    assert items.features["text"].encoder == "a[1].emb-llama-td"
    assert tmp_path / "a[1].index.json" in source.files
    assert tmp_path / "a1.index.json" not in source.files


@pytest.mark.parametrize("rows", [2, 4])
def test_rows_must_be_those_of_the_items(toy, listener, rows):
    save(toy / "Toy.emb-llama-td.npy", rows)
    with pytest.raises(DataError, match=rf"{rows} rows, but 3 items, whose ids are 0 to 2"):
        read(toy, listener)


def test_which_embeddings_are_meant(toy, listener):
    save(toy / "Toy.emb-a-td.npy", 3)
    save(toy / "Toy.emb-b-td.npy", 3)
    with pytest.raises(DataError, match=r"holds Toy\.emb-a-td\.npy and Toy\.emb-b-td\.npy"):
        read(toy, listener)
    _, _, items = read(toy, listener, text_embeddings=toy / "Toy.emb-b-td.npy")
    assert items.features["text"].encoder == "Toy.emb-b-td"


def test_nothing_in_a_file_is_run(toy, listener):
    np.save(toy / "Toy.emb-llama-td.npy", np.array([{}, {}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"not a \.npy file of numbers"):
        read(toy, listener)
    np.save(toy / "Toy.emb-llama-td.npy", np.arange(3))
    with pytest.raises(DataError, match=r"int64 of shape \(3,\)"):
        read(toy, listener)
    np.save(toy / "Toy.emb-llama-td.npy", np.full((3, 2), np.nan))
    with pytest.raises(DataError, match="NaN or infinity"):
        read(toy, listener)


def test_ids_without_an_entry_are_warned_of(toy, put, listener):
    put("Toy/Toy.index.json", json.dumps({"1": ["<a_1>"]}))
    read(toy, listener)
    assert any("1 of 2 items have no semantic ID" in said for said in listener.warned)


def test_other_layouts_are_pointed_to(put, tmp_path, listener):
    put("a/X.test.inter", "")
    put("b/info/X.txt", "")
    for name, hint in (("a", "bbqrec prepare recbole"), ("b", "split interactions by time")):
        with pytest.raises(MissingFileError) as error:
            read(tmp_path / name, listener)
        assert hint in error.value.hint
    put("c/X.inter.json", INTER)
    put("c/Y.inter.json", INTER)
    with pytest.raises(DataError, match=r"holds X\.inter\.json and Y\.inter\.json"):
        read(tmp_path / "c", listener)
