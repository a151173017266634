from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bbqrec_cli.benchmark.suite import BUILT_IN, load_suite
from bbqrec_cli.errors import MissingFileError, UsageError, WrongKindError


def write(folder: Path, text: str) -> str:
    (folder / "other.toml").write_text(text)
    return str(folder / "other.toml")


def test_what_a_suite_says(folder):
    suite = load_suite(str(folder / "suite.toml"))
    assert (suite.name, suite.seeds, suite.kind, suite.file) == ("tiny", (0, 1), "features", folder / "features.h5")
    assert {name: each.resolved.levels for name, each in suite.tokenizers.items()} == {"ids": 2, "alone": 3}
    assert [(each.name, each.config.model, each.tokenizer) for each in suite.systems] == [
        ("popularity", "popularity", ""), ("sasrec", "sasrec", ""), ("ours", "tiger", "ids"),
    ]  # fmt: skip
    assert suite.systems[1].resolved.width == 8
    assert (suite.evaluate.split, suite.evaluate.k) == ("test", (5, 10))


@pytest.mark.parametrize("name", [path.stem for path in BUILT_IN.glob("*.toml")])
def test_the_built_in_suites(name, tmp_path, monkeypatch):
    """Even beside a folder of that name, which `make demo` leaves."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    suite = load_suite(name)
    assert (suite.name, suite.prepare.source) == (name, "demo")
    assert {"popularity", "sasrec", "tiger", "bbqrec"} <= {system.config.model for system in suite.systems}


def test_signals_make_tokenizers_of_their_own(folder):
    text = (
        (folder / "suite.toml")
        .read_text()
        .replace('name = "alone"\nmethod = "rqvae"', 'name = "two"\nsignals = ["id", "text"]')
    )
    suite = load_suite(write(folder, text))
    assert suite.tokenizers["two"].config.method == "bbqrec"
    assert suite.tokenizers["two"].resolved.signals == ("id", "text")


def test_tokenizers_need_no_system(folder):
    text = (folder / "suite.toml").read_text().split("[[system]]")[0]
    assert load_suite(write(folder, text)).systems == ()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "tiny"', 'name = "a/b"', "name is 'a/b'"),
        ("seeds = [0, 1]", "seeds = [1, 1]", "different seeds"),
        ("seeds = [0, 1]", "seeds = [-1]", "at least 0"),
        ("seeds = [0, 1]", "k = []", "a k are needed"),
        ("seeds = [0, 1]", 'split = "train"', "allowed: test, validation"),
        ("seeds = [0, 1]", "sedes = [0]", "did you mean 'seeds'"),
        ("seeds = [0, 1]", "seeds = [0", "not a TOML file"),
        ('file = "features.h5"', "", "needs either source"),
        ('file = "features.h5"', 'file = "features.h5"\nsource = "demo"', "needs either source"),
        ('file = "features.h5"', 'file = "features.h5"\nprepare = {}', "needs no [data.prepare]"),
        ('file = "features.h5"', 'fiel = "features.h5"', "did you mean 'file'"),
        ('file = "features.h5"', "source = [1]", "a list such as"),
        ('file = "features.h5"', 'source = "demo"\nprepare = { source = "table" }', "given in [data]"),
        ('file = "features.h5"', 'source = "demo"\nprepare = { siez = "small" }', "did you mean 'size'"),
        ('file = "features.h5"', 'source = "demo"\nembed = { dataset = "x.h5" }', "dataset is set by the benchmark"),
        ('name = "ids"', 'name = "ids"\nreported = -1', "reported is -1"),
        ('name = "ids"', 'name = "ids"\nreported = true', "reported is True"),
        ('name = "ids"', "", "[[tokenizer]] number 1 has no name"),
        ('name = "ids"', 'name = "a/b"', "without '/'"),
        ('name = "ids"', 'name = "a\\nb"', "a line of at most"),
        ('name = "alone"', 'name = "ids"', "two [[tokenizer]] tables are named 'ids'"),
        ("levels = 2", "levels = 0", "levels is 0"),
        ("levels = 2", "seed = 2", "seed is set by the benchmark"),
        ("levels = 2", "levles = 2", "did you mean 'levels'"),
        ('name = "popularity"', 'name = "popular"', "did you mean 'popularity'"),
        ("width = 8", "output = 'x.h5'", "output is set by the benchmark"),
        ("width = 8", "variant = 'full'", "[[system]] 'sasrec': --model sasrec: unknown option 'variant'"),
        ('tokenizer = "ids"', 'tokenizer = "idz"', "did you mean 'ids'"),
        ('tokenizer = "ids"', "", "the model tiger needs a tokenizer"),
        ("[[system]]", "[system]", "not a TOML file"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(folder, old, new, says):
    text = (folder / "suite.toml").read_text()
    assert old in text
    with pytest.raises(UsageError) as caught:
        load_suite(write(folder, text.replace(old, new, 1)))
    assert says in caught.value.message
    assert "other.toml" in caught.value.message


def test_nothing_to_run(folder):
    with pytest.raises(UsageError, match="at least one is needed"):
        load_suite(write(folder, 'name = "x"\n[data]\nsource = "demo"\n'))


def test_tokens_are_data_too(folder, files):
    (folder / "tokens.h5").write_bytes(files["tokens"].read_bytes())
    text = 'name = "x"\n[data]\nfile = "tokens.h5"\n[[system]]\nname = "tiger"\n'
    assert load_suite(write(folder, text)).kind == "tokens"
    with pytest.raises(UsageError, match="tokens file already"):
        load_suite(write(folder, text + '[[tokenizer]]\nname = "ids"\n'))
    (folder / "metrics.h5").write_bytes(files["metrics"].read_bytes())
    with pytest.raises(WrongKindError):
        load_suite(write(folder, text.replace("tokens.h5", "metrics.h5")))


def test_paths_are_relative_to_the_suite(folder, tmp_path_factory, monkeypatch):
    for name in ("raw.csv", "index.json", "items.csv"):
        (folder / name).write_text("x")
    (folder / "encoder").mkdir()
    text = """
