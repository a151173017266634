"""A file from a stranger reads no other file, and takes no more memory than its size lets expect.

Each attack is made in a small file of bbqrec's own and must be refused by every command, before anything is read.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5g, h5i, h5p, h5s, h5t, h5z

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark.graph import Machine, make_graph
from bbqrec_cli.benchmark.suite import load_suite
from bbqrec_cli.errors import BrokenFileError, UnsafeFileError, WrongKindError
from bbqrec_cli.hdf5 import safety, store
from bbqrec_cli.hdf5.schema import KINDS
from bbqrec_cli.hdf5.vectors import Arrays
from bbqrec_cli.records import Catalogue, Dataset, Sequences

MARKER = "s3cret-marker"
"""Stands in every file that must not be read."""
HUGE = 10**12
SPACE = h5s.create_simple((4,))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Every test starts in a folder with two files that nobody meant to share."""
    monkeypatch.chdir(tmp_path)
    Path("secret.txt").write_text(f"{MARKER}\n" * 500)
    with h5py.File("other.h5", "w") as file:
        file["texts"] = [f"{MARKER} {number}" for number in range(30)]
        file["numbers"] = np.frombuffer(MARKER.encode().ljust(16), np.int64)
    return tmp_path


# The attacks: each changes an opened file at `name`, and says what the refusal names and says.

Attack = Callable[[h5py.File, str], tuple[str, str]]
ATTACKS: dict[str, Attack] = {}


def attack(made: Attack) -> Attack:
    ATTACKS[made.__name__] = made
    return made


@attack
def external_link(file, name):
    file[name] = h5py.ExternalLink("other.h5", "texts")
    return f"/{name}", "is an external link"


@attack
def external_link_to_a_group(file, name):
    file["mine"] = h5py.ExternalLink("other.h5", "/")
    return "/mine", "is an external link"


@attack
def soft_link(file, name):
    file[name] = h5py.SoftLink("/other")
    return f"/{name}", "is a soft link"


@attack
def soft_link_to_itself(file, name):
    file[name] = h5py.SoftLink(f"/{name}")
    return f"/{name}", "is a soft link"


@attack
def external_storage(file, name):
    file.create_dataset(name, (100,), "S40", external=[("secret.txt", 0, 4000)])
    return f"/{name}", "has external storage"


@attack
def external_storage_of_numbers(file, name):
    file.create_dataset("mine/numbers", (100,), "i8", external=[(str(Path("secret.txt").resolve()), 0, 800)])
    return "/mine/numbers", "has external storage"


@attack
def virtual_dataset(file, name):
    layout = h5py.VirtualLayout((30,), "S20")
    layout[:] = h5py.VirtualSource("other.h5", "texts", (30,))
    file.create_virtual_dataset(name, layout)
    return f"/{name}", "is a virtual dataset"


@attack
def virtual_dataset_without_end(file, name):
    """Its shape is that of its sources, which HDF5 opens when it is asked for."""
    layout = h5py.VirtualLayout((30,), "i8", maxshape=(None,))
    source = h5py.VirtualSource("other.h5", "numbers", (30,), "i8", maxshape=(None,))
    layout[: h5s.UNLIMITED] = source[: h5s.UNLIMITED]
    file.create_virtual_dataset(name, layout)
    return f"/{name}", "is a virtual dataset"


@attack
def object_references(file, name):
    file.create_dataset(name, data=[file.ref] * 30, dtype=h5py.ref_dtype)
    return f"/{name}", "holds references"


@attack
def region_references(file, name):
    data = file.create_dataset("mine/data", data=np.arange(9))
    file.create_dataset(name, data=[data.regionref[:3]] * 30, dtype=h5py.regionref_dtype)
    return f"/{name}", "holds references"


@attack
def references_in_a_compound(file, name):
    file.create_dataset("mine/c", (3,), np.dtype([("a", "i4"), ("b", h5py.ref_dtype, (2,))]))
    return "/mine/c", "holds references"


@attack
def references_of_variable_length(file, name):
    file.create_dataset("mine/c", (3,), h5py.vlen_dtype(h5py.ref_dtype))
    return "/mine/c", "holds references"


@attack
def reference_in_an_attribute(file, name):
    file.attrs["mine"] = file.ref
    return "/, attribute mine", "holds references"


@attack
def named_type(file, name):
    file["mine/type"] = np.dtype("i8")
    return "/mine/type", "is a named type"


