"""The failure matrix, from the real command line: what goes wrong is named, nothing is lost, and no traceback shows."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.data.sources.registry import SOURCES
from bbqrec_cli.records import Sequences, Tokens

NEEDS = {
    "embed": ("dataset", "bbqrec prepare"),
    "tokenize": ("features", "bbqrec embed"),
    "collisions": ("tokens", "bbqrec tokenize"),
    "train": ("tokens", "bbqrec tokenize"),
    "evaluate": ("model", "bbqrec train"),
    "recommend": ("model", "bbqrec train"),
}
"""command -> the kind that it reads, and the command that makes it."""
WRITES = ("embed", "tokenize", "train", "evaluate")
QUICK = {
    "embed": ["--modalities", "image"],
    "tokenize": ["--epochs", "1", "--warmup-epochs", "0", "--codebook-size", "4", "--dim", "8", "--signals", "text"],
    "train": ["--model", "popularity"],
}
"""Options with which a command is done in a moment."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Every run starts in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(bbqrec) -> Callable[..., dict]:
    """`refused(status, code, *arguments)`: the error of a run, with --json and for people."""

    def run(status: int, code: str, *arguments: object) -> dict:
        said = bbqrec(*arguments, "--json")
        assert (said.status, said.out) == (status, ""), said.err
        assert "Traceback" not in said.err
        found = json.loads(said.err.splitlines()[-1])
        assert found.keys() == {"error", "message", "hint"}
        assert found["error"] == code
        plain = bbqrec(*arguments)
        assert (plain.status, plain.out) == (status, "")
        assert "Traceback" not in plain.err
        assert f"error: {found['message']}" in plain.err
        return found

    return run


def copy(files: dict[str, Path], kind: str) -> Path:
    return Path(shutil.copy(files[kind], f"{kind}.h5"))


@pytest.mark.parametrize("command", NEEDS)
def test_another_kind_of_file(refused, files, command):
    kind, maker = NEEDS[command]
    found = refused(3, "wrong_kind", command, files["metrics"])
    assert f"{files['metrics']}: is a metrics file; a {kind}" in found["message"]
    assert maker in found["hint"]


@pytest.mark.parametrize("command", NEEDS)
def test_no_file_or_none_of_ours(refused, command):
    found = refused(3, "missing_file", command, "none.h5")
    assert found["message"] == "none.h5: no such file"
    assert NEEDS[command][1] in found["hint"]
    Path("text.h5").write_text("user,item\n")
    assert "text.h5: not an HDF5 file" in refused(3, "broken_file", command, "text.h5")["message"]
    assert "is a folder" in refused(3, "broken_file", command, ".")["message"]
    with h5py.File("other.h5", "w") as file:
        file["x"] = 1
    assert "not one of bbqrec's" in refused(3, "wrong_kind", command, "other.h5")["message"]


