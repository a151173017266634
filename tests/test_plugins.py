"""Methods from outside: entry points of installed packages, files, and docs/adding-a-model.md as it stands."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bbqrec_cli import __version__, plugins, program
from bbqrec_cli.benchmark.compare import CompareConfig
from bbqrec_cli.config import COMMON_FLAGS
from bbqrec_cli.data.batches import Batch
from bbqrec_cli.encoders import load_encoder
from bbqrec_cli.encoders.base import Encoder
from bbqrec_cli.encoders.registry import ENCODERS, EncoderConfig
from bbqrec_cli.errors import BBQRecWarning, DataError, LackingError, MissingFileError, UsageError
from bbqrec_cli.hdf5 import describe, read_features, read_model
from bbqrec_cli.origin import command_line
from bbqrec_cli.plugins import Origin, take_flag
from bbqrec_cli.progress import warn_python
from bbqrec_cli.records import ItemData, Vocabulary
from bbqrec_cli.registry import Registry
from bbqrec_cli.tuning import budget
from bbqrec_cli.tuning.run import TuneConfig

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding-a-model.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = "".join(re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
CONFIG = '''
from dataclasses import dataclass
from typing import ClassVar
from bbqrec_cli.config import MethodConfig, option

@dataclass(frozen=True, kw_only=True)
class {name}(MethodConfig):
    """It is {name}."""
    name: ClassVar[str] = "{method}"
    implementation: ClassVar[str] = "{module}:Nothing"
    size: int = option(3, "A size.", role="model")
'''


def install(folder: Path, module: str, code: str, points: str, version: str = "1.0") -> None:
    """A package with entry points, as pip would leave it in a folder of Python's path."""
    (folder / f"{module}.py").write_text(code)
    about = folder / f"{module}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\n")
    (about / "entry_points.txt").write_text(f"[bbqrec.models]\n{points}\n")


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """A folder on Python's path; what is imported from it, or loaded as a file, is forgotten again."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(plugins.VARIABLE, raising=False)
    monkeypatch.setattr(plugins.Listener, "warn", staticmethod(warn_python))  # a command run earlier put its own there
    before, loaded = set(sys.modules), dict(plugins._loaded)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    plugins._loaded.clear()
    plugins._loaded.update(loaded)
    program.file_of.cache_clear()


@pytest.fixture
def registry() -> Registry:
    """As MODELS is at the start of a program."""
    return Registry("bbqrec_cli.models.options", option="--model", default="bbqrec", group="bbqrec.models")


def test_an_entry_point_adds_a_model(site, registry):
    install(site, "shop", CONFIG.format(name="Shop", method="my-shop", module="shop"), "my-shop = shop:Shop", "2.5")
    assert "my-shop" in registry
    assert registry.names()[0] == "bbqrec"
    assert registry.about("my-shop") == "It is Shop."
    assert registry.config("my-shop")().size == 3
    assert registry.origin("my-shop") == Origin("shop", "2.5")
    assert str(registry.origin("my-shop")) == "shop 2.5"
    assert registry.recorded("my-shop") == {"plugin": {"distribution": "shop", "version": "2.5"}}
    assert registry.origin("sasrec") == Origin("bbqrec", __version__)
    assert registry.recorded("sasrec") == {}


@pytest.mark.parametrize(
    ("code", "points", "said"),
    [
        ("import nothing_of_the_kind", "lame = lame:Lame", "No module named 'nothing_of_the_kind'"),
        ("raise SystemExit(3)", "lame = lame:Lame", "SystemExit: 3"),
        ("Lame = 3", "lame = lame:Lame", "3 is no dataclass that derives from MethodConfig"),
        ("", "lame = lame:Lame", "AttributeError"),
        (CONFIG.format(name="Lame", method="other", module="lame"), "lame = lame:Lame",
         "the class says the name 'other'"),
        (CONFIG.format(name="Lame", method="lame", module="lame").replace('option(3, "A size.", role="model")', "3"),
         "lame = lame:Lame", "Lame.size is not declared by option"),
        (CONFIG.format(name="Lame", method="lame", module="").replace(":Nothing", ""), "lame = lame:Lame",
         "'module:Class' is needed"),
        ("from __future__ import annotations\n" + CONFIG.format(name="Lame", method="lame", module="lame").replace(
            "size: int", "size: Whole"), "lame = lame:Lame", "name 'Whole' is not defined"),
        (CONFIG.format(name="Lame", method="lame", module="lame").replace("size: int", "json: int"), "lame = lame:Lame",
         "Lame.json: --json is no flag for an option of a method"),
        (CONFIG.format(name="Lame", method="lame", module="lame").replace('role="model")', 'role="model", short="-o")'),
         "lame = lame:Lame", "Lame.size: -o is no flag for an option of a method"),
        (CONFIG.format(name="Lame", method="lame", module="lame").replace("size: int", "size: complex"),
         "lame = lame:Lame", "Lame.size is of the type <class 'complex'>; int, float, str, bool, Path or a tuple"),
    ],
)  # fmt: skip
def test_what_is_broken_is_said_and_left_out(code, points, said, site, registry):
    install(site, "lame", code, points)
    install(site, "shop", CONFIG.format(name="Shop", method="shop", module="shop"), "shop = shop:Shop")
    with pytest.warns(BBQRecWarning, match="the plugin lame of lame 1.0 is left out: ") as warned:
        assert "shop" in registry
    assert [said in str(each.message) for each in warned] == [True]
    assert "lame" not in registry, "and it is not said again"
    assert "sasrec" in registry


def test_a_name_is_taken_once(site, registry):
    both = CONFIG.format(name="One", method="one", module="shop") + CONFIG.format(
        name="Two", method="sasrec", module="shop"
    )
    install(site, "shop", both, "one = shop:One\nsasrec = shop:Two")
    install(site, "zoo", CONFIG.format(name="One", method="one", module="zoo"), "one = zoo:One", "3.0")
    with pytest.warns(BBQRecWarning) as warned:
        assert registry.origin("one") == Origin("shop", "1.0")
    said = [str(each.message) for each in warned]
    assert any("--model one, which zoo 3.0 adds, is one of shop 1.0 already" in each for each in said)
    assert any(f"--model sasrec, which shop 1.0 adds, is one of bbqrec {__version__} already" in each for each in said)
    assert len(said) == 2
    assert registry.config("sasrec").__module__ == "bbqrec_cli.models.options.sasrec"


FILE = CONFIG.format(name="Mine", method="mine", module="mine") + (
    "\nfrom bbqrec_cli import registry\nregistry.under_test.add(Mine)\n"
)


@pytest.fixture
def under_test(registry, monkeypatch) -> Registry:
    """The registry to which files of these tests add."""
    import bbqrec_cli.registry

    monkeypatch.setattr(bbqrec_cli.registry, "under_test", registry, raising=False)
    return registry


def test_a_file_adds_what_it_registers(site, under_test, monkeypatch, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "mine.py").write_text(FILE)
    assert "mine" not in under_test
    monkeypatch.setenv(plugins.VARIABLE, str(place / "mine.py"))
    assert "mine" in under_test, "also where the variable is set later"
    assert under_test.origin("mine") == Origin(file="mine.py")
    assert under_test.recorded("mine") == {"plugin": {"file": "mine.py"}}, "no path of a machine"
    config = under_test.config("mine")
    under_test.add(config)  # as when a notebook's cell is run again
    assert importlib.import_module("mine").Mine is config
    before = program.digest("mine")
    (place / "mine.py").write_text(FILE.replace("option(3", "option(4"))
    os.utime(place / "mine.py", ns=(1, 1))
    assert program.digest("mine") != before, "a benchmark sees that the file has changed"


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("gone.py", None, "no such file"),
        ("random.py", FILE, "there is another Python module of the name random; rename the file"),
        ("wrong.py", "def", "SyntaxError: invalid syntax (wrong.py, line 1)"),
        ("taken.py", FILE.replace('"mine"', '"sasrec"'), f"is one of bbqrec {__version__} already"),
        ("text.txt", FILE, "not a Python file"),
        ("of.two.py", FILE, "of.two.py has a dot in its name; rename the file"),
    ],
)
def test_a_file_that_cannot_be_loaded(name, code, said, site, under_test, monkeypatch, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    if code is not None:
        (place / name).write_text(code)
    monkeypatch.setenv(plugins.VARIABLE, str(place / name))
    with pytest.warns(BBQRecWarning, match=f"the plugin {name} is left out: ") as warned:
        assert "sasrec" in under_test
    assert said in str(warned[0].message)
    assert "mine" not in under_test


def test_code_that_cannot_be_imported_is_said_when_it_is_needed(site, registry):
    install(site, "shop", CONFIG.format(name="Shop", method="shop", module="shop"), "shop = shop:Shop")
    with pytest.raises(LackingError, match=r"--model shop of shop 1\.0 cannot be loaded: AttributeError"):
        registry.implementation("shop")


def test_common_flags_are_those_of_the_command_line():
    from bbqrec_cli.cli.options import COMMON_FLAGS as OFFERED

    assert {*COMMON_FLAGS} == {*OFFERED, "help"}


def test_a_model_without_what_it_needs(site):
    from bbqrec_cli.models.registry import MODELS, build_model, model_config, model_settings

    def build() -> None:
        data = ItemData(ids=Vocabulary([str(item) for item in range(9)]))
        build_model("mean", model_settings(model_config("mean", {"width": 8})), data)

    for old, new, error, said in (
        ("def states(", "def statez(", DataError, "the model mean: Mean lacks states"),
        ("def states(", 'of_catalogue = ("table",)\n\n    def states(', DataError, "of_catalogue is of the type tuple"),
    ):
        (site / "mean.py").write_text(FILES["mean.py"].replace(old, new))
        sys.modules.pop("mean", None)
        importlib.invalidate_caches()
        importlib.import_module("mean")
        try:
            with pytest.raises(error, match=said):
                build()
        finally:
            MODELS.remove("mean")


def test_an_encoder_that_gives_something_else():
    class Odd(Encoder):
        name, answers = "odd", np.zeros((2, 3))

        def forward(self, inputs):
            return self.answers

    encoder = Odd()
    assert encoder.encode(["a", "b"])[0].shape == (2, 3)
    for wrong in (np.zeros(2), np.zeros((1, 3)), np.zeros((2, 0)), np.zeros((2, 3, 1)), np.array([["a"], ["b"]]), None):
        encoder.answers = wrong
        with pytest.raises(DataError, match=r"the encoder Odd gives values .*; numbers \(2, d\) are needed"):
            encoder.encode(["a", "b"])


def test_what_a_plugin_imports_and_opens_is_its_own(site, monkeypatch):
    from bbqrec_cli.cli.app import meaning_of

    (site / "mine.py").write_text("def imports():\n    import not_there\n\ndef opens():\n    open('not/there')\n")
    import mine

    monkeypatch.setattr(plugins, "_modules", {"mine"})
    for call, line in ((mine.imports, 2), (mine.opens, 5)):
        with pytest.raises((ModuleNotFoundError, FileNotFoundError)) as caught:
            call()
        assert f"an error in the plugin mine.py, line {line}: " in meaning_of(caught.value).message
        monkeypatch.setattr(plugins, "_modules", set())
        assert "plugin" not in meaning_of(caught.value).message
        monkeypatch.setattr(plugins, "_modules", {"mine"})


def test_a_bug_may_be_a_plugins(monkeypatch):
    """As what a tokenizer gave, where no code of it runs any more."""
    from bbqrec_cli.cli.app import unexpected

    monkeypatch.setattr(plugins, "_loaded", {"some/where/mine.py": "mine"})
    monkeypatch.setattr(plugins, "_modules", {"shop"})
    said = unexpected(TypeError("None has no codes")).message
    assert said == "a bug in bbqrec or in the plugin mine.py or in the plugin shop: TypeError: None has no codes"
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(plugins, "_modules", set())
    assert unexpected(TypeError("x")).message == "a bug in bbqrec: TypeError: x"


def test_an_option_that_the_command_has(tmp_path, bbqrec):
    """It would never reach the model."""
    code = FILE.replace("size: int", "seed: int").replace(
        "from bbqrec_cli import registry\nregistry.under_test", "MODELS"
    )
    (tmp_path / "mine.py").write_text("from bbqrec_cli.models.registry import MODELS\n" + code)
    done = bbqrec(tmp_path, "train x.h5 --model mine --plugin mine.py")
    assert done.returncode == 2
    assert "mine: --seed is an option of the command itself; a method cannot have it" in done.stderr


def test_the_flag_is_taken_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "known.py")
    monkeypatch.chdir(tmp_path)
    for name in ("a.py", "b.py"):
        (tmp_path / name).touch()
    words = ["--plugin", "a.py", "train", "x.h5", "--plugin=b.py", "--json", "--plugin", "a.py"]
    take_flag(words)
    assert words == ["train", "x.h5", "--json"]
    paths = ["known.py", str(tmp_path / "a.py"), str(tmp_path / "b.py")]
    assert os.environ[plugins.VARIABLE] == os.pathsep.join(paths)
    last = ["train", "--plugin"]
    take_flag(last)
    assert last == ["train", "--plugin"], "Typer says that a value is needed"
    with pytest.raises(MissingFileError, match=r"--plugin no\.py: no such file"):
        take_flag(["train", "--plugin", "no.py"])
    take_flag(["train", "--plugin", "a"], complete=False)
    assert os.environ[plugins.VARIABLE] == os.pathsep.join(paths)


def test_an_encoder_by_its_name(site, monkeypatch, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "letters.py").write_text(FILES["letters.py"])
    monkeypatch.setenv(plugins.VARIABLE, str(place / "letters.py"))
    try:
        values, readable = load_encoder("text", "letters", device=None, max_length=4).encode(["Abba", "bbbbb", ""])
        assert values[:, :3].tolist() == [[2, 2, 0], [0, 4, 0], [0, 0, 0]]
        assert readable.all()
        with pytest.raises(UsageError, match="--image-model letters: it encodes text"):
            load_encoder("image", "letters", device=None)
    finally:
        ENCODERS.remove("letters")


@pytest.mark.slow
def test_a_trained_model_in_a_file(files, tmp_path, bbqrec):
    """It learns, and is tuned and compared by a suite."""
    (tmp_path / "mean.py").write_text(FILES["mean.py"])
    shutil.copy(files["features"], tmp_path / "features.h5")
    small = "--width 8 --batch-size 10 --epochs 20 --learning-rate 0.02 --loss gbce --features all --device cpu"
    done = bbqrec(tmp_path, f"train features.h5 --plugin mean.py --model mean {small} --json")
    assert done.returncode == 0, done.stderr
    history = read_model(tmp_path / "model.h5").history
    assert history[-1]["loss"] < history[0]["loss"]
    suite = 'name = "mine"\n[data]\nfile = "features.h5"\n[tune]\ntrials = 2\n'
    suite += "".join(f'[[system]]\nname = "{name}"\nepochs = 1\nwidth = 8\n' for name in ("mean", "sasrec"))
    (tmp_path / "mine.toml").write_text(suite)
    done = bbqrec(tmp_path, "benchmark mine.toml --plugin mean.py --device cpu --json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tuning"].keys() == {"mean", "sasrec"}


def test_a_trained_model_sees_nothing_that_comes_later(site):
    from bbqrec_cli.models.registry import MODELS, build_model, model_config, model_settings

    (site / "mean.py").write_text(FILES["mean.py"])
    importlib.import_module("mean")
    try:
        data = ItemData(ids=Vocabulary([str(item) for item in range(9)]))
        model = build_model("mean", model_settings(model_config("mean", {"width": 8})), data).eval()
    finally:
        MODELS.remove("mean")
    items = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, -1, -1]])
    states = model.states(Batch(items, torch.full_like(items, -1)))
    torch.testing.assert_close(states[0, :3], states[1, :3])
    torch.testing.assert_close(states[0, :2], states[2, :2])


def test_encoders_are_declared_as_encoders():
    from bbqrec_cli.models.registry import MODELS

    with pytest.raises(UsageError, match="derives from EncoderConfig"):
        ENCODERS.add(MODELS.config("sasrec"))
    taken = type("Taken", (EncoderConfig,), {"name": "descriptor", "implementation": "a:B"})
    with pytest.raises(UsageError, match=r"descriptor, which the file .* adds, is one of bbqrec .* already"):
        ENCODERS.add(taken)
    in_a_cell = type("Cell", (EncoderConfig,), {"__module__": "__main__", "implementation": "a:B"})
    with pytest.raises(UsageError, match="Cell has no name; one that no file declares needs it"):
        ENCODERS.add(in_a_cell)


def test_a_worker_of_ray_has_the_plugins(monkeypatch, tmp_path):
    from bbqrec_cli.benchmark.executors import ray

    seen = []
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray.Step, "from_json", lambda text: text)
    monkeypatch.setattr(ray, "run_step", lambda step, progress: seen.append(os.environ[plugins.VARIABLE]) or {})
    ray._run("{}", str(tmp_path), "mine.py")
    assert seen == ["mine.py"]


# As programs


def environment(*paths: Path, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in (plugins.VARIABLE, "PYTHONPATH")}
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join(filter(None, [*map(str, paths), str(ROOT), *inherited]))
    return kept | {"PYTHONPATH": path, "COLUMNS": "200", "OMP_NUM_THREADS": "1"} | more


@pytest.fixture
def bbqrec(quick_python) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`bbqrec(folder, "inspect x.h5")` is that command there, in a process of its own."""

    def run(place: Path, line: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [quick_python, "-m", "bbqrec_cli", *shlex.split(line)]
        return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, env=environment(**more))

    return run