@attack
def dataset_of_a_named_type(file, name):
    file["type"] = np.dtype("S8")
    file.create_dataset(name, (30,), file["type"])
    del file["type"]
    return f"/{name}", "has a named type"


@attack
def attribute_of_a_named_type(file, name):
    file["type"] = np.dtype("i8")
    file.create_group("mine").attrs.create("a", 1, dtype=file["type"])
    del file["type"]
    return "/mine, attribute a", "has a named type"


@attack
def opaque_type(file, name):
    """h5py would take the tag for a NumPy type, here for one of pointers."""
    kind = h5t.create(h5t.OPAQUE, 8)
    kind.set_tag(b"NUMPY:O")
    h5d.create(file.id, b"mine", kind, SPACE)
    return "/mine", "holds values of the unknown class 5"


@attack
def variable_length_inside_another(file, name):
    file.create_dataset("mine", (3,), h5py.vlen_dtype(h5py.vlen_dtype(np.uint8)))
    return "/mine", "holds values of variable length inside others"


@attack
def type_of_many_parts(file, name):
    kind = h5t.NATIVE_INT8.copy()
    for _ in range(2000):
        kind = h5t.array_create(kind, (1,))
    h5d.create(file.id, b"mine", kind, SPACE)
    return "/mine", "has a type of more than 1,000 parts"


@attack
def unknown_filter(file, name):
    file.create_dataset("mine", (30,), "i8", chunks=(30,), scaleoffset=0)
    return "/mine", "has the filter 6"


@attack
def filter_of_a_plugin(file, name):
    made = h5p.create(h5p.DATASET_CREATE)
    made.set_chunk((4,))
    made.set_filter(32001, h5z.FLAG_OPTIONAL, (1, 2))
    h5d.create(file.id, b"mine", h5t.NATIVE_INT8, SPACE, made)
    return "/mine", "has the filter 32001"


@attack
def gzip_in_gzip(file, name):
    """What makes a thousand bytes of one makes a million of it, and each chunk is small only when it is done."""
    made = h5p.create(h5p.DATASET_CREATE)
    made.set_chunk((1 << 20,))
    made.set_deflate(9)
    made.set_deflate(9)
    h5d.create(file.id, b"mine", h5t.NATIVE_INT8, h5s.create_simple((1 << 20,)), made)
    return "/mine", "has the filters 1, 1"


@attack
def shuffled_after_gzip(file, name):
    made = h5p.create(h5p.DATASET_CREATE)
    made.set_chunk((4,))
    made.set_deflate(9)
    made.set_shuffle()
    h5d.create(file.id, b"mine", h5t.NATIVE_INT8, SPACE, made)
    return "/mine", "has the filters 1, 2"


@attack
def group_with_compressed_links(file, name):
    made = h5p.create(h5p.GROUP_CREATE)
    h5i.inc_ref(made)
    h5p.PropDCID(made.id).set_deflate(9)
    h5g.create(file.id, b"mine", gcpl=made)
    return "/mine", "has the filter 1"


@attack
def group_inside_itself(file, name):
    file["mine/a/b"] = file.create_group("mine")
    return "/mine/a/b", "is a group that appears elsewhere"


@attack
def root_inside_itself(file, name):
    file["mine/root"] = file["/"]
    return "/mine/root", "is a group that appears elsewhere"


@attack
def groups_in_groups(file, name):
    file.create_group("/".join("g" * 30))
    return "/" + "/".join("g" * 17), "is more than 16 groups deep"


@attack
def many_objects(file, name):
    group = file.create_group("mine")
    for number in range(1000):
        group.create_group(str(number))
    return "/mine", "hold more than 1,000 objects"


@attack
def many_attributes(file, name):
    group = file.create_group("mine")
    for number in range(257):
        group.attrs[str(number)] = number
    return "/mine", "has 257 attributes"


@attack
def large_attribute(file, name):
    file.create_group("mine", track_order=True).attrs["big"] = np.zeros(10_000)
    return "/mine, attribute big", "has 80,000 bytes; 65,536 are the limit"


@attack
def texts_in_an_attribute(file, name):
    """Each of them may be as long as the file."""
    file["mine"] = np.zeros(1 << 17)
    file.attrs.create("mine", ["a"] * 4000, dtype=h5py.string_dtype())
    return "/, attribute mine", "declares what takes"


@attack
def shape_without_bytes(file, name):
    file.create_dataset(name, (HUGE,), "i8")
    return f"/{name}", "declares what takes 8,000,000,000,000 bytes of memory"


