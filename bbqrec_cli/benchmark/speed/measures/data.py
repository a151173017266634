"""The data of the other measures: synthetic, or of a tokens or model file of the user's.

I items, U users, L levels, N codes.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bbqrec_cli.benchmark.speed.measures.training import fitting
from bbqrec_cli.hdf5 import read_codes, write_features, write_tokens
from bbqrec_cli.records import Catalogue, Codes, Feature, Features, Sequences, Tokens, Vocabulary
from bbqrec_cli.tokenizers.quantization.kmeans import residual_codes, residual_kmeans, sum_of_codes

WIDTH = 64
NEAR = 0.7
"""Share of the interactions that follow the one before, in the catalogue's order of likeness."""
FILES = ("one.h5", "several.h5", "features.h5", "interactions.csv")
"""IDs of one signal, as TIGER's; of two, as BBQRec's; features; a table for `prepare`."""


def make(job: dict[str, Any]) -> tuple[Callable[[], float], dict[str, Any]]:
    """Write the files, and train what is decoded."""
    folder, given = Path(job["folder"]), job["data"]
    one, several, features, table = (folder / name for name in FILES)
    catalogue = synthetic(job["users"], job["items"], job["seed"])
    vectors = vectors_of(job["items"], job["seed"])
    feature = Feature(values=vectors, present=np.ones(len(vectors), dtype=bool), encoder="synthetic")
    write_features(
        features, Features(catalogue=first(catalogue, job["trained"]), features={"text": feature}), config={}
    )
    write_table(table, catalogue)
    if given:
        catalogue, codes = read_codes(Path(given))
        ids = {one: codes, several: codes}
    else:
        ids = {one: codes_of(vectors, 4, 1, job), several: codes_of(vectors, 3, 2, job)}
    for path, codes in ids.items():
        write_tokens(path, Tokens(catalogue=catalogue, codes=codes), config={})
    write_recbole(folder, catalogue)
    for each in job["models"]:
        if each["file"]:
            shutil.copyfile(each["file"], folder / f"{each['name']}.h5")
            continue
        few, codes = folder / f"few-{each['ids']}", ids[folder / each["ids"]]
        write_tokens(
            few, Tokens(catalogue=first(catalogue, job["trained"]), codes=codes), config={}
        )  # fmt: skip
        options = fitting(each["name"], each["options"], codes)
        train(few, folder / f"{each['name']}.h5", each["name"], options, job)
    sequences = catalogue.sequences
    about: dict[str, Any] = {"users": catalogue.users, "items": catalogue.items, "interactions": len(sequences.items)}
    about["vectors"] = ids[several].item_vectors is not None
    about |= {path.stem: [codes.levels, codes.codes.shape[2], codes.codebook_size] for path, codes in ids.items()}
    return lambda: 0.0, {"about": about}


def synthetic(users: int, items: int, seed: int) -> Catalogue:
    """Histories of 5 to 30 items, 9 on average; items that follow each other are often neighbours in number."""
    rng = np.random.default_rng([seed, 0])
    lengths = np.clip(4 + rng.geometric(1 / 5, users), 5, 30)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    chosen = (items * rng.random(indptr[-1]) ** 2).astype(np.int64)
    chosen = np.random.default_rng([seed, 1]).permutation(items)[chosen]
    near = rng.random(len(chosen)) < NEAR
    for step in range(1, 30):  # in order, since each follows the one before
        here = indptr[:-1][lengths > step] + step
        here = here[near[here]]
        chosen[here] = (chosen[here - 1] + rng.integers(1, 4, len(here))) % items
    return Catalogue(
        user_ids=Vocabulary(f"u{user}" for user in range(users)), item_ids=Vocabulary(f"i{i}" for i in range(items)),
        titles=[""] * items, sequences=Sequences(indptr=indptr, items=chosen.astype(np.int32)),
    )  # fmt: skip


def first(catalogue: Catalogue, users: int) -> Catalogue:
    """The same with its first users only."""
    sequences = catalogue.sequences
    kept = sequences.kept(np.arange(len(sequences.items)) < sequences.indptr[: users + 1][-1])
    kept = dataclasses.replace(kept, indptr=kept.indptr[: users + 1])
    return dataclasses.replace(catalogue, user_ids=Vocabulary(catalogue.user_ids[:users]), sequences=kept)


def vectors_of(items: int, seed: int) -> np.ndarray:
    """(I, WIDTH) float32: a random walk, so that neighbours in number are alike, with a part of their own."""
    rng = np.random.default_rng([seed, 2])
    walk = np.cumsum(rng.standard_normal((items, WIDTH), dtype=np.float32), axis=0) / np.float32(items**0.5)
    made = walk + 0.2 * rng.standard_normal((items, WIDTH), dtype=np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


def codes_of(vectors: np.ndarray, levels: int, signals: int, job: dict[str, Any]) -> Codes:
    """IDs by residual k-means, of each signal with a disturbance of its own."""
    rng, parts, books = np.random.default_rng([job["seed"], 3]), [], np.empty(0)
    for signal in range(signals):
        own = vectors + np.float32(0.05 * signal) * rng.standard_normal(vectors.shape, dtype=np.float32)
        books = residual_kmeans(own, levels=levels, codes=job["codes"], seed=job["seed"], sample=32)
        parts.append(residual_codes(own, books))
    return Codes(
        codes=np.stack(parts, axis=2), modalities=("id", "text")[:signals], method="bbqrec",
        codebook_size=job["codes"], codebooks=books[None],
        item_vectors=np.concatenate([sum_of_codes(part, books) for part in parts], axis=1),
    )  # fmt: skip


def write_table(path: Path, catalogue: Catalogue) -> None:
    """A CSV for `bbqrec prepare table`."""
    lines = ["user,item,time"]
    for user, rows in zip(catalogue.user_ids, catalogue.sequences, strict=True):
        lines += [f"{user},{catalogue.item_ids[row]},{time}" for time, row in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_recbole(folder: Path, catalogue: Catalogue) -> None:
    """The interactions as RecBole's atomic file."""
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user, rows in enumerate(catalogue.sequences):
        lines += [f"{user}\t{row}\t{time}" for time, row in enumerate(rows)]
    (folder / "recbole").mkdir()
    (folder / "recbole" / "recbole.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


def train(ids: Path, output: Path, model: str, options: dict[str, Any], job: dict[str, Any]) -> None:
    """A model whose probabilities are not even any more: on those depends how long an exact search takes."""
    from bbqrec_cli.stages.train import TrainConfig, run

    given = options | {"epochs": job["epochs"], "learning_rate": 2e-3}
    run(TrainConfig(
        input=ids, output=output, model=model, options=given, precision="fp32", threads=job["threads"],
        validation_users=200, device="cpu",
    ))  # fmt: skip
