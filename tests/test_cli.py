from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from bbqrec_cli import interrupts
from bbqrec_cli.cli import app as cli
from bbqrec_cli.cli import evaluate as evaluate_command
from bbqrec_cli.cli import inspect as inspect_command
from bbqrec_cli.cli import train as train_command
from bbqrec_cli.cli.console import Console
from bbqrec_cli.errors import BBQRecError, CollapseError, DiskFullError, InterruptedRunError, UsageError
from bbqrec_cli.stages import tokenize as tokenize_stage

COMMANDS = [command.name for command in cli.app.registered_commands]
HEAVY = {"torch", "numpy", "h5py", "scipy", "transformers", "sentence_transformers", "faiss", "matplotlib", "PIL"}


def shell(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "bbqrec_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def last_json(text: str) -> dict:
    return json.loads(text.strip().splitlines()[-1])


def processor_seconds(code: str) -> tuple[float, subprocess.CompletedProcess]:
    """Of a new Python that runs it: of two, the one that other work disturbed less."""
    runs = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        runs.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done))
    return min(runs, key=lambda run: run[0])


@pytest.fixture(scope="module")
def start() -> float:
    """Processor seconds that a program of these packages takes to start on this machine."""
    seconds, done = processor_seconds("import typer, rich.console, rich.table, json, dataclasses")
    assert done.returncode == 0, done.stderr
    return seconds


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing_heavy(command, start):
    """0.3 s are kept where torch, numpy and h5py stay out; here as a multiple, since machines differ: 2 to 4.5 times
    what Typer and rich take, and torch would be 14 more."""
    code = f"""
import sys
from bbqrec_cli.cli import app
try:
    app.main({[*command.split(), "--help"]})
except SystemExit as stop:
    assert not stop.code, stop.code
print("IMPORTED", *(set(sys.modules) & {HEAVY}))
"""
    seconds, done = processor_seconds(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["IMPORTED"]
    assert seconds < 7 * start
    assert "--json" in done.stdout or not command


def test_version():
    done = shell("--version")
    assert done.stdout.startswith("bbqrec 0.")


def test_json_is_alone_on_stdout(files, bbqrec):
    outcome = bbqrec("inspect", files["tokens"], "--json")
    assert outcome.status == 0
    said = json.loads(outcome.out)
    assert {"kind", "schema_version", "config", "parents", "datasets"} <= said.keys()
    assert outcome.err == ""


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["inspect", "none.h5"], 3, "missing_file"),
        (["inspect"], 2, "usage"),
        (["inspect", "x", "--colour"], 2, "usage"),
        (["inspct", "x"], 2, "usage"),
        (["evaluate", "x", "--seed", "-1"], 2, "usage"),
        (["evaluate", "x", "--seed", "one"], 2, "usage"),
        (["embed", "none.h5", "--precision", "fp8"], 2, "usage"),
        (["inspect", "x", "--config", "none.toml"], 3, "missing_file"),
    ],
)
def test_exit_status_and_json_error(bbqrec, tmp_path, monkeypatch, arguments, status, code):
    monkeypatch.chdir(tmp_path)
    outcome = bbqrec(*arguments, "--json")
    assert outcome.status == status
    assert outcome.out == ""
    said = json.loads(outcome.err)
    assert said.keys() == {"error", "message", "hint"}
    assert said["error"] == code
    plain = bbqrec(*arguments)
    assert (plain.status, plain.out) == (status, "")
    assert "Traceback" not in plain.err
    assert plain.err


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UsageError("u", "h"), 2, "usage"),
        (CollapseError("c"), 3, "collapse"),
        (DiskFullError("d", "free some"), 4, "disk_full"),
        (InterruptedRunError("i"), 130, "interrupted"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 4, "environment"),
        (RuntimeError("CUDA out of memory. Tried"), 4, "environment"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `x`"), 4, "environment"),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "disk_full"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 4, "environment"),
        (ModuleNotFoundError("No module named 'scipy'", name="scipy"), 4, "missing_package"),
        (ModuleNotFoundError("No module named 'x'", name="bbqrec_cli.x"), 1, "error"),
        (ValueError("oops"), 1, "error"),
    ],
)
def test_what_a_stage_raises(bbqrec, monkeypatch, error, status, code):
    def fails(*_):
        raise error

    monkeypatch.setattr(inspect_command, "run", fails)
    outcome = bbqrec("inspect", "x", "--json")
    assert (outcome.status, outcome.out) == (status, "")
    said = json.loads(outcome.err)
    assert said["error"] == code
    if isinstance(error, BBQRecError):
        assert said == {"error": error.code, "message": error.message, "hint": error.hint}
    plain = bbqrec("inspect", "x")
    assert plain.status == status
    assert "Traceback" not in plain.err
    verbose = bbqrec("inspect", "x", "--verbose")
    assert ("Traceback" in verbose.err) == (not isinstance(error, (BBQRecError, KeyboardInterrupt)))