@attack
def shape_beyond_64_bits(file, name):
    file.create_dataset("mine", (1 << 40, 1 << 40, 2), "i1", chunks=(1 << 10, 1 << 10, 2))
    return "/mine", "declares what takes"


@attack
def compressed_zeros(file, name):
    file.create_dataset("mine", data=np.zeros(1 << 27, np.int8), chunks=(1 << 20,), compression="gzip")
    return "/mine", "declares what takes 134,742,016 bytes"


@attack
def many_empty_chunks(file, name):
    """HDF5 takes 4 KB for each: 64 GB for 16 MB of data, and minutes."""
    file.create_dataset("mine", (1 << 24,), "i1", chunks=(1,))
    return "/mine", "declares what takes"


@attack
def one_chunk_larger_than_all(file, name):
    file.create_dataset("mine", (1,), "i1", chunks=(1 << 30,), maxshape=(None,))
    return "/mine", "declares what takes"


@attack
def long_strings(file, name):
    file.create_dataset("mine", (1,), "S2000000000")
    return "/mine", "declares what takes"


@attack
def one_dataset_under_many_names(file, name):
    file["mine/0"] = np.zeros(1 << 20, np.int8)
    for number in range(1, 900):
        file[f"mine/{number}"] = file["mine/0"]
    return "/mine/", "declares what takes"


@attack
def a_long_text_for_an_attribute(file, name):
    """JSON takes many times its length."""
    file.create_dataset("attributes/mine", (), "S60000000")
    return "/attributes/mine", "declares what takes 240,"


@attack
def long_name(file, name):
    file["x" * 2000] = 1
    return "/xxx", "has an invalid name"


@attack
def name_that_is_no_text(file, name):
    file.id.links.create_hard(b"\xff", h5g.open(file.id, b"/"), b"sequences")
    return "/\\xff", "has an invalid name"


@attack
def odd_names(file, name):
    file["mine/\x1b[31m\n" + "x" * 1000] = h5py.SoftLink("/other")
    return "/mine/\\x1b[31m\\nxxx", "is a soft link"


@pytest.fixture(scope="session")
def files(files, tmp_path_factory):
    """Those of conftest.py, those of a benchmark, and a tokens file that new items can be appended to."""
    from bbqrec_cli.stages.tokenize import TokenizeConfig
    from bbqrec_cli.stages.tokenize import run as tokenize

    made = tmp_path_factory.mktemp("more")
    state = {"data": {"s": {"users": ["u0", "u1"], "cells": {"one": np.arange(2)}}}, "steps": {}, "results": {}}
    hdf5.write_benchmark(made / "benchmark.h5", state)
    hdf5.write_record(made / "record.h5", dict.fromkeys(KINDS["record"].attributes, ""))
    options = {"epochs": 1, "codebook_size": 4, "dim": 8}
    tokenize(
        TokenizeConfig(
            features=files["features"], output=made / "growing.h5", method="rqvae", options=options, threads=1
        )
    )
    return files | {name: made / f"{name}.h5" for name in ("benchmark", "record", "growing")}


@pytest.fixture
def attacked(files, monkeypatch) -> Callable[..., tuple[Path, str, str]]:
    """`attacked(attack, kind)`: a copy of the kind's file with the attack in it, and what is said of it."""
    monkeypatch.setattr(safety, "MOST_OBJECTS", 1000)

    def made(which: str, kind: str, to: str = "") -> tuple[Path, str, str]:
        path = Path(shutil.copy(files[kind], to or f"evil-{kind}.h5"))
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            name = {"checkpoint": "state/a|b", "benchmark": "data/s/users"}.get(kind, "users/id")
            if which in REPLACING and name in file:
                del file[name]
            where, says = ATTACKS[which](file, name)
        return path, where, says

    return made


REPLACING = {
    "external_link", "soft_link", "soft_link_to_itself", "external_storage", "virtual_dataset",
    "virtual_dataset_without_end", "object_references", "region_references", "dataset_of_a_named_type",
    "shape_without_bytes",
}  # fmt: skip
"""Attacks that take the place of a dataset that commands read."""


def leaks(folder: Path, allowed: set[str]) -> list[str]:
    """Files below a folder that hold the marker, other than those that are meant to."""
    found = [path for path in folder.rglob("*") if path.is_file() and MARKER.encode() in path.read_bytes()]
    return [path.name for path in found if path.name not in allowed]


