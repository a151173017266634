"""The same files on both devices: what they say must be the same but for the last digits."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.gpu_check.chain import FAST, IDS, METHODS, MODELS, SHALLOW, USERS, WIDTHS, recommended, same_ids
from tools.gpu_check.internals import (
    Recommender,
    TrainedModel,
    WindowBatches,
    build_tokenizer,
    describe,
    load_model,
    read_features,
    read_metrics,
    read_model,
    read_tokens,
    split_of,
    tokenizer_config,
)
from tools.gpu_check.report import Report, relative_error
from tools.gpu_check.settings import Settings, bbqrec, together

RANKS, LISTS, CODES = 0.99, 0.98, 0.99
"""The least shares of users with the same rank of their target, of users with the same ten items in the same order, and
of new items or items of a tokens file with the same codes. What is left are scores that are nearly equal."""
EXACTLY, HALF = 0.002, 0.01
"""The largest differences of Recall and NDCG in fp32, and of bf16 on the device from fp32 on the CPU."""
SCORES = 1e-3
"""The largest relative difference of the scores of the same items, of all users together."""
GRADIENT = 1e-4
"""The largest relative error of a loss and of its gradient."""
FAINT = 1e-3
"""A parameter whose gradient is a smaller part of the whole one is measured by this part of it: some gradients, that of
the keys' bias for one, are zero but for rounding."""


def of_chain(settings: Settings, name: str) -> Path:
    """A file of the CPU's chain, or the device's where that one did not come so far."""
    cpu = settings.path("chain-cpu", name)
    return cpu if cpu.exists() else settings.path("chain-device", name)


def models(settings: Settings, report: Report) -> dict[str, Path]:
    """Name -> model file, of those that are there; one that is missing has failed."""
    wanted = {name: settings.path("more", f"{name}.h5") for name in MODELS[settings.quick]}
    wanted |= {"bbqrec": of_chain(settings, "model.h5")}
    for name, path in wanted.items():
        if not path.exists():
            report.true(f"{name}: its model file", "was not made", False, wanted="there")
    return {name: path for name, path in wanted.items() if path.exists()}


def same_models(settings: Settings, report: Report) -> None:
    """evaluate and recommend, of every model file on both devices."""
    folder, threads = settings.path("same"), settings.share(16)
    folder.mkdir()
    runs = {"cpu": ("cpu", "fp32"), "device": (settings.device, "fp32"), "half": (settings.device, "bf16")}
    present = models(settings, report)

    def evaluate(name: str, run: str) -> None:
        device, precision = runs[run]
        words = ("evaluate", present[name], "--precision", precision, "-o", f"{name}-{run}.h5")
        with report.guarded(f"{name}: evaluate on {device}, {precision}"):
            bbqrec(folder, device, threads, *words)

    def recommend(name: str, run: str) -> None:
        words = ("recommend", present[name], "--users", USERS, "--exclude-seen")
        with report.guarded(f"{name}: recommend on {runs[run][0]}"):
            said = bbqrec(folder, runs[run][0], threads, *words)
            (folder / f"{name}-{run}.json").write_text(said, encoding="utf-8")

    tasks = [partial(evaluate, name, run) for name in present for run in runs]
    tasks += [partial(recommend, name, run) for name in present for run in ("cpu", "device")]
    together(tasks)
    for name in present:
        with report.guarded(f"{name}: ranks"):
            ranks = [read_metrics(folder / f"{name}-{run}.h5").ranks for run in ("cpu", "device")]
            report.most(f"{name}: users with the same rank", float((ranks[0] == ranks[1]).mean()), RANKS)
        for run, largest in {"device": EXACTLY, "half": HALF}.items():
            with report.guarded(f"{name}: metrics, {runs[run][1]}"):
                cpu, device = (read_metrics(folder / f"{name}-{each}.h5").aggregates for each in ("cpu", run))
                for figure in ("recall@10", "ndcg@10"):
                    what = f"{name}: {figure}, {runs[run][1]}"
                    report.near(what, cpu[figure], device[figure], absolute=largest)
        with report.guarded(f"{name}: lists"):
            compare_lists(report, name, *(recommended(folder / f"{name}-{run}.json") for run in ("cpu", "device")))