@pytest.mark.parametrize(
    ("called", "program"), [("/usr/bin/bbqrec", "bbqrec"), ("/lib/bbqrec_cli/__main__.py", "python -m bbqrec_cli")]
)
def test_a_usage_error_names_the_command_that_was_typed(bbqrec, monkeypatch, called, program):
    monkeypatch.setattr(sys, "argv", [called])
    assert f"error: {program} train: --threads is -1" in bbqrec("train", "--threads", -1).err
    assert f"Usage: {program} train [OPTIONS]" in bbqrec("train", "--colour").err
    said = json.loads(bbqrec("train", "--colour", "--json").err)
    assert said["message"].startswith(f"{program} train: No such option: --colour")
    assert said["hint"] == f"{program} train --help"


def test_an_option_of_other_models_is_said_as_what_a_model_lacks(bbqrec):
    said = bbqrec("train", "--model", "popularity", "--epochs", 3)
    assert said.status == 2
    assert "popularity has no epochs; --epochs is an option of bbqrec, " in said.err
    assert "leave --epochs out; popularity takes no options" in said.err
    said = bbqrec("train", "--recipe", "tiger", "--model", "popularity")
    assert "the recipe tiger: popularity has no " in said.err
    assert "leave --recipe or --model out; popularity takes no options" in said.err


