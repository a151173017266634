"""Damaged inputs of every format end in a result or in an error for people: no traceback, no hang, no half a file.

Samples of each format are damaged by bytes, lines and values, by a seeded generator; `slow` does ten thousand of them.
"""

from __future__ import annotations

import faulthandler
import gzip
import io
import json
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zstandard

from bbqrec_cli.config import configure
from bbqrec_cli.errors import BBQRecError
from bbqrec_cli.hdf5 import open_file, read_dataset, read_features
from bbqrec_cli.stages.embed import EmbedConfig
from bbqrec_cli.stages.embed import run as embed
from bbqrec_cli.stages.export import ExportConfig
from bbqrec_cli.stages.export import run as export
from bbqrec_cli.stages.prepare import PrepareConfig
from bbqrec_cli.stages.prepare import run as prepare
from bbqrec_cli.stages.tokenize import TokenizeConfig
from bbqrec_cli.stages.tokenize import run as tokenize

Files = dict[str, bytes]
FAST, ALL = 12, 500
"""Damaged inputs of each sample."""
LONGEST = 60
"""Seconds after which the whole program is stopped: that is a hang."""
WORDS = (
    b"", b"0", b"-1", b"nan", b"inf", b"1e999", b"99999999999999999999", b"1970-01-01", b"2014-13-45", b'"', b"''",
    b",", b"\t", b"::", b"|", b"{", b"}", b"[", b"]", b"null", b"\\u0000", b"\\ud800", b"\x00", b"\xff\xfe",
    b"\xef\xbb\xbf", b"\r", b"\n\n", "\u202e".encode(), "é".encode("latin-1"), b"../../x", b"/etc/passwd",
    b"a" * 5000, b"[" * 3000, b"<i>", b"&#0;",
)  # fmt: skip
LOG = "user,item,timestamp,rating,part\n" + "".join(
    f"u{n % 4},i{n * 7 % 5},{978300000 + n * 100},{n % 5 + 1},{('train', 'valid', 'test')[min(2, n // 8)]}\n"
    for n in range(20)
)
ITEMS = "item,title,category\n" + "".join(f'i{n},"Title, {n}",c{n % 2}\n' for n in range(5))


DATES = "user\titem\tdate\n" + "".join(f"u{n % 4}\ti{n % 5}\t2014-01-02T10:00:{n:02}\n" for n in range(20))


def lines(*rows: dict) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def packed(files: Files, mode: str) -> bytes:
    """A zip or tar archive."""
    stream = io.BytesIO()
    if mode == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=stream, mode=mode) as archive:
            for name, content in files.items():
                about = tarfile.TarInfo(name)
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
    return stream.getvalue()


def typed(kind: str) -> bytes:
    """The log as Parquet, Feather or a stream of Arrow."""
    stream, frame = io.BytesIO(), pl.read_csv(LOG.encode())
    write = {"parquet": frame.write_parquet, "feather": frame.write_ipc, "arrow": frame.write_ipc_stream}[kind]
    write(stream)
    return stream.getvalue()


def amazon(release: int) -> Files:
    pairs = [(f"A{n % 4}", f"B00000000{n % 3}", 1_300_000_000 + n) for n in range(12)]
    items = [f"B00000000{n}" for n in range(3)]
    if release == 2023:
        log = [{"user_id": u, "parent_asin": i, "asin": i, "timestamp": t * 1000, "rating": 4.0} for u, i, t in pairs]
        about = [
            {"parent_asin": item, "title": f"t{item}", "images": [{"large": "http://x/y.jpg"}], "price": None,
             "features": ["a", "b"], "description": [], "details": {"k": "v"}, "categories": ["c"]}
            for item in items
        ]  # fmt: skip
        return {"All_Beauty.jsonl": lines(*log), "meta_All_Beauty.jsonl": lines(*about)}
    reviews = lines(*({"reviewerID": u, "asin": i, "unixReviewTime": t, "overall": 5.0} for u, i, t in pairs))
    kinds = {"category": ["a", "b"]} if release == 2018 else {"categories": [["a", "b"]]}
    about = [{"asin": item, "title": "t <b>x</b>", "brand": "x"} | kinds for item in items]
    if release == 2018:
        return {"Software_5.json": reviews, "meta_Software.json": lines(*about)}
    meta = "\n".join(map(repr, about)).encode()  # Python's way of writing, not JSON's
    return {"reviews_Beauty_5.json.gz": gzip.compress(reviews), "meta_Beauty.json.gz": gzip.compress(meta)}


