from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest

from bbqrec_cli.config import StageConfig, from_mapping, option, read_toml, stored
from bbqrec_cli.errors import CODES, BBQRecError, MissingFileError, UsageError


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
        ({"codebook_size": "many"}, "--codebook-size is 'many'; a whole number is needed"),
        ({"codebook_size": 2.5}, "--codebook-size is 2.5; a whole number is needed"),
        ({"codebook_size": True}, "--codebook-size is True; a whole number is needed"),
        ({"flag": "yes"}, "--flag is 'yes'; true or false is needed"),
        ({"signals": 3}, "--signals is 3; a list is needed"),
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
    with pytest.raises(UsageError, match="not a TOML file"):
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


def test_the_papers_setting_gives_way_to_what_is_given():
    from bbqrec_cli.models.registry import model_config

    assert model_config("bbqrec", {}).tuple_vectors == "free"
    assert model_config("bbqrec", {}, paper=True).tuple_vectors == "none"
    assert model_config("bbqrec", {"tuple-vectors": "free"}, paper=True).tuple_vectors == "free"


def test_every_setting_of_the_paper_departs_from_a_default():
    """An entry that says what the default says anyway would be noise, and a misspelt one a trap."""
    from bbqrec_cli.models.registry import MODELS
    from bbqrec_cli.tokenizers.registry import TOKENIZERS

    for cls in {cls for _, cls in (*MODELS.values(), *TOKENIZERS.values()) if hasattr(cls, "PAPER")}:
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}
        made = from_mapping(cls, cls.PAPER, where="the paper")
        for name, value in cls.PAPER.items():
            assert getattr(made, name) == value != defaults[name], f"{cls.__name__}.{name}"


def test_paper_is_for_methods_with_a_setting_of_the_papers():
    from bbqrec_cli.tokenizers.registry import tokenizer_config

    with pytest.raises(UsageError, match="--paper: --method rqvae has no setting"):
        tokenizer_config("rqvae", {}, paper=True)