def compare_lists(report: Report, name: str, cpu: dict[str, Any], device: dict[str, Any]) -> None:
    """The lists of ten, and the scores of what is in both."""
    same = [[item for item, _ in cpu[user]] == [item for item, _ in device[user]] for user in cpu]
    report.most(f"{name}: users with the same ten items", float(np.mean(same)), LISTS)
    pairs = [(score, dict(device[u])[item]) for u in cpu for item, score in cpu[u] if item in dict(device[u])]
    wanted, found = np.array(pairs).T
    report.small(f"{name}: scores of the items in both lists", relative_error([found], [wanted]), SCORES)


def same_tokens(settings: Settings, report: Report) -> None:
    """Codes from what tokens files keep: `tokenize --append` of new items, and all old items anew."""
    folder, features = settings.path("grown"), settings.path("base", "features.h5")
    folder.mkdir()

    def append(method: str, device: str, name: str) -> None:
        old, new = settings.path("more", f"old-{method}.h5"), folder / f"{method}-{name}.h5"
        with report.guarded(f"{method}: append on {device}"):
            bbqrec(folder, device, settings.share(16), "tokenize", "--append", old, features, "-o", new)

    devices, methods = {"cpu": "cpu", "device": settings.device}, METHODS[settings.quick]
    together([partial(append, method, device, name) for method in methods for name, device in devices.items()])
    for method in methods:
        with report.guarded(f"{method}: appended items"):
            old = read_tokens(settings.path("more", f"old-{method}.h5"))
            cpu, device = (read_tokens(folder / f"{method}-{each}.h5") for each in devices)
            count = old.catalogue.items
            new = (cpu.codes.codes[count:] == device.codes.codes[count:]).mean()
            report.most(f"{method}: codes of {cpu.catalogue.items - count} appended items", float(new), CODES)
            report.most(f"{method}: old items that kept their ID", same_ids(first(device, count), old), 1.0)
    for name, path in {"bbqrec": of_chain(settings, "tokens.h5"), "rqvae": settings.path("more", "rqvae.h5")}.items():
        with report.guarded(f"{name}: encoder"):
            encode_again(settings, report, name, path)


def encode_again(settings: Settings, report: Report, name: str, path: Path) -> None:
    """All items of a tokens file by the encoder that it keeps."""
    tokens, about = read_tokens(path), describe(path)["config"]
    tokenizer = build_tokenizer(about["method"], tokenizer_config(about["method"], about["options"]))
    inputs = read_features(settings.path("base", "features.h5")).features
    cpu, device = (
        tokenizer.restore(tokens.codes, tokens.encoder, torch.device(each))(inputs) for each in ("cpu", settings.device)
    )
    report.small(f"{name}: encoder's outputs", relative_error([device.latents], [cpu.latents]), GRADIENT)
    report.most(f"{name}: codes by the encoder", float((cpu.codes == device.codes).mean()), CODES)


def first(tokens: Any, count: int) -> Any:
    """The first items of a tokens file."""
    return dataclasses.replace(tokens, codes=dataclasses.replace(tokens.codes, codes=tokens.codes.codes[:count]))


def gradients(settings: Settings, report: Report) -> None:
    """The loss of every model file on one batch, without dropout, and its gradient."""
    precision = torch.get_float32_matmul_precision()
    report.notes.append(f"torch's precision of fp32 products: {precision} (highest: no TF32)")
    for name, path in models(settings, report).items():
        if name != "popularity":
            with report.guarded(f"{name}: gradient"):
                gradient(settings, report, name, read_model(path))


def gradient(settings: Settings, report: Report, name: str, trained: TrainedModel) -> None:
    """One model's."""
    still = dataclasses.replace(trained, settings=trained.settings | {"dropout": 0.0})
    cpu, device = (loss_and_gradient(still, torch.device(each)) for each in ("cpu", settings.device))
    report.near(f"{name}: loss", cpu[0], device[0], relative=GRADIENT)
    names = list(cpu[1])
    error = relative_error([device[1][n] for n in names], [cpu[1][n] for n in names])
    report.small(f"{name}: gradient", error, GRADIENT)
    whole = float(np.sqrt(sum(np.square(g, dtype=np.float64).sum() for g in cpu[1].values())))
    off = {n: apart(device[1][n], cpu[1][n], least=FAINT * whole) for n in names}
    worst = max(names, key=off.__getitem__)
    report.small(f"{name}: gradient of the parameter that is furthest off, {worst}", off[worst], 10 * GRADIENT)
    half = loss_and_gradient(still, torch.device(settings.device), half=True)
    report.near(f"{name}: loss, bf16", cpu[0], half[0], relative=0.02)
    broken = sorted(n for n in names if not np.isfinite(half[1][n]).all())
    found = f"not finite: {', '.join(broken)}" if broken else "finite"
    report.true(f"{name}: gradient, bf16", found, not broken, wanted="finite")


