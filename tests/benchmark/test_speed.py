"""`bbqrec benchmark speed`: its arithmetic by known answers, its processes with programs that are known."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from bbqrec_cli.benchmark.speed.contest import Entrant, Measured, hold, take_turns
from bbqrec_cli.benchmark.speed.contests import OFFLINE, SIZES, Contest, Given, contests, models
from bbqrec_cli.benchmark.speed.ratios import Spread, per_unit, ratio
from bbqrec_cli.benchmark.speed.report import contest_table, time_of
from bbqrec_cli.benchmark.speed.result import SpeedConfig, described
from bbqrec_cli.benchmark.speed.run import lack, peers, run
from bbqrec_cli.benchmark.speed.worker import serve
from bbqrec_cli.errors import LackingError, UsageError

OURS, THEIRS = [(2.0, 4.0), (1.0, 4.0), (4.0, 4.0)], [(8.0, 2.0), (6.0, 2.0), (24.0, 2.0)]
"""Rounds of (seconds, units): 0.5, 0.25, 1 and 4, 3, 12 seconds per unit."""


def entrant(name: str, **more) -> Entrant:
    return Entrant(name=name, measure="stages:start", **more)


def test_ratios_are_of_rounds_that_belong_together():
    assert per_unit(OURS) == [0.5, 0.25, 1.0]
    assert Spread.of(per_unit(OURS)) == Spread(0.5, 0.25, 1.0)
    assert ratio(THEIRS, OURS) == Spread(12.0, 8.0, 12.0), "8, 12 and 12; not 4 / 0.5"
    assert ratio(OURS, OURS) == Spread(1.0, 1.0, 1.0)


def test_what_is_printed():
    first, other = Measured(entrant=entrant("ours"), rounds=OURS), Measured(entrant=entrant("theirs"), rounds=THEIRS)
    other.whole, other.peak = 100.0, 3 << 20
    assert described(other, first) == {
        "name": "theirs", "seconds_per_unit": [4.0, 3.0, 12.0], "ratio": [12.0, 8.0, 12.0], "epoch_seconds": 400.0,
        "peak_bytes": 3 << 20, "rounds": 3,
    }  # fmt: skip
    assert described(other, None)["ratio"] is None
    absent = Measured(entrant=entrant("third"), lacks="not installed")
    assert described(absent, first) == {"name": "third", "lacks": "not installed"}
    contest = Contest(name="train", unit="target", note="Steps.", entrants=())
    table = contest_table(contest, [first, other, absent])
    assert table.columns == ("what", "time per target", "epoch", "ratio to the first", "peak, MiB")
    assert [[cell.lines[0] for cell in row] for row in table.rows] == [
        ["ours", "500 ms", "–", "1", "–"], ["theirs", "4 s", "400 s", "12× (8–12)", "3"]
    ]  # fmt: skip
    assert table.note == "Steps. 3 rounds of each. Left out: third (not installed)."
    assert [time_of(each) for each in (61.0, 0.0123, 4.5e-6, 2e-8)] == ["61 s", "12.3 ms", "4.5 µs", "0.02 µs"]


def answers(job: dict, orders: list[str], times: list[float], run=lambda: 4.0) -> list[dict]:
    said, clock = io.StringIO(), iter(times)
    serve(lambda _: (run, {"whole": 8}), job, orders, said, lambda: next(clock))
    return [json.loads(line) for line in said.getvalue().splitlines()]


def test_a_worker_tells_the_time_of_each_round():
    runs = []
    found = answers({}, ["round\n", "round\n", "end\n"], [0.0, 2.0, 10.0, 13.0], lambda: runs.append(1) or 4.0)
    assert found[:3] == [{"whole": 8}, {"seconds": 2.0, "units": 4.0}, {"seconds": 3.0, "units": 4.0}]
    assert found[3]["peak"] > 1 << 20
    assert len(runs) == 3, "one to warm up"


def test_a_short_round_is_repeated():
    found = answers({"least": 1.0, "warm": False}, ["round", "end"], [0.0, 0.4, 0.8, 1.2])
    assert found[1] == {"seconds": 1.2, "units": 12.0}


def test_a_worker_says_what_went_wrong():
    def fail() -> float:
        raise ValueError("no such thing")

    assert answers({}, ["round"], [], fail) == [{"error": "ValueError: no such thing"}]


class Fake:
    """A process that answers at once; it fails in round `fails`."""

    def __init__(self, name: str, log: list[str], fails: int = 99) -> None:
        self.name, self.log, self.fails = name, log, fails

    def ask(self, order: str) -> dict:
        from bbqrec_cli.benchmark.speed.contest import FailedError

        self.log.append(self.name)
        if self.log.count(self.name) == self.fails:
            raise FailedError("broken")
        return {"seconds": 1.0, "units": 2.0}


def test_entrants_take_turns_and_one_that_fails_is_left_out():
    log = list[str]()
    running = [(Measured(entrant=entrant(name)), Fake(name, log, fails)) for name, fails in (("A", 99), ("B", 2))]
    for _ in range(3):
        take_turns(running)  # type: ignore[arg-type]
    assert "".join(log) == "ABABA"
    assert running[0][0].rounds == [(1.0, 2.0)] * 3
    assert (running[1][0].rounds, running[1][0].lacks) == ([], "broken")


def test_processes_take_turns_and_memory_is_measured(tmp_path):
    log = tmp_path / "log"
    say = f"open({str(log)!r}, 'a').write"
    programs = {"small": f"{say}('a')", "large": f"x = b'x' * (200 << 20); {say}('b')", "broken": "raise SystemExit(3)"}
    gone = Entrant(name="gone", measure="nowhere:at_all")
    entrants = [entrant(name, job={"words": ["-c", program]}) for name, program in programs.items()]
    entrants += [entrant("absent"), gone]
    found = hold(entrants, {"threads": 1}, tmp_path / "said", rounds=3, lacking={"absent": "not installed"})
    small, large, broken, absent, lost = found
    assert sorted(log.read_text()[:2]) == ["a", "b"]
    assert log.read_text()[2:] == "ababab"
    assert [len(each.rounds) for each in found] == [3, 3, 0, 0, 0]
    assert all(seconds > 0 and units == 1 for seconds, units in small.rounds)
    assert 200 << 20 <= large.peak < 300 << 20
    assert 0 < small.peak < 60 << 20
    assert "exit status 3" in broken.lacks
    assert absent.lacks == "not installed"
    assert "nowhere.py" in lost.lacks


def test_another_environment_gets_a_folder_and_no_path_of_ours(tmp_path, monkeypatch):
    """RecBole writes where it runs, and packages of this environment would take the place of its own."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    say = f"import os; open({str(tmp_path / 'log')!r}, 'w').write(os.getcwd() + ' ' + os.environ.get('PYTHONPATH', ''))"
    there = entrant("there", job={"words": ["-c", say]}, elsewhere=True)
    (found,) = hold([there], {"threads": 0}, tmp_path / "said", rounds=1, lacking={}, peer_python=sys.executable)
    assert (found.lacks, len(found.rounds)) == ("", 1)
    assert (tmp_path / "log").read_text().split(" ") == [str(tmp_path / "said" / "0"), ""]