@pytest.mark.parametrize("command", NEEDS)
def test_truncated_file(refused, files, command):
    path = copy(files, NEEDS[command][0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"{path}: a truncated or damaged HDF5 file" in refused(3, "broken_file", command, path)["message"]


@pytest.mark.parametrize("command", NEEDS)
def test_newer_schema(refused, files, command):
    path = copy(files, NEEDS[command][0])
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 99
    found = refused(3, "newer_version", command, path)
    assert "schema version 99" in found["message"]
    assert "upgrade" in found["hint"]


@pytest.mark.parametrize("command", WRITES)
def test_existing_output(refused, files, command):
    Path("mine.h5").write_text("mine")
    found = refused(3, "output_exists", command, files[NEEDS[command][0]], "-o", "mine.h5")
    assert "--force" in found["hint"]
    assert Path("mine.h5").read_text() == "mine"
    assert os.listdir() == ["mine.h5"]


@pytest.mark.parametrize("command", WRITES)
def test_no_folder_for_the_output(refused, files, command):
    found = refused(3, "bad_data", command, files[NEEDS[command][0]], "-o", "no/such/o.h5")
    assert found["hint"] == "mkdir -p no/such"
    assert "is a folder" in refused(3, "bad_data", command, files[NEEDS[command][0]], "-o", ".")["message"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["prepare", "s3rek", "x"], f"SOURCE is 's3rek'; known: {', '.join(SOURCES)} (did you mean 's3rec'?)"),
        (["tokenize", "FEATURES", "--method", "rqvea"], "(did you mean 'rqvae'?)"),
        (["train", "TOKENS", "--model", "tigre"], "(did you mean 'tiger'?)"),
        (["train", "TOKENS", "--model", "sasrec", "--heads", "3"], "--width 64 is not a multiple of --heads 3"),
        (["train", "TOKENS", "--device", "tpu9"], "tpu9"),
        (["evaluate", "MODEL", "--split", "tset"], "(did you mean 'test'?)"),
        (["evaluate", "MODEL", "--k", "0"], "--k is 0"),
        (["recommend", "MODEL", "--user", "u99"], "no user 'u99'"),
    ],
)
def test_wrong_usage(refused, files, arguments, says):
    named = [files.get(each.lower(), each) for each in arguments]
    found = refused(2, "usage", *named)
    assert says in found["message"]
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("name", "content", "more", "says"),
    [
        ("sequences.txt", "1 5 6 7\n2\n", ["s3rec"], "line 2: user '2' has no items"),
        ("sequences.txt", "1 5 6 7\n\n1 5 6\n", ["s3rec"], "line 3: user '1' has line 1 already"),
        ("r.csv", "user,item,timestamp\na,b,1\na,c\n", ["table"], "line 3"),
        ("r.csv", "user,item,timestamp\na,b,noon\n", ["table"], "line 2: timestamp is 'noon'"),
        ("r.csv", "user,item,timestamp\na,b,nan\n", ["table"], "line 2"),
        ("r.csv", "user,item,timestamp\na,,3\n", ["table"], "line 2"),
        ("r.csv", "who,what\na,b\n", ["table"], "user"),
        ("r.csv", "", ["table"], "empty"),
    ],
)
def test_malformed_lines_are_numbered(refused, name, content, more, says):
    Path(name).write_text(content)
    found = refused(3, "bad_data", "prepare", *more, name)
    assert name in found["message"]
    assert says in found["message"]
    assert os.listdir() == [name]


def test_bytes_that_are_no_text(refused):
    Path("r.csv").write_bytes(b"user,item,timestamp\na,b,1\na,\xff,2\n")
    found = refused(3, "bad_data", "prepare", "table", "r.csv")
    assert "r.csv, line 3" in found["message"]
    assert "not UTF-8" in found["message"]


def test_bytes_that_are_no_text_in_a_file_that_ends_too_early(refused):
    Path("r.csv.gz").write_bytes(gzip.compress(b"\xff\n\xff")[:-8])
    assert "r.csv.gz" in refused(3, "bad_data", "prepare", "table", "r.csv.gz")["message"]


def test_an_item_that_appears_twice(refused):
    Path("r.csv").write_text("user,item,timestamp\n" + "".join(f"u,i{n},{n}\n" for n in range(4)))
    Path("items.csv").write_text("item,title\ni1,one\ni2,two\ni1,three\n")
    found = refused(3, "bad_data", "prepare", "table", "r.csv", "--items", "items.csv")
    assert "items.csv, line 4: item 'i1' appears twice" in found["message"]


def test_an_item_that_nobody_took(bbqrec):
    """It is no item of the catalogue: nothing could be learnt of it, and it would make every ranking longer."""
    Path("r.csv").write_text("user,item,timestamp\n" + "".join(f"u,i{n},{n}\n" for n in range(4)))
    Path("items.csv").write_text("item,title\n" + "".join(f"i{n},title {n}\n" for n in range(6)))
    said = bbqrec("prepare", "table", "r.csv", "--items", "items.csv", "--json")
    assert said.status == 0
    assert json.loads(said.out)["items"] == 4