# Every command


SMALL = ["--epochs", "1", "--codebook-size", "4", "--dim", "8"]
SUITE = 'name = "s"\n[data]\nfile = "{data}"\n[[system]]\nname = "popularity"\n'
COMMANDS: dict[str, tuple[str, list[str]]] = {
    "embed": ("dataset", ["embed", "EVIL", "--modalities", "image"]),
    "embed --resume": ("checkpoint", ["embed", "DATASET", "--modalities", "image", "--resume"]),
    "tokenize": ("features", ["tokenize", "EVIL", "--method", "rqvae", *SMALL]),
    "tokenize --resume": ("checkpoint", ["tokenize", "FEATURES", "--method", "rqvae", *SMALL, "--resume"]),
    "tokenize --fit-items": ("features", ["tokenize", "EVIL", "--method", "rqvae", *SMALL, "--fit-items", "6"]),
    "tokenize --append": ("tokens", ["tokenize", "FEATURES", "--append", "EVIL"]),
    "tokenize --append, features": ("features", ["tokenize", "EVIL", "--append", "GROWING"]),
    "tokenize --warm-start": ("model", ["tokenize", "FEATURES", "--warm-start", "EVIL", *SMALL]),
    "tokenize --collaborative": (
        "model", ["tokenize", "FEATURES", "--method", "letter", "--collaborative", "EVIL", *SMALL],
    ),
    "collisions": ("tokens", ["collisions", "EVIL"]),
    "collisions, second": ("model", ["collisions", "TOKENS", "EVIL"]),
    "collisions --features": ("features", ["collisions", "TOKENS", "--features", "EVIL", "--report", "page.md"]),
    "train": ("tokens", ["train", "EVIL", "--model", "popularity"]),
    "train, features": ("features", ["train", "EVIL", "--model", "popularity"]),
    "train, dataset": ("dataset", ["train", "EVIL", "--model", "popularity"]),
    "train --resume": (
        "checkpoint", ["train", "TOKENS", "--model", "sasrec", "--width", "8", "--epochs", "1", "--resume"],
    ),
    "evaluate": ("model", ["evaluate", "EVIL"]),
    "evaluate --tokens": ("tokens", ["evaluate", "MODEL", "--tokens", "EVIL"]),
    "evaluate --against": ("metrics", ["evaluate", "MODEL", "--against", "EVIL"]),
    "recommend": ("model", ["recommend", "EVIL", "--user", "u0"]),
    "recommend --tokens": ("tokens", ["recommend", "MODEL", "--tokens", "EVIL", "--user", "u0"]),
    "benchmark, data": ("dataset", ["benchmark", "suite.toml", "-o", "work"]),
    "benchmark, record": ("record", ["benchmark", "suite.toml", "-o", "work"]),
    "export, dataset": ("dataset", ["export", "EVIL", "--to", "recbole"]),
    "export, metrics": ("metrics", ["export", "EVIL", "--to", "csv"]),
    **{f"inspect, {kind}": (kind, ["inspect", "EVIL"]) for kind in ("dataset", "metrics", "checkpoint", "benchmark")},
}  # fmt: skip
"""What is run -> the kind of the file with the attack, and the words; in capitals, files."""
EVERYWHERE = ("external_link", "soft_link", "external_storage", "virtual_dataset_without_end", "shape_without_bytes")
"""Attacks that are tried on every command; the others go through the same function, and are tried on one."""


@pytest.fixture
def run(bbqrec, files, attacked, tokens):
    """`run(attack, command)`: the outcome, and what its message should say."""

    def made(which: str, command: str):
        kind, words = COMMANDS[command]
        writes = words[0] in ("embed", "tokenize", "train", "evaluate")
        place = "out.h5.checkpoint" if words[-1] == "--resume" else ""
        if command == "benchmark, record":
            Path("suite.toml").write_text(SUITE.format(data=files["dataset"]))
            machine = Machine(folder=Path("work"), device="auto", threads=0)
            place = next(iter(make_graph(load_suite("suite.toml"), machine).steps.values())).record
            place.parent.mkdir(parents=True)
        path, where, says = attacked(which, kind, place)
        if command == "benchmark, data":
            Path("suite.toml").write_text(SUITE.format(data=path))
        named = files | {"evil": path}
        given = [str(named.get(word.lower(), word)) if word.isupper() else word for word in words]
        return bbqrec(*given, *(["-o", "out.h5"] if writes else []), "--json"), f"{path}: {where} {says}"

    return made


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("which", EVERYWHERE)
def test_every_command_refuses(run, folder, which, command):
    said, expected = run(which, command)
    assert (said.status, said.out) == (3, ""), said.err
    found = json.loads(said.err.splitlines()[-1])
    assert found["error"] == "unsafe_file"
    assert found["message"].startswith(expected)
    assert MARKER not in said.err
    assert not leaks(folder, {"secret.txt", "other.h5"})
    assert not Path("out.h5").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reads_the_file_without_an_attack(run, command, monkeypatch):
    """Or what is refused above would be refused for another reason."""
    monkeypatch.setitem(ATTACKS, "nothing", lambda file, name: ("", ""))
    said, _ = run("nothing", command)
    assert "unsafe_file" not in said.err