RATINGS = "".join(f"{n % 3 + 1}::{n % 4 + 1}::{n % 5 + 1}::{978300760 + n}\n" for n in range(12)).encode()
MOVIES = "".join(f"{n}::Film, The ({1990 + n})::Drama|War\n" for n in range(1, 5)).encode()
YELP_LOG = [
    {"user_id": f"u{n % 3}", "business_id": f"b{n % 4}", "stars": 4.0, "date": f"2019-01-{n + 1:02} 10:00:00"}
    for n in range(12)
]
YELP = {
    "yelp_academic_dataset_review.json": lines(*YELP_LOG),
    "yelp_academic_dataset_business.json": lines(
        *({"business_id": f"b{n}", "name": f"n{n}", "categories": "a, b", "city": "x", "state": "y"} for n in range(4))
    ),
}
FILMS = {"ml-1m/ratings.dat": RATINGS, "ml-1m/movies.dat": MOVIES}
LETTER = {
    "X.inter.json": b'{"0": [1, 2, 1], "1": [2, 1, 0]}',
    "X.item.json": b'{"0": {"title": "a"}, "1": {"title": "b", "categories": "x, y"}, "2": {}}',
    "X.index.json": b'{"0": ["<a_0>"], "1": ["<a_1>"], "2": ["<a_2>"]}',
}
S3REC = {
    "sequences.txt": b"1 1 2 3\n2 2 3 1 2\n",
    "items.json": b'{"1": {"title": "a"}, "2": {"title": "b"}}',
}
JSON_LOG = lines(*({"user": f"u{n % 4}", "item": f"i{n % 5}", "timestamp": 978300000 + n} for n in range(20)))
JSON_ITEMS = json.dumps({f"i{n}": {"title": f"t{n}", "tags": ["a", "b"]} for n in range(5)}).encode()
SOURCES: dict[str, tuple[str, dict, Files]] = {
    "csv": ("table", {}, {"interactions.csv": LOG.encode(), "items.csv": ITEMS.encode()}),
    "split": ("table", {"split_column": "part"}, {"interactions.csv": LOG.encode()}),
    "gz": ("table", {}, {"interactions.csv.gz": gzip.compress(LOG.encode())}),
    "zst": ("table", {}, {"interactions.csv.zst": zstandard.compress(LOG.encode())}),
    "jsonl": ("table", {}, {"interactions.jsonl": JSON_LOG}),
    **{
        f"typed {kind}": ("table", {"split_column": "part"}, {f"log.{kind}": typed(kind)})
        for kind in ("parquet", "feather", "arrow")
    },
    "dat": ("table", {}, {"ratings.dat": RATINGS}),
    "dates": ("table", {}, {"log.tsv": DATES.encode()}),
    "json items": ("table", {}, {"interactions.csv": LOG.encode(), "items.json": JSON_ITEMS}),
    "s3rec": ("s3rec", {}, S3REC),
    "inter.json": ("letter", {}, LETTER),
    "amazon 2014": ("amazon", {}, amazon(2014)),
    "amazon 2018": ("amazon", {}, amazon(2018)),
    "amazon 2023": ("amazon", {}, amazon(2023)),
    "movielens": ("movielens", {}, {"ratings.dat": RATINGS, "movies.dat": MOVIES}),
    "movielens zip": ("movielens", {}, {"ml-1m.zip": packed(FILMS, "zip")}),
    "yelp": ("yelp", {}, YELP),
    "yelp tar": ("yelp", {}, {"yelp_dataset.tar": packed(YELP, "w")}),
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> dict[str, tuple[str, dict, Files]]:
    """All samples: those above, and what `export` writes."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "interactions.csv").write_text(LOG)
    (folder / "items.csv").write_text(ITEMS)
    prepare(PrepareConfig(source="table", paths=(str(folder),), output=folder / "d.h5"))
    found = dict(SOURCES)
    for to, source in (("recbole", "recbole"), ("parquet", "huggingface")):
        try:
            export(ExportConfig(file=folder / "d.h5", to=to, output=folder / to))
        except BBQRecError:  # without pyarrow
            continue
        files = {path.name: path.read_bytes() for path in sorted((folder / to).iterdir()) if path.name != "export.json"}
        found[to] = (source, {}, files)
    split = {name: text for name, text in found["recbole"][2].items() if name != "recbole.inter"}
    return found | {"recbole split": ("recbole", {}, split)}


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes after one to three of: a flipped byte, a cut, a repeated or lost line, a strange word in some place."""
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(0, len(data) + 1)) if data else 0
        kind = rng.integers(0, 7)
        rows = data.splitlines(keepends=True)
        row = int(rng.integers(0, len(rows))) if rows else 0
        word = WORDS[rng.integers(0, len(WORDS))]
        if kind == 0:
            data = data[:place] + bytes([rng.integers(0, 256)]) + data[place + 1 :]
        elif kind == 1:
            data = data[:place]
        elif kind == 2:
            data = b"".join([*rows[: row + 1], *rows[row:]])
        elif kind == 3:
            data = b"".join([*rows[:row], *rows[row + 1 :]])
        elif kind == 4:
            data = data[:place] + word + data[place:]
        elif kind == 5 and rows:
            cells = rows[row].split(b",")
            cells[rng.integers(0, len(cells))] = word
            rows[row] = b",".join(cells)
            data = b"".join(rows)
        else:
            data = data[:place] + data[place + int(rng.integers(0, 40)) :]
    return data


def tried(work: Path, output: Path, stage: Callable[[], object], read: Callable[[Path], object]) -> bool:
    """Whether the stage made its output; else it ended in an error for people, and left nothing."""
    before = set(work.iterdir())
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            stage()
    except BBQRecError:
        made = False
    else:
        made = True
    finally:
        faulthandler.cancel_dump_traceback_later()
    if made:
        read(output)
    assert set(work.iterdir()) == before | ({output} if made else set()), "something was left, or nothing was made"
    return made


