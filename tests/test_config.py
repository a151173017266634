from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from bbqrec_cli.config import (
    MethodConfig,
    StageConfig,
    agreed,
    check_files,
    from_mapping,
    input_files,
    named_file,
    of_paper,
    of_role,
    option,
    read_toml,
    search_of,
    stored,
)
from bbqrec_cli.errors import CODES, BBQRecError, MissingFileError, UsageError
from bbqrec_cli.origin import command_line


@dataclass(frozen=True, kw_only=True)
class Config(StageConfig):
    """One field of each type."""

    source: Path = option(help="a path", positional=True)
    codebook_size: int = option(256, "codes", minimum=2, maximum=65535)
    dropout: float = option(0.1, "share", minimum=0, maximum=1)
    method: str = option("bbqrec", "name", choices=("bbqrec", "rqvae"))
    signals: tuple[str, ...] = option(("id", "text"), "names")
    depths: tuple[int, ...] = option((5, 10), "numbers", minimum=1)
    limit: int | None = option(None, "perhaps a number")
    names: tuple[str, ...] = option((), "each as it is", repeatable=True, agreed=False, role="runtime")
    output: Path = option(Path("o.h5"), "not recorded", role="output")
    flag: bool = option(False, "on or off")


def make(**values):
    return from_mapping(Config, {"source": "x", **values}, where="run.toml")


def test_values_become_their_types():
    made = make(**{"codebook-size": "64", "dropout": 1, "signals": "id,image", "depths": "5,20", "limit": 3})
    assert (made.source, made.codebook_size, made.dropout) == (Path("x"), 64, 1.0)
    assert (made.signals, made.depths, made.limit) == (("id", "image"), (5, 20), 3)
    assert isinstance(made.dropout, float)
    assert make(signals=["text"], limit=None).signals == ("text",)
    assert make(names="Smith, 1").names == ("Smith, 1",), "an option that is repeated is not split"
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.dropout = 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"codebok_size": 3}, "run.toml: unknown option 'codebok_size' (did you mean 'codebook_size'?)"),
        ({"zzz": 3}, "run.toml: unknown option 'zzz'"),
        ({"method": "rqva"}, "--method is 'rqva'; allowed: bbqrec, rqvae (did you mean 'rqvae'?)"),
        ({"codebook_size": 1}, "--codebook-size is 1; it must be 2 to 65535"),
        ({"dropout": 1.5}, "--dropout is 1.5; it must be 0 to 1"),
        ({"dropout": float("nan")}, "--dropout is nan; it must be 0 to 1"),
        ({"depths": "5,0"}, "--depths is 0; it must be at least 1"),
        ({"codebook_size": "many"}, "--codebook-size is 'many'; an integer is needed"),
        ({"codebook_size": 2.5}, "--codebook-size is 2.5; an integer is needed"),
        ({"codebook_size": True}, "--codebook-size is True; an integer is needed"),
        ({"flag": "yes"}, "--flag is 'yes'; true or false is needed"),
        ({"signals": 3}, "--signals is 3; a list is needed"),
        ({"seed": 10**30}, "a smaller number is needed"),
        ({"dropout": 10**400}, "--dropout is inf; it must be 0 to 1"),
        ({"seed": -1}, "--seed is -1; it must be at least 0"),
        ({"source": 3}, "--source is 3; a path is needed"),
    ],
)
def test_bad_values_are_refused_by_name(values, message):
    with pytest.raises(UsageError) as caught:
        make(**values)
    assert message in caught.value.message


def test_a_required_option():
    with pytest.raises(UsageError, match="--source is needed"):
        from_mapping(Config, {}, where="here")


def test_stored_is_json_without_what_the_machine_decides():
    assert stored(make()) == {
        "seed": 0, "source": "x", "codebook_size": 256, "dropout": 0.1, "method": "bbqrec", "signals": ["id", "text"],
        "depths": [5, 10], "limit": None, "flag": False,
    }  # fmt: skip


COMMANDS = ("train", "embed")


def test_toml_sections(tmp_path):
    """The top level holds for every command, its own table for one."""
    path = tmp_path / "run.toml"
    path.write_text('seed = 7\nthreads = 2\n[train]\nseed = 8\nmodel = "sasrec"\n[train.options]\nwidth = 64\n')
    assert read_toml(path, "train", COMMANDS) == {
        "seed": 8, "threads": 2, "model": "sasrec", "options": {"width": 64}
    }  # fmt: skip
    assert read_toml(path, "embed", COMMANDS) == {"seed": 7, "threads": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[trian]\nseed = 7\n", r"unknown table \[trian\] \(did you mean 'train'\?\)"),
        ("train = 3\n", r"train is 3; a table \[train\] is needed"),
    ],
)
def test_a_table_that_nobody_would_read(tmp_path, content, message):
    path = tmp_path / "run.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_toml(path, "train", COMMANDS)


@pytest.mark.parametrize("content", [b"seed = ", b"\xff\xfe", b"[a]\n[a]\n"])
def test_bad_toml(tmp_path, content):
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"run\.toml: not a TOML file"):
        read_toml(path, "train", COMMANDS)


def test_no_toml(tmp_path):
    with pytest.raises(MissingFileError, match="no such configuration file"):
        read_toml(tmp_path / "none.toml", "train", COMMANDS)
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_toml(tmp_path, "train", COMMANDS)