def test_an_item_that_is_only_a_target(bbqrec, catalogue, codes):
    """Item 11 is in no training sequence, and item 10 in none at all: they are ranked all the same."""
    walks = [[user % 10, (user + 1) % 10, (user + 2) % 10, 11] for user in range(30)]
    rare = dataclasses.replace(catalogue, sequences=Sequences.from_lists(walks))
    hdf5.write_tokens(Path("tokens.h5"), Tokens(catalogue=rare, codes=codes), config={})
    quick = ["--epochs", "1", "--width", "8", "--layers", "1", "--decoder-layers", "1"]
    assert bbqrec("train", *quick).status == 0
    assert json.loads(bbqrec("evaluate", "--k", "12", "--json").out)["recall@12"] == 1.0


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_nan_in_features(refused, features, bad):
    broken = dataclasses.replace(features.features["text"], values=features.features["text"].values.copy())
    broken.values[7, 2] = bad
    made = dataclasses.replace(features, features=features.features | {"text": broken})
    hdf5.write_features(Path("features.h5"), made)
    found = refused(3, "bad_data", "tokenize")
    assert (
        "features.h5: /features/text/values: NaN or infinity in 1 of 12 items, first in item 'i7'" in found["message"]
    )


@contextlib.contextmanager
def limit(what: int, soft: int) -> Iterator[None]:
    """Of this process; the hard limit stays, so that it can be lifted again."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@pytest.mark.parametrize("command", ["prepare", *WRITES])
@pytest.mark.parametrize("old", [False, True])
def test_a_disk_that_fills(bbqrec, files, command, old):
    """A limit on a file's size stands for it. The old output stays, and nothing else is left."""
    if old:
        Path("o.h5").write_text("old")
    given = ["demo", "--size", "small"] if command == "prepare" else [files[NEEDS[command][0]]]
    with limit(resource.RLIMIT_FSIZE, 2000):
        said = bbqrec(command, *given, "-o", "o.h5", "--force", "--json", *QUICK.get(command, []))
    assert (said.status, said.out) == (4, ""), said.err
    found = json.loads(said.err.splitlines()[-1])
    assert found["error"] == "disk_full"
    assert "the disk is full; nothing was written" in found["message"]
    assert os.listdir() == (["o.h5"] if old else [])
    assert not old or Path("o.h5").read_text() == "old"


@pytest.mark.parametrize("command", WRITES)
def test_a_folder_that_may_not_be_written(refused, files, command, monkeypatch):
    Path("closed").mkdir(mode=0o555)
    if os.geteuid() == 0:  # root may write everywhere
        monkeypatch.setattr(os, "access", lambda *_, **__: False)
    found = refused(4, "environment", command, files[NEEDS[command][0]], "-o", "closed/o.h5")
    assert "no permission to write to the folder closed" in found["message"]
    assert os.listdir("closed") == []


def test_no_memory(refused, files):
    """The address space stands for it: little more than what the process has already."""
    import torch  # noqa: F401  (what it maps does not count)

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    with limit(resource.RLIMIT_AS, pages * resource.getpagesize() + (1 << 29)):
        found = refused(4, "environment", "train", files["tokens"], "--model", "sasrec", "--width", "30000")
    assert found["message"].startswith("out of memory")
    assert "--batch-size" in found["hint"]
    assert os.listdir() == []


@pytest.mark.parametrize("method", ["bbqrec", "rqvae"])
def test_no_faiss(refused, files, monkeypatch, method):
    """Said before the work, not when k-means comes."""
    monkeypatch.setitem(sys.modules, "faiss", None)
    found = refused(4, "missing_package", "tokenize", files["features"], "--method", method)
    assert "faiss" in found["message"]
    assert "pip install 'bbqrec[cpu]'" in found["hint"]
    assert os.listdir() == []


def test_a_broken_installation(refused, files, monkeypatch):
    """A package that every installation should have."""
    monkeypatch.delitem(sys.modules, "bbqrec_cli.evaluation.significance", raising=False)
    monkeypatch.setitem(sys.modules, "scipy", None)
    found = refused(4, "missing_package", "evaluate", files["model"], "--against", files["metrics"], "--force")
    assert found["message"] == "the package scipy is not installed"
    assert os.listdir() == [], "said before the work"