def test_a_command_to_give_again_names_the_files(monkeypatch, tmp_path):
    """Those below the current folder by their relative path."""
    monkeypatch.chdir(tmp_path)
    paths = (str(tmp_path / "my models" / "mine.py"), "letters.py", str(tmp_path.parent / "other.py"))
    monkeypatch.setenv(plugins.VARIABLE, os.pathsep.join(paths))
    config = CompareConfig(input=(Path("a.h5"), Path("b.h5")))
    said = f"bbqrec compare --plugin 'my models/mine.py' --plugin letters.py --plugin {paths[2]} a.h5 b.h5"
    assert command_line("compare", config) == said


def test_help_looks_for_no_plugin(tmp_path):
    """`bbqrec --help` stays fast, whatever is installed; a command's help has the options of what is."""
    code = "import pathlib\npathlib.Path('loaded').touch()\n" + CONFIG.format(name="Shop", method="shop", module="shop")
    install(tmp_path, "shop", code, "shop = shop:Shop")
    run = [sys.executable, "-m", "bbqrec_cli"]
    for words, loaded in ((["--help"], False), (["train", "--model", "shop", "--help"], True)):
        done = subprocess.run(
            [*run, *words], cwd=tmp_path, capture_output=True, text=True, check=True, env=environment(tmp_path)
        )
        assert (tmp_path / "loaded").exists() == loaded
    assert re.search(r"--size .* A size\. \[default: 3\]", done.stdout)