def test_what_is_not_installed_is_named_with_its_command():
    needs = {"recbole": True, "sklearn": False, "faiss_of_nobody": False, OFFLINE: False}
    made = {name: entrant("x", needs=name, elsewhere=where) for name, where in needs.items()}
    assert not lack(made["recbole"], {"recbole": "1.2.1"})
    assert lack(made["recbole"], {}).startswith("RecBole is not installed: pip install recbole in an environment")
    said = "faiss_of_nobody is not installed: pip install 'bbqrec[peers]'"
    assert lack(made["faiss_of_nobody"], {}) == said
    assert not lack(entrant("x"), {})
    assert not lack(entrant("x", needs="torch"), {})


def test_every_contest_has_its_functions():
    """Names of files and functions are only looked up when they run."""
    from importlib.util import find_spec
    from pathlib import Path

    for size in SIZES.values():
        made = contests(size, ("train",))
        for each in (each for contest in made.values() for each in contest.entrants):
            file, function = each.measure.split(":")
            spec = find_spec(f"bbqrec_cli.benchmark.speed.measures.{file}")
            assert spec is not None
            assert spec.origin is not None
            assert re.search(rf"^def {function}\(job", Path(spec.origin).read_text("utf-8"), re.MULTILINE)
        assert all(len({each.name for each in contest.entrants}) == len(contest.entrants) for contest in made.values())


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["speed", "--only", "trian"], 2, "--only: 'trian' is not measured (did you mean 'train'?)"),
        (["speed", "--jobs", "2"], 2, "benchmark speed is no suite: --jobs has no effect"),
        (["demo", "--size", "full"], 2, "unknown option 'size'"),
        (["speed", "--size", "huge"], 2, "--size is 'huge'"),
        (["speed", "--device", "cuda"], 2, "--device has no effect"),
        (["speed", "--peer-python", "/nowhere/python"], 4, "there is no Python with RecBole"),
        (["speed", "--tokens", "nowhere.h5"], 3, "nowhere.h5: no such file"),
        (["speed", "--model", "nowhere.h5"], 3, "nowhere.h5: no such file"),
        (["speed", "--model", "a.h5", "--tokens", "b.h5"], 2, "--tokens and --model: a model file has IDs of its own"),
        (["speed", "--report", "page.txt"], 2, "--report is 'page.txt'"),
    ],
)
def test_what_is_refused(arguments, status, said, bbqrec):
    done = bbqrec("benchmark", *arguments)
    assert (done.status, said in done.err) == (status, True), done.err