# Every attack


@pytest.mark.parametrize("which", ATTACKS)
def test_every_attack_is_refused(attacked, bbqrec, folder, which, monkeypatch):
    """Before any data are read, whatever they would expand to."""
    path, where, says = attacked(which, "tokens")
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda node, _: pytest.fail(f"{node.name} was read"))
    said = bbqrec("inspect", path, "--json")
    assert (said.status, said.out) == (3, ""), said.err
    found = json.loads(said.err.splitlines()[-1])
    assert found["error"] == "unsafe_file"
    assert found["message"].startswith(f"{path}: {where}")
    assert says in found["message"]
    assert found["message"].isprintable()
    assert MARKER not in said.err
    with pytest.raises(UnsafeFileError):
        store.describe_parent(path)


def written_over(path: Path, old: bytes, new: bytes) -> Path:
    """What h5py does not write. Files in the oldest format, which have no checksums."""
    whole = path.read_bytes()
    assert whole.count(old) == 1
    path.write_bytes(whole.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"\x08\x40\x06mylink", b"\x08\x41\x06mylink", "/mylink is a link of the unknown kind 65"),
        (b"qqq", b"a/b", "/a/b has an invalid name"),
        (b"\0zzz\0", b"\0.\0\0\0", "/. has an invalid name"),
    ],
)
def test_links_that_h5py_does_not_write(old, new, says):
    with h5py.File("links.h5", "w") as file:
        file.create_group("qqq")
        file.create_group("zzz")
        if b"mylink" in old:
            file["mylink"] = h5py.ExternalLink("other.h5", "/")
    with pytest.raises(UnsafeFileError, match=says.replace(".", r"\.")):
        hdf5.describe(written_over(Path("links.h5"), old, new))


# What only reading shows


def catalogue_of(items: int) -> Catalogue:
    ids = [f"i{item}" for item in range(items)]
    sequences = Sequences(indptr=np.arange(items + 1), items=np.arange(items), timestamps=None)
    return Catalogue(user_ids=ids, item_ids=ids, titles=[""] * items, sequences=sequences, attributes={})


@pytest.mark.parametrize("name", ["items/image", "items/title"])
def test_many_values_that_are_the_same_bytes(name):
    """A file of 215 KB whose 4,000 pictures are the same one of 50 KB: 200 MB."""
    dataset = Dataset(catalogue=catalogue_of(4000), texts=[""] * 4000, images=[b""] * 4000)
    hdf5.write_dataset(Path("d.h5"), dataset)
    with h5py.File("d.h5", "r+") as file:
        del file[name]
        kind = h5py.vlen_dtype(np.uint8) if name == "items/image" else h5py.string_dtype()
        data = file.create_dataset(name, (4000,), kind)
        data[0] = np.ones(50_000, np.uint8) if name == "items/image" else "x" * 50_000
    repeated(Path("d.h5"), name, 4000)
    assert Path("d.h5").stat().st_size < 250_000
    with pytest.raises(UnsafeFileError, match=f"the values of /{name} take more memory than a file of"):
        list(hdf5.read_dataset(Path("d.h5")).images)


def repeated(path: Path, name: str, times: int) -> None:
    """Every value of a dataset of variable length (times) refers to the bytes of the first one."""
    with h5py.File(path) as file:
        at = file[name].id.get_offset()
    whole = bytearray(path.read_bytes())
    whole[at : at + 16 * times] = whole[at : at + 16] * times
    path.write_bytes(whole)


