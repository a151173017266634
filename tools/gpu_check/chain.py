"""The whole chain by bbqrec's command line: on the device, on the CPU, and on the CPU by other instructions.

What training comes to depends on the last digits of its sums. How much, two runs on the CPU tell that differ in nothing
but the order of these sums: the device has to agree with the CPU about as well as the CPU with itself. Dropout is off,
since its random numbers are others on every device.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tools.gpu_check.catalogue import hash_texts, offline_text
from tools.gpu_check.internals import Tokens, read_features, read_metrics, read_model, read_tokens
from tools.gpu_check.report import Report, Table, relative_error
from tools.gpu_check.settings import ROOT, Settings, bbqrec, environment, together

SIZES = {False: "full", True: "small"}
EPOCHS = {False: (10, 4), True: (4, 2)}
"""Of tokenizer and generator; quick: whether everything is small."""
IDS = {
    False: ("--levels", 3, "--codebook-size", 64),
    True: ("--levels", 2, "--codebook-size", 16, "--dim", 16, "--hidden", 16),
}
WIDTHS: dict[bool, tuple[Any, ...]] = {False: (), True: ("--width", 16, "--heads", 2)}
FAST = ("--learning-rate", 0.003, "--batch-size", 64, "--patience", 0)
SHALLOW = ("--layers", 1, "--decoder-layers", 1)
EXACT = ("--precision", "fp32", "--seed", 0)
MODELS = {False: ("tiger", "t5", "sasrec", "heads", "popularity"), True: ("sasrec",)}
HEADS = ("--dense-head", "--markov-head", "--similarity-head")
METHODS = {False: ("rqvae", "bbqrec"), True: ("rqvae",)}
"""What `more_models` makes: model files, and the methods of tokens files without the newest items."""
USERS = 200
"""Who gets recommendations."""
CHAIN_TABLE = "Seconds of a command, its start included; the chains ran side by side"
CHAOS = 0.5
"""Of what two CPU runs agree in, the least share in which CPU and device have to."""


def prepare(settings: Settings, report: Report) -> None:
    """The demo catalogue and its features, for all parts."""
    folder = settings.path("base")
    folder.mkdir()
    bbqrec(folder, "cpu", 1, "prepare", "demo", "--size", SIZES[settings.quick])
    if offline_text() and not settings.quick:
        report.notes.append("Texts are embedded by the offline text encoder, all-MiniLM-L6-v2.")
    else:
        hash_texts(folder / "dataset.h5")
        report.notes.append("Without the offline text encoder texts are ready features, hashed words.")
    bbqrec(folder, "cpu", settings.threads, "embed", "--precision", "fp32")


def run_chain(settings: Settings, report: Report, *, name: str, device: str, threads: int, plain: bool = False) -> None:
    """embed, tokenize, collisions, train, evaluate, recommend; what they print is kept beside their files."""
    folder, base = settings.path(name), settings.path("base")
    folder.mkdir()
    tokenizer, generator = EPOCHS[settings.quick]
    commands: list[tuple[Any, ...]] = [
        ("embed", base / "dataset.h5", "--precision", "fp32"),
        ("tokenize", *IDS[settings.quick], *EXACT, "--epochs", tokenizer, "--batch-size", 128, "--dropout", 0),
        ("collisions",),
        ("train", *SHALLOW, *FAST, *WIDTHS[settings.quick], *EXACT, "--epochs", generator, "--dropout", 0),
        ("evaluate", *EXACT),
        ("recommend", "--users", USERS, "--top", 10),
    ]
    seconds = []
    for command in commands:
        began = time.perf_counter()
        said = bbqrec(folder, device, threads, *command, plain=plain)
        seconds.append(f"{time.perf_counter() - began:.1f}")
        (folder / f"{command[0]}.json").write_text(said, encoding="utf-8")
    where = f"{device}, threads: {threads}" if device == "cpu" else device
    where += ", plain instructions" if plain else ""
    columns = ["chain", *(str(command[0]) for command in commands)]
    report.tables.append(Table(title=CHAIN_TABLE, columns=columns, rows=[[where, *seconds]]))


def more_models(settings: Settings, report: Report) -> None:
    """Other models and tokenizers, trained a little on the device: what `same_files` and `gradients` compare."""
    folder, base, device = settings.path("more"), settings.path("base"), settings.device
    folder.mkdir()
    features, old = base / "features.h5", folder / "yesterday.h5"
    script = [sys.executable, str(ROOT / "examples" / "yesterday.py"), str(features), str(old)]
    subprocess.run(script, check=True, env=environment("cpu", 1))
    quick = settings.quick
    epochs = ("--epochs", 4 if quick else 10, "--warmup-epochs", 2)
    train = ("train", "--epochs", 2, *EXACT, *FAST, *WIDTHS[quick], "--dropout", 0)

    def run(*words: Any) -> None:
        bbqrec(folder, device, settings.share(16), *words)

    def quantised(source: Path, method: str, output: str) -> None:
        run("tokenize", source, "--method", method, *IDS[quick], *EXACT, *epochs, "-o", output)

    def rqvae() -> None:
        quantised(features, "rqvae", "rqvae.h5")
        if not quick:
            run(*train, "rqvae.h5", *SHALLOW, "--model", "tiger", "-o", "tiger.h5")
            run(*train, "rqvae.h5", *SHALLOW, "--model", "tiger", "--architecture", "t5", "-o", "t5.h5")

    def later() -> None:
        for method in METHODS[quick]:
            quantised(old, method, f"old-{method}.h5")
        if not quick:
            run(*train, "old-bbqrec.h5", *SHALLOW, *HEADS, "-o", "heads.h5")

    def items() -> None:
        run(*train, features, "--model", "sasrec", "-o", "sasrec.h5")
        if not quick:
            run("train", features, "--model", "popularity", "-o", "popularity.h5")

    together([rqvae, later, items])


def end_to_end(settings: Settings, report: Report) -> None:
    """The three chains side by side."""
    cpu, device, again = (settings.path(f"chain-{name}") for name in ("cpu", "device", "cpu-again"))
    for name, wanted in read_features(cpu / "features.h5").features.items():
        off = relative_error([read_features(device / "features.h5").features[name].values], [wanted.values])
        report.small(f"embed: {name} features ({wanted.encoder})", off, 1e-4)
    ids, other, repeated = (read_tokens(folder / "tokens.h5") for folder in (cpu, device, again))
    report.near("tokenize: first epoch's loss", first(ids), first(other), relative=1e-3)
    report.near("tokenize: last epoch's loss", last(ids, "loss"), last(other, "loss"), relative=0.05)
    report.near("tokenize: last epoch's recall@10", last(ids, "recall@10"), last(other, "recall@10"), absolute=0.03)
    least, own = floor(same_ids(ids, repeated))
    report.most("tokenize: items with the same ID", same_ids(ids, other), least, measured=own)
    shared = [json.loads((folder / "collisions.json").read_text())["colliding_items"] for folder in (cpu, device)]
    report.near("collisions: items that share an ID", *shared, absolute=max(5, 0.02 * ids.catalogue.items))
    models = [read_model(folder / "model.h5").history for folder in (cpu, device)]
    for figure, most in (("loss", 0.05), ("recall@10", 0.03), ("ndcg@10", 0.03)):
        one, two = (history[-1][figure] for history in models)
        tolerance: dict[str, float] = {"relative": most} if figure == "loss" else {"absolute": most}
        report.near(f"train: last epoch's {figure}", one, two, **tolerance)
    metrics = [read_metrics(folder / "metrics.h5").aggregates for folder in (cpu, device)]
    for figure in metrics[0]:
        report.near(f"evaluate: {figure}", metrics[0][figure], metrics[1][figure], absolute=0.03)
    lists, theirs, repeat = (recommended(folder / "recommend.json") for folder in (cpu, device, again))
    least, own = floor(overlap(lists, repeat))
    report.most("recommend: overlap of the ten best", overlap(lists, theirs), least, measured=own)


def first(tokens: Tokens) -> float:
    """The first epoch's loss."""
    return tokens.history[0]["loss"]


def last(tokens: Tokens, figure: str) -> float:
    """A figure of the last epoch."""
    return tokens.history[-1][figure]


def floor(agreement: float) -> tuple[float, str]:
    """The least that CPU and device have to agree in, and what it came of."""
    return CHAOS * agreement, f"{CHAOS:g} of the {agreement:.3f} of two CPU runs"


def same_ids(one: Tokens, other: Tokens) -> float:
    """Share of the items with the same codes throughout."""
    return float((one.codes.codes == other.codes.codes).all(axis=(1, 2)).mean())


def recommended(path: Path) -> dict[str, list[tuple[str, float]]]:
    """User -> items and scores, of what `bbqrec recommend --json` printed."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return {line["user"]: [(item["id"], item["score"]) for item in line["items"]] for line in lines}


def overlap(one: dict[str, list[tuple[str, float]]], other: dict[str, list[tuple[str, float]]]) -> float:
    """Mean share of one list's items that are in the other's."""
    assert one.keys() == other.keys()
    return float(np.mean([len(set(dict(one[u])) & set(dict(other[u]))) / len(one[u]) for u in one]))