name = "x"
[data]
source = ["table", "raw.csv"]
[data.prepare]
items = "items.csv"
[data.embed]
text-model = "encoder"
image_model = "descriptor"
[[tokenizer]]
name = "letter"
method = "published"
index = "index.json"
"""
    name = write(folder, text)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    suite = load_suite(os.path.relpath(name))
    assert Path(suite.prepare.paths[0]).resolve() == folder / "raw.csv"
    assert suite.prepare.items.resolve() == folder / "items.csv"
    assert Path(suite.embed.text_model).resolve() == folder / "encoder"
    assert suite.embed.image_model == "descriptor", "no folder of that name: a model's name"
    assert Path(*suite.tokenizers["letter"].resolved.index).resolve() == folder / "index.json"


@pytest.mark.parametrize("key", ["raw.csv", "items.csv", "index.json", "features.h5"])
def test_a_missing_file_is_found_at_once(folder, key):
    for name in ("raw.csv", "index.json", "items.csv"):
        (folder / name).write_text("x")
    data = (
        'file = "features.h5"'
        if key == "features.h5"
        else 'source = ["table", "raw.csv"]\nprepare = { items = "items.csv" }'
    )
    text = f'name = "x"\n[data]\n{data}\n[[tokenizer]]\nname = "l"\nmethod = "published"\nindex = "index.json"\n'
    (folder / key).unlink()
    with pytest.raises(MissingFileError, match=key) as caught:
        load_suite(write(folder, text))
    assert caught.value.hint == "paths are relative to the suite file's folder"


def test_no_such_suite():
    with pytest.raises(MissingFileError, match="did you mean 'demo'"):
        load_suite("demmo")
    with pytest.raises(MissingFileError, match="no such suite file"):
        load_suite("demmo.toml")


def test_the_documented_suite(tmp_path):
    """The example of docs/benchmark.md loads, and every key of a suite is described there."""
    text = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text(encoding="utf-8")
    example = re.search(r"```toml\n(.*?)```", text, flags=re.S)[1]
    (tmp_path / "data" / "beauty").mkdir(parents=True)
    (tmp_path / "data" / "beauty" / "letter.index.json").write_text("{}")
    suite = load_suite(write(tmp_path, example))
    assert len(suite.systems) == 4
    for key in ("name", "seeds", "split", "k", "source", "file", "prepare", "embed", "method", "model", "tokenizer"):
        assert f"\n| `{key}` |" in text, key