SLOW = """
import os, sys, time
from bbqrec_cli.cli import app
from bbqrec_cli.hdf5 import store
write = store._write_dataset
def slow(file, *what):
    write(file, *what)
    file.flush()
    os.write(2, b"begun\\n")
    time.sleep(3)
store._write_dataset = slow
app.main(sys.argv[1:])
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_while_the_output_is_written(how, files):
    """The old output stays whole; the next run does not mind what a killed one left."""
    Path("r.txt").write_text("1 5 6 7\n2 6 5 7\n")
    old = Path(shutil.copy(files["dataset"], "o.h5")).read_bytes()
    arguments = ["prepare", "s3rec", "r.txt", "-o", "o.h5", "--force", "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stderr is not None
        while run.stderr.readline() != b"begun\n":
            assert run.poll() is None
        run.send_signal(how)
        out, err = run.communicate(timeout=60)
    assert Path("o.h5").read_bytes() == old
    assert out == b""
    if how == signal.SIGKILL:
        assert run.returncode == -9
    else:
        assert run.returncode == 130
        assert json.loads(err.splitlines()[-1])["error"] == "interrupted"
        assert sorted(os.listdir()) == ["o.h5", "r.txt"]
    again = subprocess.run([sys.executable, "-m", "bbqrec_cli", *arguments], capture_output=True, check=True)
    assert json.loads(again.stdout)["users"] == 2
    assert sorted(os.listdir()) == ["o.h5", "r.txt"]
    assert hdf5.read_dataset(Path("o.h5")).catalogue.items == 3


MISSING = {
    "prepare table none.csv": "-o",
    "prepare movielens none": "-o",
    "embed none.h5": "-o",
    "tokenize none.h5": "-o",
    "tokenize FEATURES --append none.h5": "-o",
    "collisions none.h5": "--report",
    "collisions none.json": "--report",
    "collisions TOKENS --features none.h5": "--report",
    "train none.h5": "-o",
    "train TOKENS --from none.h5": "-o",
    "evaluate none.h5": "-o",
    "evaluate MODEL --tokens none.h5": "-o",
    "evaluate MODEL --against none.h5": "-o",
    "compare METRICS none.h5": "--report",
    "tune none.h5 --model popularity": "--report",
    "export none.h5 --to csv": "-o",
    "benchmark none.toml": "--report",
    "benchmark speed --tokens none.h5": "--report",
}
"""A command line with an input that is not there, and the option that names its output."""


@pytest.mark.parametrize("words", MISSING)
def test_a_missing_input_is_the_first_complaint(refused, files, words):
    """Before an output that is there already, or whose folder is not."""
    given = [files.get(word.lower(), word) for word in words.split()]
    Path("mine.html").write_text("mine")
    for output in ("mine.html", "no/such/mine.html"):
        found = refused(3, "missing_file", *given, MISSING[words], output)
        assert "none" in found["message"]
        assert "no such" in found["message"]
    assert Path("mine.html").read_text() == "mine"


@pytest.mark.parametrize("command", ["embed", "tokenize", "train"])
def test_an_interrupted_runs_checkpoint_is_not_lost(refused, bbqrec, files, command):
    """Neither with an output of before nor without one; --force is the consent."""
    checkpoint = Path("mine.h5.checkpoint")
    checkpoint.write_text("hours of work")
    words = [command, files[NEEDS[command][0]], *QUICK[command], "-o", "mine.h5"]
    for there in (False, True):
        if there:
            Path("mine.h5").write_text("mine")
        found = refused(3, "output_exists", *words)
        assert found["message"] == "mine.h5.checkpoint: the checkpoint of an interrupted run would be lost"
        assert "--resume" in found["hint"]
        assert "--force" in found["hint"]
    assert (checkpoint.read_text(), Path("mine.h5").read_text()) == ("hours of work", "mine")
    assert bbqrec(*words, "--force").status == 0