def test_completion_knows_a_file_and_says_nothing_else(tmp_path, bbqrec):
    (tmp_path / "letters.py").write_text(FILES["letters.py"])
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind")
    words = "bbqrec embed --plugin broken.py --plugin letters.py --text-model le"
    done = bbqrec(tmp_path, "", COMP_WORDS=words, COMP_CWORD="7", _BBQREC_COMPLETE="complete_bash")
    assert (done.stdout.split(), done.stderr) == (["letters"], "")


def test_the_command_line_warns_and_goes_on(tmp_path, files, bbqrec):
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind")
    line = f"train {files['dataset']} --model popularity -o model.h5 --plugin broken.py --json"
    done = bbqrec(tmp_path, line)
    assert done.returncode == 0
    assert json.loads(done.stdout)["model"] == "popularity"
    warning = "warning: the plugin broken.py is left out: ModuleNotFoundError: No module named 'nothing_of_the_kind'"
    assert done.stderr.splitlines().count(warning) == 1
    assert bbqrec(tmp_path, "train --plugin no.py").returncode == 3


SOURCE_AND_TOKENIZER = '''
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bbqrec_cli.config import MethodConfig, option
from bbqrec_cli.data.sources.base import Items, by_user
from bbqrec_cli.data.sources.registry import SOURCES
from bbqrec_cli.records import Codes
from bbqrec_cli.tokenizers.base import Tokenized
from bbqrec_cli.tokenizers.options._codebooks import CodebookConfig
from bbqrec_cli.tokenizers.registry import TOKENIZERS


@dataclass(frozen=True, kw_only=True)
class RingConfig(MethodConfig):
    """Users that walk round a ring of items."""

    name: ClassVar[str] = "ring"
    implementation: ClassVar[str] = f"{__name__}:Ring"
    size: int = option(5, "Items.", minimum=3)


class Ring:
    minimum, files = 0, []

    def __init__(self, paths, options, *, seed, progress):
        self.size = options.size

    def interactions(self):
        steps = [(f"u{user}", f"i{(user + step) % self.size}") for user in range(4) for step in range(6)]
        return by_user([user for user, _ in steps], [item for _, item in steps])

    def items(self, item_ids):
        return Items(fields={"title": [f"item {name}" for name in item_ids]})


@dataclass(frozen=True, kw_only=True)
class DigitsConfig(CodebookConfig):
    """Digits of rows."""

    name: ClassVar[str] = "digits"
    implementation: ClassVar[str] = f"{__name__}:Digits"


class Digits:
    needs_features = False

    def __init__(self, config):
        self.config = config

    def fit(self, inputs, run):
        places = self.config.codebook_size ** np.arange(self.config.levels)[::-1]
        codes = (np.arange(inputs.items)[:, None] // places % self.config.codebook_size).astype(np.uint16)[:, :, None]
        made = Codes(codes=codes, modalities=("n",), method="digits", codebook_size=self.config.codebook_size)
        return Tokenized(codes=made, history=[])


SOURCES.add(RingConfig)
TOKENIZERS.add(DigitsConfig)
'''