def apart(found: np.ndarray, wanted: np.ndarray, *, least: float) -> float:
    """|found - wanted| / max(|wanted|, least)."""
    return float(np.linalg.norm(found.astype(np.float64) - wanted) / max(float(np.linalg.norm(wanted)), least))


def loss_and_gradient(
    trained: TrainedModel, device: torch.device, *, half: bool = False
) -> tuple[float, dict[str, np.ndarray]]:
    """In training mode, on the first batch of 256 users; half: by bf16 autocast."""
    model: Recommender = load_model(trained, device).train()
    split = split_of(trained.catalogue.sequences)
    batch = WindowBatches(split.train, batch_size=256, seed=0).epoch(0)[0].to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        loss = model.loss(batch)
    loss.backward()
    found = {name: p.grad.cpu().numpy() for name, p in model.named_parameters() if p.grad is not None}
    return loss.item(), found


def one_epoch(settings: Settings, report: Report) -> None:
    """A little training from the same seed, without dropout: recommenders for an epoch, tokenizers a step an epoch."""
    folder, features = settings.path("epoch"), settings.path("base", "features.h5")
    folder.mkdir()
    runs = {"cpu": ("cpu", "fp32"), "device": (settings.device, "fp32"), "half": (settings.device, "bf16")}
    sources, methods = {"bbqrec": of_chain(settings, "tokens.h5"), "sasrec": features}, METHODS[settings.quick]
    if settings.quick:
        sources.pop("sasrec")
    steps = ("--batch-size", 100_000, "--epochs", 4, "--warmup-epochs", 3, "--seed", 0)

    def train(model: str, run: str) -> None:
        device, precision = runs[run]
        small = (*FAST, *WIDTHS[settings.quick], *(SHALLOW if model == "bbqrec" else ()))
        words = ("train", sources[model], "--model", model, "--epochs", 1, "--dropout", 0, "--seed", 0, *small)
        with report.guarded(f"{model}: an epoch on {device}, {precision}"):
            bbqrec(folder, device, settings.share(16), *words, "--precision", precision, "-o", f"{model}-{run}.h5")

    def tokenize(method: str, run: str) -> None:
        device, precision = runs[run]
        still = ("--dropout", 0) if method == "bbqrec" else ()
        words = ("tokenize", features, "--method", method, *IDS[settings.quick], *steps, *still)
        output = f"{method}-{run}-tokens.h5"
        with report.guarded(f"tokenize {method} on {device}, {precision}"):
            bbqrec(folder, device, settings.share(8), *words, "--precision", precision, "-o", output)

    tasks = [partial(train, name, run) for name in sources for run in runs]
    tasks += [partial(tokenize, name, run) for name in methods for run in runs]
    together(tasks)
    for name in sources:
        with report.guarded(f"{name}: an epoch"):
            cpu, device, half = (read_model(folder / f"{name}-{run}.h5") for run in runs)
            wanted, found, rough = (each.history[0] for each in (cpu, device, half))
            report.near(f"{name}: an epoch's loss", wanted["loss"], found["loss"], relative=GRADIENT)
            report.near(f"{name}: an epoch's loss, bf16", wanted["loss"], rough["loss"], relative=0.02)
            report.near(f"{name}: ndcg@10 after it", wanted["ndcg@10"], found["ndcg@10"], absolute=0.005)
            weights = [[each.weights[key] for key in cpu.weights] for each in (device, cpu)]
            report.small(f"{name}: all weights after it", relative_error(*weights), 1e-3)
    for name in methods:
        with report.guarded(f"tokenize {name}"):
            histories = [read_tokens(folder / f"{name}-{run}-tokens.h5").history for run in runs]
            exact, other, half_exact = ([row["loss"] for row in history] for history in histories)
            report.near(f"tokenize {name}: loss of the first step", exact[0], other[0], relative=GRADIENT)
            report.near(f"tokenize {name}: loss of the first step, bf16", exact[0], half_exact[0], relative=0.02)
            report.near(f"tokenize {name}: loss of the third step", exact[2], other[2], relative=1e-3)
            report.near(f"tokenize {name}: loss of the first step with codes", exact[3], other[3], relative=0.02)