def one(name: str, samples: dict[str, tuple[str, dict, Files]], seed: int, work: Path) -> bool:
    """Damage a sample, some of its files or all, and prepare it."""
    source, options, files = samples[name]
    rng = np.random.default_rng([seed, *name.encode()])
    folder, output = work / "data", work / "made.h5"
    folder.mkdir()
    hit = rng.integers(0, len(files))
    for number, (file, content) in enumerate(files.items()):
        gzipped = file.endswith(".gz") and rng.random() < 0.7
        content = gzip.decompress(content) if gzipped else content
        content = damaged(content, rng) if number == hit or rng.random() < 0.2 else content
        (folder / file).write_bytes(gzip.compress(content) if gzipped else content)
    whole_folder = {"interactions.csv", "interactions.csv.gz"} & set(files) or source not in ("table",)
    path = folder if whole_folder and len(files) > 1 else folder / next(iter(files))
    config = PrepareConfig(source=source, paths=(str(path),), output=output, options=options, min_user_interactions=0,
                           min_item_interactions=0)  # fmt: skip
    try:
        return tried(work, output, lambda: prepare(config), read_dataset)
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{name}, seed {seed}: {type(error).__name__}: {error}") from error
    finally:
        output.unlink(missing_ok=True)
        shutil.rmtree(folder)


NAMES = (*SOURCES, "recbole", "recbole split", "parquet")


@pytest.mark.parametrize("name", NAMES)
def test_the_samples_are_right(name, samples, tmp_path):
    if name not in samples:
        pytest.skip("no pyarrow")
    source, options, files = samples[name]
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    path = tmp_path if len(files) > 1 else tmp_path / next(iter(files))
    config = PrepareConfig(source=source, paths=(str(path),), output=tmp_path / "made.h5", options=options,
                           min_user_interactions=0, min_item_interactions=0)  # fmt: skip
    assert prepare(config).interactions > 0


@pytest.mark.parametrize("name", NAMES)
def test_damaged_raw_data(name, samples, tmp_path):
    if name not in samples:
        pytest.skip("no pyarrow")
    made = [one(name, samples, seed, tmp_path) for seed in range(FAST)]
    assert not all(made), "damage is seen"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_very_many_damaged_raw_data(name, samples, tmp_path):
    for seed in range(FAST, FAST + ALL):
        one(name, samples, seed, tmp_path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "interactions.csv").write_text(LOG)
    prepare(PrepareConfig(source="table", paths=(str(folder),), output=folder / "d.h5"))
    return folder / "d.h5"


def arrays() -> dict[str, bytes]:
    """Vectors of five items, as files of every kind."""
    import h5py
    from safetensors.numpy import save

    values, ids = np.arange(20, dtype=np.float32).reshape(5, 4), np.array([f"i{n}" for n in range(5)])
    made = {}
    for name, write in (
        ("v.npy", lambda stream: np.save(stream, values)),
        ("v.npz", lambda stream: np.savez(stream, values=values, ids=ids)),
    ):
        stream = io.BytesIO()
        write(stream)
        made[name] = stream.getvalue()
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["v"] = values
    return made | {"v.safetensors": save({"v": values}), "v.h5": stream.getvalue()}


INDEX = json.dumps({f"i{n}": [f"<a_{n}>", "<b_0>"] for n in range(5)}).encode()


def one_vector(name: str, content: bytes, dataset: Path, seed: int, work: Path) -> bool:
    """Damage a file of vectors, or of semantic IDs, and use it."""
    path, output = work / name, work / "made.h5"
    path.write_bytes(damaged(content, np.random.default_rng([seed, *name.encode()])))
    try:
        if name == "index.json":
            config = configure(
                TokenizeConfig,
                {"features": dataset, "output": output, "method": "published", "index": path},
                where="test",
            )
            return tried(work, output, lambda: tokenize(config), lambda made: open_file(made).__enter__())
        options = EmbedConfig(dataset=dataset, output=output, modalities=(), vectors=(f"text={path}",))
        return tried(work, output, lambda: embed(options), read_features)
    except (Exception, SystemExit) as error:
        raise AssertionError(f"{name}, seed {seed}: {type(error).__name__}: {error}") from error
    finally:
        output.unlink(missing_ok=True)


VECTORS = ("v.npy", "v.npz", "v.safetensors", "v.h5", "index.json")


@pytest.mark.parametrize("name", VECTORS)
def test_damaged_vectors_and_ids(name, dataset, tmp_path):
    content = (arrays() | {"index.json": INDEX})[name]
    made = [one_vector(name, content, dataset, seed, tmp_path) for seed in range(FAST)]
    assert not all(made)


@pytest.mark.slow
@pytest.mark.parametrize("name", VECTORS)
def test_very_many_damaged_vectors_and_ids(name, dataset, tmp_path):
    content = (arrays() | {"index.json": INDEX})[name]
    for seed in range(FAST, FAST + ALL):
        one_vector(name, content, dataset, seed, tmp_path)