def test_a_file_with_a_source_and_a_tokenizer(tmp_path, bbqrec):
    (tmp_path / "ring.py").write_text(SOURCE_AND_TOKENIZER)
    lines = ["prepare ring --size 7 --json", "tokenize dataset.h5 --method digits --levels 2 --codebook-size 3 --json"]
    made, ids = (bbqrec(tmp_path, f"{line} --plugin ring.py") for line in lines)
    assert (made.returncode, ids.returncode) == (0, 0), made.stderr + ids.stderr
    assert json.loads(made.stdout)["items"] == 7
    assert json.loads(ids.stdout)["colliding_items"] == 0
    for name in ("dataset", "tokens"):
        assert describe(tmp_path / f"{name}.h5")["config"]["plugin"] == {"file": "ring.py"}


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ('f"i{', 'f" i{', 3, "error: the source 'ring' gives the item id ' i0', with spaces around it"),
        ("for name in item_ids]", "for name in item_ids[1:]]", 3,
         "error: the source 'ring' gives the field 'title' for 4 items; 5 are asked"),
        ('[f"item {name}"', '[f"item {int(name)}"', 1, "error: an error in the plugin ring.py, line 36: ValueError: "),
        ("[item for _, item in steps])", "[item for _, item in steps], 7)", 1,
         "error: an error in the plugin ring.py, line 33: "),
    ],
)  # fmt: skip
def test_a_source_that_is_wrong_is_said_to_be(old, new, code, said, tmp_path, bbqrec):
    """And not bbqrec, and nothing is written."""
    assert SOURCE_AND_TOKENIZER.count(old) == 1
    (tmp_path / "ring.py").write_text(SOURCE_AND_TOKENIZER.replace(old, new))
    done = bbqrec(tmp_path, "prepare ring --plugin ring.py")
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said), done.stderr
    assert "bug" not in done.stderr
    assert not (tmp_path / "dataset.h5").exists()