def test_an_attribute_of_numbers_is_none(files):
    path = Path(shutil.copy(files["tokens"], "f.h5"))
    with h5py.File(path, "r+") as file:
        file.create_dataset("attributes/mine", (4000,), h5py.vlen_dtype(np.float64))[0] = np.ones(40_000)
    repeated(path, "attributes/mine", 4000)
    with pytest.raises(BrokenFileError, match="the attribute mine cannot be read"):
        hdf5.describe(path)


def test_vectors_of_a_stranger_with_values_of_any_length():
    with h5py.File("v.h5", "w") as file:
        file.create_dataset("ids", (4000,), h5py.vlen_dtype(np.uint8))[0] = np.ones(50_000, np.uint8)
    repeated(Path("v.h5"), "ids", 4000)
    with pytest.raises(BrokenFileError, match=r"/ids cannot be read \(values of variable length that are no texts"):
        Arrays(Path("v.h5")).read("ids")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("schema_version", float("inf"), "damaged|cannot"),
        ("history", "5", "history and earlier are no lists"),
        ("earlier", "[5]", "history and earlier are no lists"),
    ],
)
def test_attributes_that_nobody_writes(files, name, value, says):
    path = Path(shutil.copy(files["tokens"], "f.h5"))
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value
    with pytest.raises(BrokenFileError, match=says):
        hdf5.describe(path)


@pytest.mark.parametrize("name", ["created", "bbqrec_version"])
def test_what_every_file_must_say(files, name):
    path = Path(shutil.copy(files["features"], "f.h5"))
    with h5py.File(path, "r+") as file:
        del file.attrs[name]
    with pytest.raises(BrokenFileError, match=f"the attribute {name} is missing"):
        hdf5.read_catalogue(path)


def test_a_long_text_where_nothing_was_written():
    hdf5.write_dataset(Path("d.h5"), Dataset(catalogue=catalogue_of(4000), texts=[""] * 4000, images=[b""] * 4000))
    with h5py.File("d.h5", "r+") as file:
        del file["items/text"]
        file.create_dataset("items/text", (4000,), h5py.string_dtype(), fillvalue="x" * 50_000)
    with pytest.raises(UnsafeFileError, match="the values of /items/text take more memory"):
        list(hdf5.read_dataset(Path("d.h5")).texts)


def pipeline(*filters: int, length: int = 60_000) -> h5p.PropDCID:
    made = h5p.create(h5p.DATASET_CREATE)
    made.set_chunk((length,))
    for code in filters:
        made.set_filter(code, h5z.FLAG_OPTIONAL, (6,) if code == h5z.FILTER_DEFLATE else (4, 261, length))
    return made


def with_chunks(files, made: h5p.PropDCID, *chunks: tuple[int, bytes], size: int = 60_000) -> Path:
    """A checkpoint with a dataset of bytes whose chunks are written past the filters: (where, bytes)."""
    path = Path(shutil.copy(files["checkpoint"], "c.h5"))
    with h5py.File(path, "r+") as file:
        data = h5d.create(file["state"].id, b"x", h5t.NATIVE_UINT8, h5s.create_simple((size,)), made)
        for start, raw in chunks:
            data.write_direct_chunk((start,), raw)
    return path


SHORT = zlib.compress(bytes(range(200)))
LZF, LZF_SHORT = b"\x00\x01" + b"\xe0\xff\x00" * 400, b"\x04hello"
"""A byte and 400 repetitions of 264 of it; five bytes as they are."""


@pytest.mark.parametrize(
    ("filters", "raw"),
    [
        ((), b"hello"),
        ((h5z.FILTER_SHUFFLE,), b"hello"),
        ((h5z.FILTER_DEFLATE,), SHORT),
        ((h5z.FILTER_DEFLATE,), zlib.compress(bytes(60_001))),
        ((h5z.FILTER_DEFLATE,), b"no gzip"),
        ((h5z.FILTER_SHUFFLE, h5z.FILTER_DEFLATE, h5z.FILTER_FLETCHER32), SHORT + b"1234"),
        ((h5z.FILTER_LZF,), LZF_SHORT),
        ((h5z.FILTER_LZF,), b"\x1fno lzf"),
        ((h5z.FILTER_FLETCHER32, h5z.FILTER_LZF), LZF_SHORT),
    ],
)
def test_chunks_that_are_too_short(files, filters, raw):
    """HDF5 would fill them up with what the process has in its memory: of other files, too."""
    path = with_chunks(files, pipeline(*filters), (0, raw))
    with pytest.raises(BrokenFileError, match=r"/state/x cannot be read \((the chunk at \(0,\) is not of|Can't)"):
        hdf5.read_checkpoint(path)


