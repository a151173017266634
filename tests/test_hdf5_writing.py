"""Whole files or nothing: outputs that exist or can not be, full disks, Ctrl-C and kill while a file is written."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.errors import BrokenFileError, DiskFullError, LackingError, OutputExistsError
from bbqrec_cli.hdf5 import store
from bbqrec_cli.records import LAST, Sequences, Splitting


def test_existing_output(tmp_path, features):
    path = tmp_path / "f.h5"
    hdf5.write_features(path, features)
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match="exists already") as caught:
        hdf5.write_features(path, features)
    assert "--force" in caught.value.hint
    assert path.read_bytes() == before
    hdf5.write_features(path, features, config={"seed": 1}, force=True)
    assert hdf5.describe(path)["config"] == {"seed": 1}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_when_syncing(files, tmp_path, features, number, monkeypatch):
    path = Path(shutil.copy(files["features"], tmp_path / "f.h5"))
    before = path.read_bytes()

    def full(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="the disk is full"):
        hdf5.write_features(path, features, config={"seed": 9}, force=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["f.h5"]


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from bbqrec_cli import hdf5
from bbqrec_cli.errors import DiskFullError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    hdf5.write_checkpoint(Path(sys.argv[1]), {"x": np.random.default_rng(0).random(50_000)}, {}, config={})
except DiskFullError as error:
    print(error)
"""


def test_full_disk_while_writing(tmp_path, files):
    """A limit on the file's size stands for the full disk: write() fails in the middle, at flush or on closing."""
    path = Path(shutil.copy(files["checkpoint"], tmp_path / "c.h5"))
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the disk is full; nothing was written" in done.stdout
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["c.h5"]


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from bbqrec_cli import hdf5
from bbqrec_cli.hdf5 import schema, store
write = store._write_dataset
def slow(file, *what):
    write(file, *what)
    file.flush()
    print("begun", flush=True)
    time.sleep(60)
store._write_dataset = slow
hdf5.write_checkpoint(Path(sys.argv[1]), {"x": np.arange(100_000)}, {}, config={})
"""


def test_kill_in_the_middle(tmp_path, files):
    """The old output stays whole, a second writer waits its turn, and what the killed one left does not matter."""
    path = Path(shutil.copy(files["checkpoint"], tmp_path / "c.h5"))
    before = path.read_bytes()
    with subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begun\n"
        with pytest.raises(LackingError, match="another run is writing to it"):
            hdf5.write_checkpoint(path, {}, {}, config={})
        writer.send_signal(signal.SIGKILL)
    assert path.read_bytes() == before
    assert set(os.listdir(tmp_path)) == {"c.h5", ".c.h5.partial"}
    hdf5.write_checkpoint(path, {"y": np.arange(2)}, {}, config={})
    assert hdf5.read_checkpoint(path)[0]["y"].tolist() == [0, 1]
    assert os.listdir(tmp_path) == ["c.h5"]


SIGNALLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from bbqrec_cli import hdf5
from bbqrec_cli.hdf5.sink import Sink
path, before, calls = Path(sys.argv[1]), Path(sys.argv[1]).read_bytes(), 0

def counted(method):
    def call(self, *rest):
        global calls
        calls += 1
        if calls == stop:
            os.kill(os.getpid(), [signal.SIGINT, signal.SIGTERM][stop % 2])
        return method(self, *rest)
    return call

def terminate(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, terminate)
for name in ("write", "read", "readinto", "seek", "tell", "truncate", "flush"):
    setattr(Sink, name, counted(getattr(Sink, name)))
for stop in range(1, 1000):
    calls, interrupted = 0, False
    try:
        hdf5.write_checkpoint(path, {"x": np.arange(30_000), "y": np.arange(9)}, {"note": "n" * 70_000}, config={})
    except KeyboardInterrupt:
        interrupted = True
    assert os.listdir(path.parent) == [path.name], stop
    if calls < stop:
        break
    assert interrupted, stop
    assert path.read_bytes() == before, stop
assert hdf5.read_checkpoint(path)[1] == {"note": "n" * 70_000}
assert signal.getsignal(signal.SIGTERM) is terminate
print(stop)
"""


def test_a_signal_at_any_moment_of_writing(tmp_path, files):
    """While HDF5 calls the sink an exception would crash it: Ctrl-C and SIGTERM wait until it has let go."""
    path = Path(shutil.copy(files["checkpoint"], tmp_path / "c.h5"))
    done = subprocess.run([sys.executable, "-c", SIGNALLED, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"parts": np.zeros(3, dtype=np.uint8)}, "go together"),
        ({"items": np.array([0, 1, 12])}, "names an item row outside 0…11"),
        ({"indptr": np.array([0, 2])}, "does not fit"),
        ({"parts": np.array([0, -1, 2], dtype=np.int8)}, "must rise from 0 to 2"),
        ({"parts": np.array([0, 1], dtype=np.uint8)}, "has 2 values, /sequences/items 3"),
    ],
)
def test_what_readers_refuse_is_not_written(tmp_path, dataset, changes, says):
    walks = dataclasses.replace(Sequences.from_lists([[0, 1, 2]]), **changes)
    splitting = Splitting(kind="given") if "must" in says or "values" in says else LAST
    catalogue = dataclasses.replace(dataset.catalogue, user_ids=["u"], sequences=walks, splitting=splitting)
    with pytest.raises(BrokenFileError, match=says):
        hdf5.write_dataset(tmp_path / "d.h5", dataclasses.replace(dataset, catalogue=catalogue), config={})
    assert not list(tmp_path.iterdir())


def test_a_bug_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        hdf5.write_checkpoint(tmp_path / "c.h5", {"x": np.array([object()])}, {}, config={})
    with pytest.raises(BrokenFileError, match="/items/text is missing"):
        store.write(tmp_path / "d.h5", "dataset", {})
    assert os.listdir(tmp_path) == []


def test_a_file_that_another_program_is_writing_is_not_called_damaged(tmp_path, files):
    path = Path(shutil.copy(files["tokens"], tmp_path / "t.h5"))
    with h5py.File(path, "r+"):
        done = subprocess.run(
            [sys.executable, "-m", "bbqrec_cli", "inspect", path], capture_output=True, text=True, check=False
        )
    assert (done.returncode, "another program is writing to it" in done.stderr) == (3, True), done.stderr
    assert hdf5.read_tokens(path).catalogue.items