def test_a_model_of_a_file_that_is_not_given(files, tmp_path, bbqrec):
    (tmp_path / "mean.py").write_text(FILES["mean.py"])
    shutil.copy(files["features"], tmp_path / "features.h5")
    small = "--width 8 --batch-size 10 --epochs 1 --features all --device cpu"
    done = bbqrec(tmp_path, f"train features.h5 --plugin mean.py --model mean {small} -o model.h5")
    assert done.returncode == 0, done.stderr
    done = bbqrec(tmp_path, "evaluate model.h5 --device cpu")
    assert done.returncode == 4
    assert "needs the model 'mean' of a plugin, the file mean.py" in done.stderr
    assert "--plugin mean.py" in done.stderr
    assert bbqrec(tmp_path, "evaluate model.h5 --device cpu --plugin mean.py").returncode == 0


SUITE = """
name = "toy"
seeds = [0]
data = {source = ["demo"], prepare = {size = "small"}}

[[system]]
name = "what follows"
model = "transitions"
"""


@pytest.mark.slow
def test_the_page_as_it_stands(tmp_path, quick_python):
    """Its package is installed, and its commands run; then a benchmark in processes of its own."""
    for path, code in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(code)
    site, stubs = tmp_path / "site", tmp_path / "bin"
    stubs.mkdir()
    pip = f"-m pip install -q --disable-pip-version-check --no-index --no-deps --no-build-isolation --target {site} $2"
    for name, python, arguments in (("pip", sys.executable, pip), ("bbqrec", quick_python, '-m bbqrec_cli "$@"')):
        (stubs / name).write_text(f"#!/bin/sh\nexec {shlex.quote(python)} {arguments}\n")
        (stubs / name).chmod(0o755)
    (tmp_path / "suite.toml").write_text(SUITE)
    more = "bbqrec inspect transitions.h5 --json > inspected.json\n"
    more += "bbqrec train dataset.h5 --plugin letters.py --model transitions -o again-transitions.h5 --json\n"
    more += "bbqrec benchmark suite.toml -o bench --executor processes --device cpu --quiet --json > bench.json\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail"], input=COMMANDS + more, cwd=tmp_path, capture_output=True, text=True, check=False,
        env=environment(site, PATH=f"{stubs}{os.pathsep}{os.environ['PATH']}"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Options of transitions" in done.stdout
    assert "--popularity" in done.stdout
    inspected = json.loads((tmp_path / "inspected.json").read_text())
    assert inspected["config"]["plugin"] == {"distribution": "bbqrec-transitions", "version": "1.0"}
    assert inspected["config"]["options"] == {"popularity": 0.1}
    one, other = (read_features(tmp_path / f"{name}.h5").features["text"] for name in ("letters", "again"))
    assert (one.values.shape[1], one.encoder) == (26, "letters")
    np.testing.assert_array_equal(one.values, other.values)
    found = json.loads((tmp_path / "bench.json").read_text())
    assert (found["failed"], found["left"], list(found["systems"])) == (0, 0, ["what follows"])


def test_a_tuning_does_not_mix_programs(site, registry, monkeypatch):
    """Whoever writes a plugin changes it often."""
    (site / "mine.py").write_text(FILE.replace("\nregistry.under_test.add(Mine)", ""))
    cls = importlib.import_module("mine").Mine
    monkeypatch.setattr(budget, "MODELS", types.SimpleNamespace(config=lambda name: cls))
    system = types.SimpleNamespace(
        model="mine",
        base={},
        validate_every=1,
        options=lambda values: {},
        to_json=lambda: {"model": "mine", "tried": {}},
    )
    config = TuneConfig(input=Path("t.h5"), model=("sasrec",))
    before = budget.identity(config, system, "content")
    (site / "mine.py").write_text(FILE.replace("option(3", "option(4"))
    os.utime(site / "mine.py", ns=(1, 1))
    changed = budget.identity(config, system, "content")
    assert {key for key in before if before[key] != changed[key]} == {"program"}