def test_a_short_chunk_after_a_whole_one(files):
    """Whose remains may still stand in the memory."""
    whole = 1 + 264 * 400
    path = with_chunks(
        files, pipeline(h5z.FILTER_LZF, length=whole), (0, LZF), (whole, LZF), (2 * whole, LZF_SHORT), size=3 * whole
    )
    with pytest.raises(BrokenFileError, match=rf"the chunk at \({2 * whole},\) is not of {whole:,} bytes"):
        hdf5.read_checkpoint(path)
    arrays, *_ = hdf5.read_checkpoint(
        with_chunks(files, pipeline(h5z.FILTER_LZF, length=whole), (0, LZF), (whole, LZF), size=2 * whole)
    )
    assert (arrays["x"] == 1).all()


def test_a_short_chunk_at_an_edge_without_filters(files):
    """It looks like a compressed one, and HDF5 takes it as it is."""
    made = pipeline(h5z.FILTER_DEFLATE)
    choose = ctypes.CDLL(h5p.__file__).H5Pset_chunk_opts
    choose.argtypes = [ctypes.c_int64, ctypes.c_uint]
    assert choose(made.id, 2) == 0
    path = with_chunks(files, made, (60_000, zlib.compress(bytes(60_000))), size=90_000)
    with pytest.raises(BrokenFileError, match="chunks at its edge are stored without its filters"):
        hdf5.read_checkpoint(path)


@pytest.mark.parametrize(
    ("kind", "name", "value", "says"),
    [
        ("model", "weights", np.zeros(9, np.float32), "/weights is not a group"),
        ("model", "weights/x", h5py.Empty("f4"), "/weights/x holds nothing"),
        ("model", "weights/x", ["text"], "/weights/x holds str; numbers are needed"),
        ("model", "weights/x", np.zeros(2, [("a", "i4")]), "/weights/x holds .*; numbers are needed"),
        ("dataset", "items/image", [np.zeros(3)] * 12, "/items/image holds object; bytes is needed"),
    ],
)
def test_what_is_no_number(files, kind, name, value, says):
    path = Path(shutil.copy(files[kind], "f.h5"))
    with h5py.File(path, "r+") as file:
        if name in file:
            del file[name]
        if isinstance(value, list) and name == "items/image":
            file.create_dataset(name, (12,), h5py.vlen_dtype(np.float64))
        else:
            file[name] = value
    with pytest.raises(BrokenFileError, match=says):
        getattr(hdf5, f"read_{kind}")(path)


def test_more_codes_than_there_can_be(files):
    """Tables of so many rows are made of them."""
    path = Path(shutil.copy(files["tokens"], "t.h5"))
    with h5py.File(path, "r+") as file:
        file.attrs["codebook_size"] = 10**10
    with pytest.raises(BrokenFileError, match=r"codebook_size is 10,000,000,000; codes end at 65,536"):
        hdf5.read_codes(path)


def test_the_name_of_an_unknown_kind_is_shown_in_part(files):
    path = Path(shutil.copy(files["tokens"], "t.h5"))
    with h5py.File(path, "r+") as file:
        file.attrs["kind"] = "\x1b[31m" + "x" * 50_000
    with pytest.raises(WrongKindError) as caught:
        hdf5.describe(path)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    assert store.describe_parent(path)["kind"] == "raw"


# What is accepted


def test_files_of_other_writers(files, tokens, tmp_path):
    """In other formats, with other filters and more in them than bbqrec knows."""
    with h5py.File(files["tokens"]) as old, h5py.File("t.h5", "w", userblock_size=512) as new:
        for key, value in old.attrs.items():
            new.attrs[key] = value.decode() if isinstance(value, bytes) else value
        for name in ("users/id", "items/id", "items/title", "items/group"):
            new.create_dataset(name, data=old[name][()].astype(object), dtype=h5py.string_dtype(), chunks=(7,))
        for name in ("sequences/indptr", "sequences/items", "sequences/timestamps"):
            new.create_dataset(name, data=old[name], chunks=(10,), maxshape=(None,), compression="gzip", shuffle=True)
        for name in ("codes", "token_of_item", "collision", "codebooks", "item_vectors"):
            new.create_dataset(name, data=old[name], chunks=True, compression="lzf", fletcher32=True)
        new["mine/compound"] = np.zeros(3, [("a", "i4"), ("b", "S5")])
        new["mine/empty"] = h5py.Empty("f4")
        new["mine/again"] = new["codes"]
        new["mine/compound"].attrs["about"] = "an attribute of variable length"
        new["mine"].attrs["names"] = ["a", "b"]
        new["items/mine/x"] = np.zeros(3)
    found = hdf5.read_tokens(Path("t.h5"))
    assert found.catalogue.titles == tokens.catalogue.titles
    np.testing.assert_array_equal(found.catalogue.sequences.items, tokens.catalogue.sequences.items)
    np.testing.assert_array_equal(found.codes.item_vectors, tokens.codes.item_vectors)
    assert hdf5.describe(Path("t.h5"))["datasets"]["mine/empty"]["shape"] == []


