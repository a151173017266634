"""A catalogue so small that every answer is known by heart, and a file of each kind made of it.

12 items in three groups of four: fruit (rows 0-3), tools (4-7), books (8-11). 30 users, ten a group; a user walks round
the four items of the group in order, again and again: after `apple` always comes `banana`, after `date` `apple` again.
Two things are missing: item 5 (`pliers`) has no picture, item 10 (`poems`) has no text.

Everything is deterministic, frozen and shared by the whole session: copy a file before changing it.
"""

from __future__ import annotations

import html
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and faiss: tests run side by side

import numpy as np
import pytest
from PIL import Image

from bbqrec_cli import hdf5
from bbqrec_cli.records import (
    Catalogue,
    Codes,
    Dataset,
    Feature,
    Features,
    Metrics,
    Sequences,
    Tokens,
    TrainedModel,
)

GROUPS = {
    "fruit": ("apple", "banana", "cherry", "date"),
    "tools": ("hammer", "pliers", "saw", "drill"),
    "books": ("novel", "atlas", "poems", "diary"),
}
COLOURS = ("red", "green", "blue")
NO_PICTURE, NO_TEXT = 5, 10


def pytest_configure() -> None:
    """Ctrl-C works in what the tests start, also where the tests run in a shell's background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `benchmark` remembers of its runs is not the user's."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def quick_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Python that starts in no time, for tests that run many commands (`quick.py`); elsewhere than on Linux, where
    torch may not be forked, the usual one."""
    if sys.platform != "linux":
        yield sys.executable
        return
    folder = tmp_path_factory.mktemp("quick")
    command = [sys.executable, str(Path(__file__).with_name("quick.py")), "serve", str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield str(folder / "python")
        server.stdin.close()


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take seconds: pages have empty ones, but in tests marked `drawn`."""
    if not request.node.get_closest_marker("drawn"):
        monkeypatch.setattr(
            "bbqrec_cli.pages.svg.svg",
            lambda draw, *, width, height, title: f'<svg aria-label="{html.escape(title)}"/>',
        )


@pytest.fixture(scope="session")
def successor() -> np.ndarray:
    """(12,): the item that every user takes after item i."""
    item = np.arange(12)
    return item - item % 4 + (item + 1) % 4


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    """30 users (u0 …) of 6 to 9 interactions; user u is of group u % 3 and starts at item (u // 3) % 4 of it."""
    walks = [[4 * (u % 3) + (u // 3 + step) % 4 for step in range(6 + u % 4)] for u in range(30)]
    return Catalogue(
        user_ids=[f"u{u}" for u in range(30)],
        item_ids=[f"i{i}" for i in range(12)],
        titles=[name for names in GROUPS.values() for name in names],
        sequences=Sequences.from_lists(walks, [[100 * step for step in range(len(walk))] for walk in walks]),
        attributes={"group": [group for group, names in GROUPS.items() for _ in names]},
    )


@pytest.fixture(scope="session")
def dataset(catalogue: Catalogue) -> Dataset:
    """Texts such as 'apple, one of the fruit'; pictures: the colour is the group, the place of the square the item."""
    texts = [f"{name}, one of the {group}" for group, names in GROUPS.items() for name in names]
    texts[NO_TEXT] = ""
    images = [picture(COLOURS[item // 4], item % 4) for item in range(12)]
    images[NO_PICTURE] = b""
    return Dataset(catalogue=catalogue, texts=texts, images=images)


def picture(colour: str, place: int) -> bytes:
    """A PNG of 32 × 32: a square of `colour` in one of the four corners of a white ground."""
    image = Image.new("RGB", (32, 32), "white")
    image.paste(Image.new("RGB", (16, 16), colour), (16 * (place % 2), 16 * (place // 2)))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def features(catalogue: Catalogue) -> Features:
    """text and image, (12, 8) each: the group's direction plus a smaller one of the item, unit length."""
    generator = np.random.default_rng(0)

    def feature(missing: int) -> Feature:
        groups, own = generator.standard_normal((3, 8)), generator.standard_normal((12, 8))
        values = np.repeat(groups, 4, axis=0) + 0.5 * own
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        present = np.arange(12) != missing
        return Feature(
            values=(values * present[:, None]).astype(np.float32), present=present, encoder="tiny", normalized=True
        )

    return Features(catalogue=catalogue, features={"text": feature(NO_TEXT), "image": feature(NO_PICTURE)})


@pytest.fixture(scope="session")
def codes() -> Codes:
    """(12, 2, 2): level 0 is the group, level 1 the item's place in it, the same for the signals id and text."""
    item = np.arange(12)
    both = np.stack([item // 4, item % 4], axis=1)
    books = np.random.default_rng(1).standard_normal((1, 2, 4, 4)).astype(np.float32)
    vectors = books[0, 0, both[:, 0]] + books[0, 1, both[:, 1]]
    return Codes(
        codes=np.repeat(both[:, :, None], 2, axis=2).astype(np.uint16), modalities=("id", "text"), method="bbqrec",
        codebook_size=4, codebooks=books, item_vectors=np.concatenate([vectors, vectors], axis=1),
    )  # fmt: skip


@pytest.fixture(scope="session")
def tokens(catalogue: Catalogue, codes: Codes) -> Tokens:
    """Every item has an ID of its own; the first code alone says the group."""
    return Tokens(catalogue=catalogue, codes=codes, history=[{"epoch": 1, "loss": 0.5}])


@pytest.fixture(scope="session")
def trained_model(catalogue: Catalogue, codes: Codes) -> TrainedModel:
    """`popularity`, the model that needs no training."""
    counts = np.bincount(catalogue.sequences.without_last(2).items, minlength=12)
    return TrainedModel(
        catalogue=catalogue, name="popularity", settings={}, weights={"counts": counts.astype(np.float32)}, codes=codes,
        history=[{"epoch": 0}],
    )  # fmt: skip


@pytest.fixture(scope="session")
def metrics(catalogue: Catalogue) -> Metrics:
    """User u's target is at rank 1 + u % 10: recall@5 is one half, recall@10 is one."""
    ranks = 1 + np.arange(30) % 10
    recall = {k: (ranks <= k).astype(np.float32) for k in (5, 10)}
    ndcg = {k: (hit / np.log2(1 + ranks)).astype(np.float32) for k, hit in recall.items()}
    means = {f"{name}@{k}": float(v.mean()) for name, of in (("recall", recall), ("ndcg", ndcg)) for k, v in of.items()}
    return Metrics(
        user_ids=catalogue.user_ids, ranks=ranks, recall=recall, ndcg=ndcg, aggregates=means,
        confidence={name: (mean - 0.1, mean + 0.1) for name, mean in means.items()}, model="popularity", split="test",
    )  # fmt: skip


@pytest.fixture(scope="session")
def files(
    tmp_path_factory: pytest.TempPathFactory,
    dataset: Dataset,
    features: Features,
    tokens: Tokens,
    trained_model: TrainedModel,
    metrics: Metrics,
) -> dict[str, Path]:
    """kind -> a file of it. Shared: copy before changing."""
    folder = tmp_path_factory.mktemp("tiny")
    made = {kind: folder / f"{kind}.h5" for kind in ("dataset", "features", "tokens", "model", "metrics", "checkpoint")}
    hdf5.write_dataset(made["dataset"], dataset, config={"seed": 0})
    hdf5.write_features(made["features"], features, config={"seed": 0}, parents=[made["dataset"]])
    hdf5.write_tokens(made["tokens"], tokens, config={"seed": 0}, parents=[made["features"]])
    hdf5.write_model(made["model"], trained_model, config={"seed": 0}, parents=[made["tokens"]])
    hdf5.write_metrics(made["metrics"], metrics, config={"seed": 0}, parents=[made["model"]])
    hdf5.write_checkpoint(made["checkpoint"], {"a/b": np.arange(3)}, {"step": 7}, config={"seed": 0})
    return made


@dataclass(frozen=True)
class Outcome:
    """What a run of the command line left: exit status, stdout, stderr."""

    status: int
    out: str
    err: str


@pytest.fixture
def bbqrec(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """`bbqrec("inspect", path, "--json")` runs the command line in this process."""
    from bbqrec_cli.cli import app

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            app.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), said.out, said.err)

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)