WITHOUT = {
    "prepare": {"--device", "--threads"},
    "embed": {"--seed"},
    "collisions": {"--device"},
    "recommend": {"--force", "--seed"},
    "compare": {"--device", "--seed", "--threads"},
    "export": {"--seed"},
    "inspect": {"--device", "--force", "--seed", "--threads"},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_only_what_has_an_effect(bbqrec, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "200")
    shown = set(re.findall(r"^│ +(--[a-z-]+)", bbqrec(command, "--help").out, re.MULTILINE))
    common = {"--seed", "--device", "--threads", "--force"}
    assert shown & common == common - WITHOUT.get(command, set())
    for flag in WITHOUT.get(command, ()):
        assert "No such option" in bbqrec(command, "x", flag, "1").err


def test_a_shared_toml_file_may_set_what_one_command_does_without(files, bbqrec, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('seed = 3\ndevice = "cpu"\nthreads = 1\n')
    assert bbqrec("inspect", files["tokens"], "--config", path).status == 0


def test_config_file_and_flags_that_win(bbqrec, tmp_path, monkeypatch):
    seen = []

    def listens(config, console):
        seen.append(config)
        raise UsageError("enough")

    monkeypatch.setattr(evaluate_command, "run", listens)
    run = tmp_path / "run.toml"
    run.write_text("[evaluate]\nseed = 7\nthreads = 2\nforce = true\n")
    bbqrec("evaluate", "x", "--config", run, "--seed", "3")
    assert (seen[0].seed, seen[0].threads, seen[0].force) == (3, 2, True)
    run.write_text("[evaluate]\nsede = 7\n")
    outcome = bbqrec("evaluate", "x", "--config", run)
    assert outcome.status == 2
    assert "unknown option 'sede' (did you mean 'seed'?)" in outcome.err
    run.write_text("seed = [\n")
    assert bbqrec("evaluate", "x", "--config", run).status == 2
    run.write_text("seed = 7\n")
    assert "bbqrec evaluate: --threads is -1" in bbqrec("evaluate", "x", "--config", run, "--threads", -1).err
    run.write_text("threads = -1\n")
    assert "run.toml: --threads is -1" in bbqrec("evaluate", "x", "--config", run).err
    assert len(seen) == 1


def test_what_a_recipe_switches_on_a_flag_switches_off(bbqrec, tmp_path, monkeypatch):
    seen = []

    def listens(config, console):
        seen.append(config)
        raise UsageError("enough")

    monkeypatch.setattr(tokenize_stage, "run", listens)
    bbqrec("tokenize", "--recipe", "bbqrec-paper")
    bbqrec("tokenize", "--recipe", "bbqrec-paper", "--no-plain-equations")
    assert [each.options["plain_equations"] for each in seen] == [True, False]
    both = bbqrec("tokenize", "--plain-equations", "--no-plain-equations")
    assert both.status == 2
    assert "--plain-equations and --no-plain-equations exclude each other" in both.err
    assert "--no-plain-equations" not in bbqrec("tokenize", "--help").out


def test_append_names_what_was_typed(bbqrec):
    said = bbqrec("tokenize", "--append", "tokens.h5", "features.h5", "--recipe", "bbqrec-paper")
    assert said.status == 2
    assert "--recipe has no effect" in said.err


def test_the_options_of_a_model_in_a_file(bbqrec, tmp_path, monkeypatch):
    """As they are shown by --help, or in a table as `inspect` shows them."""
    seen = []

    def listens(config, console):
        seen.append(config)
        raise UsageError("enough")

    monkeypatch.setattr(train_command, "run", listens)
    run = tmp_path / "run.toml"
    run.write_text("[train]\nmodel = 'sasrec'\nbatch-size = 3\n[train.options]\nwidth = 32\nlayers = 1\n")
    bbqrec("train", "--config", run, "--layers", "4")
    assert (seen[0].model, seen[0].options) == ("sasrec", {"width": 32, "layers": 4, "batch_size": 3})
    run.write_text("[train]\noptions = 3\n")
    assert "run.toml: --options is 3; a table is needed" in bbqrec("train", "--config", run).err
    run.write_text("[train]\nmodel = 'sasrec'\n[train.options]\nwidth = 'x'\n")
    assert "run.toml: --width is 'x'; an integer is needed" in bbqrec("train", "--config", run).err
    run.write_text("[train]\nwidht = 3\n")
    assert "run.toml: unknown option 'widht' (did you mean 'width'?)" in bbqrec("train", "--config", run).err


POSITIONAL = {"prepare": ["demo"], "inspect": ["x.h5"], "export": ["x.h5"], "benchmark": ["demo"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_file_of_options(bbqrec, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run.toml"
    other = next(each for each in COMMANDS if each != command)
    run.write_text(f"[{command}]\nthreds = 1\n[{other}]\nnonsense = 1\n")
    refused = bbqrec(command, *POSITIONAL.get(command, []), "--config", run, "--json")
    assert (refused.status, refused.out) == (2, "")
    assert json.loads(refused.err)["message"] == f"{run}: unknown option 'threds' (did you mean 'threads'?)"
    run.write_text(f"[{command}]\ndevice = 'nonsense'\nseed = -1\n")
    assert f"{run}: --seed is -1" in bbqrec(command, *POSITIONAL.get(command, []), "--config", run).err
    run.write_text(f"[{command}x]\nseed = 1\n")
    said = bbqrec(command, *POSITIONAL.get(command, []), "--config", run).err
    assert f"{run}: unknown table [{command}x] (did you mean '{command}'?)" in said


def test_quiet(files, bbqrec, tmp_path):
    loud = bbqrec("embed", files["dataset"], "-o", tmp_path / "a.h5", "--modalities", "image", "--resume")
    quiet = bbqrec("embed", files["dataset"], "-o", tmp_path / "b.h5", "--modalities", "image", "--resume", "--quiet")
    assert "no checkpoint" in loud.err
    assert (quiet.status, quiet.err) == (0, "")
    assert "\x1b" not in loud.err + loud.out  # no colours where there is no terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


TRAIN = ("--model", "sasrec", "--epochs", 2, "--width", 8, "--batch-size", 4, "--device", "cpu")


def train_on(terminal, bbqrec, monkeypatch, files, output, *more) -> str:
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "100")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert bbqrec("train", files["tokens"], "-o", output, *TRAIN, *more).status == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


def test_bars_with_loss_and_time_left_on_a_terminal(bbqrec, monkeypatch, files, tmp_path):
    said = train_on(Terminal(), bbqrec, monkeypatch, files, tmp_path / "a.h5")
    bars = [line for line in re.split(r"[\r\n]", said) if "━" in line]
    assert any(re.search(r"epoch 1/2 ━+.* \d+/8 loss \d\.\d+ \d:\d\d:\d\d left", " ".join(bar.split())) for bar in bars)
    assert any(bar.startswith("ranking") for bar in bars), "validation has a bar too"
    assert re.search(r"epoch 2/2  loss \d", said), "what stays is a line an epoch"


@pytest.mark.parametrize(("terminal", "more"), [(io.StringIO(), []), (Terminal(), ["--quiet"])])
def test_no_bars_in_a_file_and_none_with_quiet(bbqrec, monkeypatch, files, tmp_path, terminal, more):
    said = train_on(terminal, bbqrec, monkeypatch, files, tmp_path / "a.h5", *more)
    assert "\x1b" not in terminal.getvalue()
    assert said.count("\n") == (0 if more else 2)


def test_a_log_file_has_a_line_a_minute(monkeypatch):
    stream, clock = io.StringIO(), iter([0.0, 10.0, 50.0, 70.0, 100.0, 250.0, 300.0])
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("bbqrec_cli.cli.console.time.monotonic", lambda: next(clock))
    with Console().task("text: tiny", 1000) as task:
        task.advance(400)  # of a run before this one
        for _ in range(4):
            task.advance(50, loss=0.5)
        task.advance(300)
    assert stream.getvalue().splitlines() == [
        "text: tiny: 500 of 1,000  loss 0.5  about 5 min left",  # 100 in a minute
        "text: tiny: 600 of 1,000  loss 0.5  about 8 min left",  # 200 in four
    ]
    stream.truncate(0)
    clock = iter([0.0, 1.0, 99.0, 200.0])
    with Console().task("reviews", None) as task:
        for _ in range(3):
            task.advance(1000, run="x")
    assert stream.getvalue().strip("\0").splitlines() == ["reviews: 2,000  run x", "reviews: 3,000  run x"]


def test_long_lines_break_between_words_on_a_terminal_only(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    for stream, lines in ((Terminal(), 4), (io.StringIO(), 1)):
        monkeypatch.setattr(sys, "stderr", stream)
        Console().log("word " * 30)
        found = stream.getvalue().splitlines()
        assert len(found) == lines
        assert all(line.split() == ["word"] * len(line.split()) for line in found)


@pytest.mark.parametrize("command", ["prepare", "embed", "collisions", "train", "evaluate", "recommend", "inspect"])
def test_every_command_s_json_is_alone_on_stdout(bbqrec, files, tmp_path, command, monkeypatch):
    """tokenize: in test_tokenize.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sequences.txt").write_text("1 5 6 7\n2 6 5 7\n")
    given = {
        "train": [files["tokens"], "--model", "popularity"], "evaluate": [files["model"]],
        "collisions": [files["tokens"]], "prepare": ["s3rec", "sequences.txt"],
        "recommend": [files["model"], "--user", "u1"], "inspect": [files["metrics"]],
        "embed": [files["dataset"], "--modalities", "image"],
    }  # fmt: skip
    said = bbqrec(command, *given[command], "--json")
    assert said.status == 0
    assert json.loads(said.out)
    assert said.out.count("\n") == 1


def test_wrong_kind_and_damage_from_the_shell(files, tmp_path):
    done = shell("embed", str(files["features"]), "-o", str(tmp_path / "o.h5"), "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert last_json(done.stderr)["error"] == "wrong_kind"
    assert "bbqrec prepare" in last_json(done.stderr)["hint"]
    (tmp_path / "cut.h5").write_bytes(files["dataset"].read_bytes()[:3000])
    done = shell("inspect", str(tmp_path / "cut.h5"))
    assert done.returncode == 3
    assert "truncated" in done.stderr
    assert "Traceback" not in done.stderr


WAITING = """
import sys, time
from bbqrec_cli.cli import app, inspect, options
def slow(said=options.interrupted, **given):
    time.sleep(0.05)
    return said(**given)
app.interrupted = options.interrupted = slow
def run(config, progress):
    print("begun", flush=True)
    time.sleep(60)
inspect.run = run
app.main(["inspect", "x", *sys.argv[1:]])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_interruption(number, options):
    command = [sys.executable, "-c", WAITING, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        running.send_signal(number)
        with contextlib.suppress(OSError):
            for place in range(50):  # an impatient hand
                time.sleep(0.002)
                running.send_signal((number, signal.SIGTERM)[place % 2])
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in err
    assert "resume" not in err, "inspect has nothing to resume"
    if options:
        assert json.loads(err)["error"] == "interrupted"


def test_an_interruption_that_nobody_noticed(monkeypatch):
    """One that a library swallowed, or after which something hangs: after a while the next one counts."""
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    clock = [0.0]
    monkeypatch.setattr(interrupts.time, "monotonic", lambda: clock[0])
    try:
        interrupts.listen()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        clock[0] = interrupts.PATIENCE - 1
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        clock[0] += 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        interrupts.ignore()
        clock[0] += interrupts.PATIENCE
        signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_interruption_of_what_can_be_resumed(bbqrec, files, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bbqrec_cli.cli.train.run", interrupted)
    done = bbqrec("train", files["dataset"])
    assert done.status == 130
    assert "error: interrupted; no output was changed" in done.err
    assert "--resume continues from the last checkpoint" in done.err


@pytest.mark.parametrize("options", [[], ["--json"], ["--help"]])
def test_a_reader_that_goes_away(files, options):
    """`bbqrec inspect FILE | head -0` is no error."""
    read, written = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "bbqrec_cli", "inspect", str(files["tokens"]), *options]
    done = subprocess.run(command, stdout=written, stderr=subprocess.PIPE, text=True, check=False)
    os.close(written)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("closed", "status"), [("2>&-", 0), (">&-", 0), (">&- 2>&-", 0)])
def test_closed_streams(files, closed, status):
    """What is closed has no number that a file could get."""
    words = f'"{sys.executable}" -m bbqrec_cli inspect "{files["tokens"]}" --json {closed}'
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    words = words.replace(str(files["tokens"]), "none.h5")
    assert subprocess.run(["bash", "-c", words], capture_output=True, check=False).returncode == 3


@pytest.mark.parametrize("option", ["--config", "--recipe"])
def test_help_with_a_file_that_is_not_there(bbqrec, option):
    done = bbqrec("train", option, "none.toml", "--help")
    assert done.status == 0
    assert "--learning-rate" in done.out
    assert bbqrec("train", option, "none.toml", "x.h5").status == 3


@pytest.mark.slow
def test_nobody_who_reads_the_notes(files, tmp_path):
    """A closed terminal or `2>&1 | head -1` ends no training."""
    read, written = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "bbqrec_cli", "train", str(files["tokens"]), "--model", "sasrec", "--epochs", "1"]
    for status in (0, 3):  # the second time the output is there
        done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, stderr=written, cwd=tmp_path, check=False)
        assert done.returncode == status
        assert bool(done.stdout) == (status == 0)
    os.close(written)


def test_an_entry_point_is_installed():
    assert shutil.which("bbqrec", path=os.path.dirname(sys.executable))
