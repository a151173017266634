from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bbqrec_cli import recipes
from bbqrec_cli.benchmark.files import HEAD, KEYS
from bbqrec_cli.benchmark.layouts import COLUMNS
from bbqrec_cli.benchmark.suite import load_suite, method_of
from bbqrec_cli.config import load_toml
from bbqrec_cli.errors import MissingFileError, UsageError, WrongKindError
from bbqrec_cli.models.registry import MODELS

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> str:
    (folder / "other.toml").write_text(text)
    return str(folder / "other.toml")


def test_what_a_suite_says(folder):
    suite = load_suite(str(folder / "suite.toml"))
    assert (suite.name, suite.seeds, suite.split, suite.k) == ("tiny", (0, 1), "test", (5, 10))
    (data,) = suite.data
    assert (data.name, data.kind, data.file) == ("", "features", folder / "features.h5")
    assert {name: method_of(each.config).levels for name, each in suite.tokenizers.items()} == {"ids": 2, "alone": 3}
    assert [(each.name, each.config.model, each.tokenizer) for each in suite.systems] == [
        ("popularity", "popularity", ""), ("sasrec", "sasrec", ""), ("ours", "tiger", "ids"),
    ]  # fmt: skip
    assert method_of(suite.systems[1].config).width == 8
    evaluated = [config for each in suite.systems for config in each.evaluate]
    assert {(each.split, each.k, each.exclude_seen) for each in evaluated} == {("test", (5, 10), False)}


def test_a_source_takes_several_files_and_patterns(folder):
    (folder / "logs").mkdir()
    for name in ("b.csv", "a.csv", "c.txt"):
        (folder / "logs" / name).write_text("user,item,timestamp\nu,i,1\n")
    text = (folder / "suite.toml").read_text()

    def paths(source: str) -> list[str]:
        (data,) = load_suite(write(folder, text.replace('file = "features.h5"', f"source = {source}"))).data
        return [str(Path(path).relative_to(folder)) for path in data.prepare.paths]

    assert paths('["table", "logs/*.csv"]') == ["logs/a.csv", "logs/b.csv"]
    assert paths('["table", "logs/c.txt", "logs/[b].csv"]') == ["logs/c.txt", "logs/b.csv"]
    with pytest.raises(MissingFileError, match=r"\*\.tsv: no file fits"):
        paths('["table", "logs/*.tsv"]')
    with pytest.raises(UsageError, match=r"a\.csv is named twice"):
        paths('["table", "logs/a.csv", "logs/*.csv"]')
    with pytest.raises(MissingFileError, match=r"d\.csv is not there"):
        paths('["table", "logs/d.csv"]')


def test_the_demo(tmp_path, monkeypatch):
    """Even beside a folder of that name, which `make demo` leaves."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    suite = load_suite("demo")
    assert (suite.name, suite.data[0].prepare.source) == ("demo", "demo")
    assert {each.config.model for each in suite.systems} == set(MODELS.names()), "every model"
    (ranked, _) = suite.layouts
    assert {name for _, name in ranked.rows} == {each.name for each in suite.systems}, "no system is left out"


def test_signals_make_tokenizers_of_their_own(folder):
    text = (
        (folder / "suite.toml")
        .read_text()
        .replace('name = "alone"\nmethod = "rqvae"', 'name = "two"\nsignals = ["id", "text"]')
    )
    suite = load_suite(write(folder, text))
    assert suite.tokenizers["two"].config.method == "bbqrec"
    assert method_of(suite.tokenizers["two"].config).signals == ("id", "text")


def test_tokenizers_need_no_system(folder):
    text = (folder / "suite.toml").read_text().split("[[system]]")[0]
    assert load_suite(write(folder, text)).systems == ()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "tiny"', 'name = "a/b"', "name is 'a/b'"),
        ("seeds = [0, 1]", "seeds = [1, 1]", "different seeds"),
        ("seeds = [0, 1]", "seeds = [-1]", "at least 0"),
        ("seeds = [0, 1]", "k = []", "a depth of the ranking is needed"),
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
        ('name = "alone"', 'name = "sasrec"', "a tokenizer has that name, and it is not this system's"),
        ('name = "alone"', 'name = "ids"', "two [[tokenizer]] tables are named 'ids'"),
        ("levels = 2", "levels = 0", "levels is 0"),
        ("levels = 2", "seed = 2", "seed is set by the benchmark"),
        ("levels = 2", "levles = 2", "did you mean 'levels'"),
        ('name = "popularity"', 'name = "popular"', "did you mean 'popularity'"),
        ("width = 8", "output = 'x.h5'", "output is set by the benchmark"),
        ("width = 8", "variant = 'full'", "[[system]] 'sasrec': sasrec has no variant; --variant is an option of"),
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
    assert load_suite(write(folder, text)).data[0].kind == "tokens"
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
encoder = ["title=encoder:title", "look=descriptor:image"]
vectors = ["own=raw.csv:table"]
[[tokenizer]]
name = "letter"
method = "published"
index = "index.json"
"""
    name = write(folder, text)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    suite = load_suite(os.path.relpath(name))
    (data,), suite_folder = suite.data, Path(os.path.relpath(name)).parent
    assert Path(data.prepare.paths[0]).resolve() == folder / "raw.csv"
    assert method_of(data.prepare).items.resolve() == folder / "items.csv"
    assert Path(data.embed.text_model).resolve() == folder / "encoder"
    assert data.embed.image_model == "descriptor", "no folder of that name: a model's name"
    assert data.embed.encoder == (f"title={suite_folder / 'encoder'}:title", "look=descriptor:image")
    assert data.embed.vectors == (f"own={suite_folder / 'raw.csv'}:table",)
    assert Path(*method_of(suite.tokenizers["letter"].config).index).resolve() == folder / "index.json"


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
    assert caught.value.hint.startswith("paths are relative to the suite file's folder")