def test_another_kind_of_file_is_refused(bbqrec, files):
    done = bbqrec("benchmark", "speed", "--tokens", files["dataset"])
    assert done.status == 3
    assert "tokens" in done.err


def test_a_run(tmp_path):
    page = tmp_path / "page.md"
    result = run(SpeedConfig(suite="speed", only=("prepare",), threads=1, report=page), commands=("train",))
    said = json.loads(json.dumps(result.to_json()))
    assert [each["name"] for each in said["measured"]] == ["prepare"]
    (ours,) = said["measured"][0]["entrants"]
    assert (ours["rounds"], ours["ratio"]) == (3, [1.0, 1.0, 1.0])
    assert 0 < ours["seconds_per_unit"][1] <= ours["seconds_per_unit"][0] <= ours["seconds_per_unit"][2] < 0.1
    assert (said["data"]["users"], said["data"]["items"], said["data"]["one"]) == (400, 300, [4, 1, 16])
    text = page.read_text()
    assert "Generated by `bbqrec benchmark speed --size small --only prepare --threads 1 --report page.md`" in text
    assert "| bbqrec prepare |" in text


def test_data_that_cannot_be_trained_on(tmp_path, files, bbqrec):
    """A file of somebody's, whose process fails, is named."""
    (tmp_path / "broken.h5").write_bytes(files["tokens"].read_bytes()[:2000])
    done = bbqrec("benchmark", "speed", "--tokens", tmp_path / "broken.h5", "--only", "train")
    assert done.status == 3
    assert "broken.h5" in done.err