def test_what_compresses_best(features):
    """The most memory for a byte of a file of bbqrec's: features that all are zero, ids in order, empty titles."""
    items = 30_000
    ids = [str(item) for item in range(items)]
    sequences = Sequences(indptr=np.arange(items + 1), items=np.arange(items), timestamps=None)
    catalogue = Catalogue(
        user_ids=ids, item_ids=ids, titles=[""] * items, sequences=sequences, attributes={"brand": [""] * items}
    )
    zero = dataclasses.replace(
        features.features["text"], values=np.zeros((items, 768), np.float32), present=np.zeros(items, bool)
    )
    path = Path("f.h5")
    hdf5.write_features(path, dataclasses.replace(features, catalogue=catalogue, features={"text": zero}))
    assert zero.values.nbytes > 75 * path.stat().st_size
    assert not hdf5.read_features(path).features["text"].values.any()
    with h5py.File(path) as file:
        left = safety.check_safe(file, path).left
    assert left > safety.RATIO * path.stat().st_size * 2 // 3


@pytest.mark.slow
def test_texts_that_compress_too_well_are_stored_as_they_are(monkeypatch):
    """Columns in which all items are alike, of which every text takes memory of its own."""
    monkeypatch.setattr(safety, "ALWAYS", 0)
    items = 70_000
    ids = [f"i{item}" for item in range(items)]
    sequences = Sequences(indptr=np.array([0, items]), items=np.zeros(items, int), timestamps=None)
    alike = {f"flag{number}": ["no"] * items for number in range(8)}
    catalogue = Catalogue(user_ids=["u"], item_ids=ids, titles=[""] * items, sequences=sequences, attributes=alike)
    data = Dataset(catalogue=catalogue, texts=[""] * items, images=[b""] * items)
    hdf5.write_dataset(Path("d.h5"), data)
    assert hdf5.read_dataset(Path("d.h5")).catalogue.attributes == alike
    with h5py.File("d.h5") as file:
        assert file["items/flag0"].compression is None
        assert file["items/flag0"].fletcher32
        assert file["sequences/items"].compression == "lzf"
    hdf5.write_dataset(Path("e.h5"), dataclasses.replace(data, texts=[f"{item:a>99}" for item in ids]))
    with h5py.File("e.h5") as file:
        assert file["items/flag0"].compression == "lzf"


def test_chunks_that_do_not_compress(tmp_path):
    """HDF5 leaves the filter out of those, and says so in the chunk's mask."""
    generator = np.random.default_rng(0)
    arrays = {"noise": generator.integers(256, size=(700, 300), dtype=np.uint8), "odd": np.arange(99_999.0)}
    arrays |= {"bytes": generator.integers(4, size=(3, 5, 40_001), dtype=np.int8), "one": np.ones(70_000, bool)}
    hdf5.write_checkpoint(Path("c.h5"), arrays, {}, config={})
    found, *_ = hdf5.read_checkpoint(Path("c.h5"))
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values)


def test_a_file_of_many_datasets_opens_fast():
    """Twice as many take twice as many calls of HDF5."""

    def calls(datasets: int) -> int:
        hdf5.write_checkpoint(Path("c.h5"), {str(each): np.zeros(3) for each in range(datasets)}, {}, config={})
        events = Counter[str]()
        with h5py.File("c.h5") as file:
            sys.setprofile(lambda _, event, __: events.update([event]))
            try:
                safety.check_safe(file, Path("c.h5"))
            finally:
                sys.setprofile(None)
        return events["c_call"]

    few, many = calls(100), calls(200)
    assert 100 < many < 2.1 * few