def every_error(cls=BBQRecError):
    yield cls
    for each in cls.__subclasses__():
        if each.__module__.startswith("bbqrec_cli."):  # other tests make errors of their own
            yield from every_error(each)


def test_error_codes_are_closed_and_distinct():
    codes = [error.code for error in every_error() if error.__module__.startswith("bbqrec_cli.")]
    assert sorted(codes) == list(CODES)
    assert {error.exit_code for error in every_error()} == {1, 2, 3, 4, 130}


def test_what_the_paper_has_departs_from_a_default():
    """A declaration that says what the default says anyway would be noise."""
    from bbqrec_cli.models.registry import MODELS
    from bbqrec_cli.stages.tokenize import TokenizeConfig
    from bbqrec_cli.tokenizers.registry import TOKENIZERS

    for cls in (TokenizeConfig, MODELS.config("bbqrec"), TOKENIZERS.config("bbqrec")):
        assert of_paper(cls), cls
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}
        made = from_mapping(cls, of_paper(cls), where="the paper")
        for name, value in of_paper(cls).items():
            assert getattr(made, name) == value != defaults[name], f"{cls.__name__}.{name}"


@dataclass(frozen=True, kw_only=True)
class Roles(StageConfig):
    """One option of each role."""

    input: Path = option(Path("in.h5"), "a file", role="input", positional=True)
    several: tuple[str, ...] = option((), "more files", role="input")
    encoder: str = option("", "a folder, or a name on a hub", role="input", hub=True, agreed=True)
    output: Path = option(Path("o.h5"), "where to", role="output")
    width: int = option(8, "what is built", role="model")
    epochs: int = option(3, "how it is learnt")
    minutes: float = option(0.0, "when to stop", agreed=False)
    resume: bool = option(False, "how to run", role="runtime")
    options: dict = option({})


def test_a_plain_default_keeps_the_rest_of_the_declaration():
    @dataclass(frozen=True, kw_only=True)
    class Base(MethodConfig):
        width: int = option(128, "Width.", role="model", minimum=1, paper=64, search=(32, 64))

    @dataclass(frozen=True, kw_only=True)
    class Own(Base):
        width: int = 16

    assert (Own().width, Base().width) == (16, 128)
    assert of_role(Own(), "model") == {"width": 16}
    assert (of_paper(Own), search_of(Own, "width")) == ({"width": 64}, (32, 64))
    with pytest.raises(UsageError, match="--width is 0; it must be at least 1"):
        from_mapping(Own, {"width": 0}, where="a file")


def test_roles_say_what_is_stored_and_what_a_resumed_run_must_agree_on(tmp_path):
    (tmp_path / "folder").mkdir()
    made = Roles(several=("a.json", "b.json"), encoder="some/name")
    assert set(stored(made)) == {"seed", "input", "several", "encoder", "width", "epochs", "minutes", "options"}
    assert set(agreed(made)) == {"seed", "encoder", "width", "epochs", "options"}
    assert of_role(made, "model") == {"width": 8}
    files = [("input", Path("in.h5")), ("several", Path("a.json")), ("several", Path("b.json"))]
    assert input_files(made) == files, "a name on a hub is no file"
    assert ("encoder", tmp_path / "folder") in input_files(Roles(encoder=str(tmp_path / "folder")))
    with pytest.raises(MissingFileError, match=r"a\.json: no such file"):
        check_files(dataclasses.replace(made, input=Path(__file__)))


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("text=v.npz:table", ("text", "v.npz", "table")),
        ("text=v.npy", ("text", "v.npy", "")),
        ("a=models/x:{title}: {b}", ("a", "models/x", "{title}: {b}")),
        (r"a=C:\v.npz:table", ("a", r"C:\v.npz", "table")),
        ("a=:title", ("a", "", "title")),
        ("v.npy", ("v.npy", "", "")),
    ],
)
def test_the_parts_of_a_named_file(value, parts):
    assert named_file(value) == parts


def test_the_command_line_that_does_it_again():
    """Without defaults, without what only says how to run, without --force; as a shell reads it."""
    from bbqrec_cli.benchmark.run import BenchmarkConfig
    from bbqrec_cli.tuning.run import TuneConfig

    config = TuneConfig(
        input=Path("my tokens.h5"), output=Path("work"), model=("sasrec", "bbqrec"), trials=3, minutes=1.5, seed=2,
        exclude_seen=True, force=True, threads=4, device="cpu", show_space=True,
        options={"learning_rate": 0.00012345678, "dense_head": False, "signals": ("id", "text"), "epochs": 3.0},
    )  # fmt: skip
    said = command_line("tune", config)
    assert said == (
        "bbqrec tune 'my tokens.h5' --seed 2 --exclude-seen --trials 3 --minutes 1.5 -o work --model sasrec,bbqrec "
        "--learning-rate 0.00012345678 --no-dense-head --signals id,text --epochs 3"
    )
    assert command_line("tune", TuneConfig()) == "bbqrec tune tokens.h5"
    suite = BenchmarkConfig(suite="demo", data=("a=a.h5", "b=b.h5"), train_minutes=3.0, jobs=2, time_budget="2h")
    assert command_line("benchmark", suite) == "bbqrec benchmark demo --data a=a.h5 --data b=b.h5 --train-minutes 3"