def test_a_model_of_ones_own_is_decoded_as_it_is():
    """In the contest of its architecture, with its searches; `generate` gets its sizes."""
    sizes = {"width": 48, "heads": 3, "layers": 1, "decoder_layers": 1, "head_width": 8, "inner": 96}
    kinds = {"letter": ("t5", "codes"), "tiger": ("t5", "catalogue"), "bbqrec": ("bbqrec", "codes")}
    made = {}
    for name, (kind, softmax) in kinds.items():
        settings = {**sizes, "architecture": kind, "normalisation": softmax}
        made[name] = Given(path="m.h5", name=name, epochs=2, settings=settings)
    size = SIZES["small"]

    def names(given: str, contest: str) -> list[str]:
        return [each.name for each in contests(size, (), made.get(given))[contest].entrants]

    of_generate = ["generate, beam 20", "generate, beam 50"]
    assert names("letter", "decode-tiger") == ["letter, beam 50", "letter, beam 20", *of_generate]
    assert names("tiger", "decode-tiger") == ["tiger, beam 50", "tiger, beam 20", "tiger, exact", *of_generate]
    assert names("letter", "decode") == names("", "decode") == ["bbqrec, exact", *names("bbqrec", "decode")]
    assert names("bbqrec", "decode-tiger") == names("", "decode-tiger")
    theirs = contests(size, (), made["letter"])["decode-tiger"].entrants[-1].job["options"]
    assert theirs.items() >= sizes.items()
    assert [each["file"] for each in models(size, made["letter"])] == ["m.h5", ""]
    assert [each["file"] for each in models(size, made["bbqrec"])] == ["", "m.h5"]


@pytest.mark.slow
def test_a_run_with_a_trained_model(files, tmp_path, bbqrec):
    page, path = tmp_path / "page.md", tmp_path / "model.h5"
    small = ("--width", 16, "--heads", 2, "--layers", 1, "--decoder-layers", 1)
    assert bbqrec("train", files["tokens"], "--epochs", 2, *small, "-o", path).status == 0
    result = run(SpeedConfig(suite="speed", only=("decode",), threads=1, report=page, model=path))
    assert [each["rounds"] for each in result.to_json()["measured"][0]["entrants"]] == [3] * 5
    assert result.about["decoded"] == {"model": "bbqrec", "epochs": 2, "normalisation": "catalogue"}
    assert result.about["items"] == 12
    assert "--model model.h5" in page.read_text()
    assert "the model that is decoded | bbqrec, 2 epochs, --normalisation catalogue |" in page.read_text()


def test_a_model_that_decodes_nothing(files, bbqrec):
    done = bbqrec("benchmark", "speed", "--model", files["model"], "--only", "decode")
    assert done.status == 3
    assert "model.h5: the model popularity decodes no semantic IDs" in done.err


@pytest.mark.slow
def test_everything_small():
    """All that is installed here."""
    whole = run(SpeedConfig(suite="speed", threads=1), commands=("train",)).to_json()
    gone = {each["name"] for contest in whole["measured"] for each in contest["entrants"] if "lacks" in each}
    of_text = {"bbqrec embed", "sentence-transformers"} if lack(entrant("x", needs=OFFLINE), {}) else set()
    assert gone <= {"RecBole's SASRec"} | of_text


@pytest.mark.slow
def test_ids_of_ones_own(files):
    """They have two signals, so T5 has to be left out."""
    own = run(SpeedConfig(suite="speed", threads=1, tokens=files["tokens"], only=("train", "decode")))
    lacks = {each.entrant.name: each.lacks for _, measured in own.held for each in measured if each.lacks}
    assert lacks == {
        f"Hugging Face T5, {order}": "ValueError: it needs IDs with one code per level"
        for order in ("our batches", "shuffled")
    }
    assert own.to_json()["data"]["items"] == 12


def test_peers_of_another_python(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 1.2.1\n")
    python.chmod(0o755)
    assert peers(python)["recbole"] == "1.2.1"
    python.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(LackingError, match="no Python with RecBole"):
        peers(python)


def test_nothing_to_choose_from():
    with pytest.raises(UsageError, match="'x' is not measured"):
        run(SpeedConfig(suite="speed", only=("x",)))
