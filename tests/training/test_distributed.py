"""Two processes under torchrun (gloo, on the CPU) against one: the same global batches, one writer, one checkpoint.

Without dropout what is learnt is the same up to the rounding of sums: losses to 1e-4 of their size, weights to 0.005
(Adam's steps are as long for a gradient of 1e-9 as for one of 1), codes and validation figures equal. With dropout the
processes draw other masks than one process would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bbqrec_cli import hdf5
from bbqrec_cli.data.batches import Batch
from bbqrec_cli.data.splits import PAD
from bbqrec_cli.training import distributed
from bbqrec_cli.training.distributed import ALONE, World

ADAM = 0.005
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
COMMON = ["--device", "cpu", "--precision", "fp32", "--dropout", "0", "--json"]
MODELS = {
    "sasrec": ["--model", "sasrec", "--epochs", "3", "--width", "8", "--batch-size", "9", "--learning-rate", "0.01"],
    "bbqrec": ["--epochs", "3", "--width", "8", "--layers", "1", "--decoder-layers", "1", "--batch-size", "9"],
    # Pre-training takes its negatives from the whole batch, whoever computes it.
    "vq-rec": ["--model", "vq-rec", "--pretrain-epochs", "2", "--epochs", "1", "--width", "8", "--batch-size", "9"],
    "missrec": ["--model", "missrec", "--pretrain-epochs", "2", "--epochs", "1", "--width", "8", "--batch-size", "9"],
}
TOKENIZER = [
    "--levels", "2", "--codebook-size", "6", "--dim", "8", "--hidden", "16", "--epochs", "4", "--batch-size", "9",
    "--sequence-layers", "1",
]  # fmt: skip


def two(*arguments: object) -> subprocess.Popen:
    """Two processes of a script, or of a module after -m, in a process group of their own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [*TORCHRUN, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip


def finished(running: subprocess.Popen) -> str:
    out, err = running.communicate(timeout=240)
    assert running.returncode == 0, err
    return out


def losses(history: list[dict]) -> list[float]:
    return [row["loss"] for row in history]


def validations(history: list[dict]) -> list[float]:
    """Pre-training has none."""
    return [row["ndcg@10"] for row in history if "ndcg@10" in row]


EVERY = """
import contextlib, json, sys
from bbqrec_cli.cli import app

for name, arguments in json.load(open(sys.argv[1])).items():
    with open(f"{sys.argv[1]}.{name}", "a") as said, contextlib.redirect_stdout(said):
        try:
            app.main(arguments)
        except SystemExit as done:
            assert not done.code, name
"""


@pytest.mark.slow
def test_two_processes_do_what_one_does(bbqrec, files, tmp_path):
    """All in one start of torchrun, which takes longer than they."""
    runs = {name: ["train", files["features" if name == "missrec" else "tokens"], *options]
            for name, options in MODELS.items()}  # fmt: skip
    runs["tokenize"] = ["tokenize", files["features"], *TOKENIZER]
    runs = {name: list(map(str, arguments)) for name, arguments in runs.items()}
    asked, script = tmp_path / "asked", tmp_path / "every.py"
    asked.write_text(
        json.dumps({name: [*each, "-o", f"{tmp_path}/{name}-two.h5", *COMMON] for name, each in runs.items()})
    )
    script.write_text(EVERY)
    finished(two(script, asked))
    said = {name: (tmp_path / f"asked.{name}").read_text() for name in runs}
    for name, arguments in runs.items():
        assert said[name].count("\n") == 1, "one of them talks"
        assert bbqrec(*arguments, "-o", tmp_path / f"{name}-one.h5", *COMMON).status == 0
    for name in MODELS:
        one, other = (hdf5.read_model(tmp_path / f"{name}-{processes}.h5") for processes in ("one", "two"))
        assert losses(other.history) == pytest.approx(losses(one.history), rel=1e-4), name
        assert validations(other.history) == pytest.approx(validations(one.history), abs=1e-6), name
        for parameter, value in one.weights.items():
            np.testing.assert_allclose(other.weights[parameter], value, atol=ADAM, err_msg=f"{name}: {parameter}")
        best = json.loads(said[name])["validation"]["ndcg@10"]
        assert best == pytest.approx(max(validations(one.history))), name
    one, other = (hdf5.read_tokens(tmp_path / f"tokenize-{processes}.h5") for processes in ("one", "two"))
    np.testing.assert_array_equal(other.codes.codes, one.codes.codes)
    np.testing.assert_allclose(other.codes.item_vectors, one.codes.item_vectors, atol=ADAM)
    assert losses(other.history) == pytest.approx(losses(one.history), rel=1e-4)
    assert other.history[-1]["ndcg@10"] == pytest.approx(one.history[-1]["ndcg@10"], abs=1e-6)


@pytest.mark.slow
def test_what_two_began_one_goes_on_with(bbqrec, files, tmp_path):
    many = ["--model", "sasrec", "--epochs", "15", "--width", "8", "--batch-size", "2", "--patience", "0", *COMMON]
    output, checkpoint = tmp_path / "m.h5", tmp_path / "m.h5.checkpoint"
    running = two("-m", "bbqrec_cli", "train", files["tokens"], "-o", output, *many)
    until = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < until:
        time.sleep(0.005)
    workers = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    for process in (running.pid, *map(int, workers)):
        os.kill(process, signal.SIGKILL)
    running.communicate()
    assert checkpoint.exists()
    if output.exists():
        pytest.fail("it was over before it was killed")
    resumed = bbqrec("train", files["tokens"], "-o", output, *many, "--resume")
    assert (resumed.status, "resumed after epoch" in resumed.err) == (0, True), resumed.err
    assert bbqrec("train", files["tokens"], "-o", tmp_path / "one.h5", *many).status == 0
    one, other = (hdf5.read_model(path) for path in (tmp_path / "one.h5", output))
    assert losses(other.history) == pytest.approx(losses(one.history), rel=1e-3)
    assert not checkpoint.exists()


TOGETHER = """
import atexit
import sys
import torch
from bbqrec_cli.errors import LackingError
from bbqrec_cli.training.distributed import check_cards, start_process

# Registered first, it runs last.
atexit.register(lambda: open(f"{sys.argv[1]}/over{world.rank}", "w").write(repr(torch.distributed.is_initialized())))
world, device = start_process("cpu", 1)
torch.manual_seed(world.rank)
module = torch.nn.BatchNorm1d(3)
torch.nn.init.normal_(module.weight)
module.running_mean.fill_(world.rank)
world.broadcast(module)
said = [world.first(10.0 + world.rank), *module.weight.tolist(), *module.running_mean.tolist()]
for card in ("a", f"{world.rank}"):
    try:
        check_cards(card, 2)
    except LackingError as error:
        said.append(error.message)
open(f"{sys.argv[1]}/{world.rank}", "w").write(repr(said))
world.barrier()
assert open(f"{sys.argv[1]}/{1 - world.rank}").read()
"""


def test_both_have_what_the_first_has(tmp_path):
    """Its time, by which all end; its weights and buffers. Neither may have the other's card. At the end no group is
    left, whose threads could abort."""
    (tmp_path / "together.py").write_text(TOGETHER)
    finished(two(tmp_path / "together.py", tmp_path))
    first, second = (eval((tmp_path / name).read_text()) for name in "01")
    assert first == second
    assert first[0] == 10.0
    assert first[-4:] == [*[0.0] * 3, "2 processes have 1 GPU in all; each needs its own"]
    assert [(tmp_path / f"over{rank}").read_text() for rank in "01"] == ["False"] * 2


def test_parts_are_the_whole():
    items = torch.arange(15).view(5, 3)
    targets = torch.tensor([[1, 2, PAD], [PAD, PAD, 3], [4, 5, 6], [PAD, 7, PAD], [8, PAD, PAD]])
    batch = Batch(items, targets)
    assert batch.part(0, 1) is batch
    parts = [batch.part(rank, 3) for rank in range(3)]
    assert sum(part.weight for part in parts) == batch.weight == 8
    assert sorted(torch.cat([part.items for part in parts])[:, 0].tolist()) == items[:, 0].tolist()
    assert [part.weight for part in (batch.part(rank, 7) for rank in range(7))] == [2, 1, 3, 1, 1, 0, 0]


def test_alone_nothing_is_asked_of_others():
    assert (ALONE.rank, ALONE.size, ALONE.writes) == (0, 1, True)
    assert not World(rank=1, size=2).writes
    values = torch.ones(3)
    assert ALONE.sum(values) is values
    assert ALONE.first(2.5) == 2.5
    parameter = torch.nn.Parameter(torch.ones(2))
    ALONE.sum_gradients([parameter])
    assert parameter.grad is None


@pytest.mark.parametrize(("waits", "done", "left"), [
    (True, True, ["group"]), (True, False, [1]), (False, False, ["group"]), (False, True, ["group"])
])  # fmt: skip
def test_who_fails_waits_for_nobody(waits, done, left, monkeypatch):
    """The end of NCCL's group would wait for the others, which wait for this one."""
    ends = []
    monkeypatch.setattr(distributed._Group, "done", done)
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: ends.append("group"))
    monkeypatch.setattr(distributed.os, "_exit", ends.append)
    distributed._leave(waits=waits)
    assert ends == left


def test_on_a_mac_processes_compute_on_the_cpu(monkeypatch):
    """No backend sums on its GPU."""
    asked = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(torch.distributed, "init_process_group", asked.append)
    monkeypatch.setattr(distributed.atexit, "register", lambda call, **options: None)
    world, device = distributed.join_world(torch.device("mps"))
    assert (world, device, asked) == (World(rank=1, size=2), torch.device("cpu"), ["gloo"])