def test_no_such_suite():
    with pytest.raises(MissingFileError, match="did you mean 'demo'"):
        load_suite("demmo")
    with pytest.raises(MissingFileError, match="no such suite file"):
        load_suite("demmo.toml")


def test_the_documented_suites(tmp_path, files):
    """The examples of docs/benchmark.md load, and every key of a suite is described there."""
    text = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
    whole, data, *more = re.findall(r"```toml\n(.*?)```", text, flags=re.S)
    (tmp_path / "data" / "beauty").mkdir(parents=True)
    (tmp_path / "data" / "beauty" / "letter.index.json").write_text("{}")
    (tmp_path / "toys-features.h5").write_bytes(files["features"].read_bytes())
    assert len(load_suite(write(tmp_path, whole)).systems) == 4
    suite = load_suite(write(tmp_path, "\n".join([whole, *more])))
    assert (len(suite.systems), len(suite.layouts), len(suite.published)) == (9, 2, 1)
    suite = load_suite(write(tmp_path, f'name = "x"\n{data}'))
    assert [(each.name, each.kind) for each in suite.data] == [("beauty", "dataset"), ("toys", "features")]
    described = set(re.findall(r"^\| `(\w+)`(?:, `\w+`)* \|", text, flags=re.M))
    described |= set(re.findall(r"^\| `\w+`, `(\w+)` \|", text, flags=re.M))
    assert described >= {
        *HEAD, "source", "published", "file", "prepare", "embed", "method", "reported", "model", "tokenizer", "recipe",
        "data", "evaluate", "system", "option", "values", "title", "rows", "columns", "metrics", "each_data",
        "claim",
    }  # fmt: skip
    assert set(re.findall(r"^\| in .*?`\[+(\w+)\]+`", text, flags=re.M)) == {*KEYS} - {*HEAD}
    assert all(f"`{name}`" in text for name in COLUMNS)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "results").glob("*.toml")), ids=lambda path: path.stem)
def test_the_suites_of_the_results(path, tmp_path, files):
    """They load, with something in the place of the data that their heads name."""
    text = path.read_text(encoding="utf-8")
    for kind in ("features", "tokens"):
        for name in re.findall(rf'^file = "(.*{kind}\.h5)"', text, flags=re.M):
            (tmp_path / name).write_bytes(files[kind].read_bytes())
    for name in re.findall(r'^source = \["\w+", "(.*)"\]', text, flags=re.M):
        (tmp_path / name).mkdir()
    for name in re.findall(r'^index = "(.*)"', text, flags=re.M):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / path.name).write_text(text, encoding="utf-8")
    suite = load_suite(str(tmp_path / path.name))
    assert suite.name == path.stem
    written = text.count("[[tokenizer]]") + text.count("[[system]]")
    assert len(suite.systems) + len(suite.tokenizers) == written or "[[sweep]]" in text


def test_a_recipe_in_a_file_lies_beside_the_suite(folder):
    (folder / "mine.toml").write_text('[train]\nmodel = "item-knn"\nneighbours = 3\n')
    text = 'name = "one"\n[data]\nfile = "features.h5"\n[[system]]\nname = "mine"\nrecipe = "mine.toml"\n'
    (system,) = load_suite(write(folder, text)).systems
    assert (system.config.model, system.config.options) == ("item-knn", {"neighbours": 3})
    with pytest.raises(MissingFileError, match=r"absent\.toml is not there"):
        load_suite(write(folder, text.replace("mine.toml", "absent.toml")))


@pytest.mark.parametrize(("seen", "left_out"), [("false", False), ("true", True), ('"both"', False)])
def test_the_protocol_is_the_suites_whatever_a_recipe_says(folder, seen, left_out):
    (folder / "mine.toml").write_text('[train]\nmodel = "item-knn"\nexclude_seen = true\n')
    text = f'name = "one"\nexclude_seen = {seen}\n[data]\nfile = "features.h5"\n[[system]]\nname = "mine"\n'
    (system,) = load_suite(write(folder, text + 'recipe = "mine.toml"\n')).systems
    assert system.config.exclude_seen is left_out
    with pytest.raises(UsageError, match=r"\[\[system\]\] 'mine': exclude_seen is set by the benchmark"):
        load_suite(write(folder, text + 'model = "item-knn"\nexclude_seen = true\n'))


def test_recipes_of_the_program_load(folder):
    """Each as a tokenizer, a system, or both."""
    tables = []
    for name in recipes.names():
        commands = load_toml(recipes.FOLDER / f"{name}.toml", "recipe")[0]
        if "tokenize" in commands:
            tables.append(f'[[tokenizer]]\nname = "{name}"\nrecipe = "{name}"\n')
        if "train" in commands:
            of = f'tokenizer = "{name}"\n' if "tokenize" in commands else ""
            tables.append(f'[[system]]\nname = "{name}"\nrecipe = "{name}"\n{of}')
    head = 'name = "all"\n[data]\nfile = "features.h5"\n'
    suite = load_suite(write(folder, head + "".join(tables)))
    assert len(suite.systems) + len(suite.tokenizers) == len(tables)
