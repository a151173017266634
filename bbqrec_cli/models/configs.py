"""The options of every model (no torch here: the command line reads this file to make its flags)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from bbqrec_cli.config import option

VARIANTS = ("full", "no-similarity", "inherit")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What every trained model has; the defaults differ from model to model."""

    epochs: int = option(30, "Epochs at most; also the length of the learning rate's schedule.", minimum=1)
    batch_size: int = option(256, "Users a step (on average: batches hold like numbers of targets).", minimum=1)
    learning_rate: float = option(1e-3, "Highest learning rate of AdamW.", minimum=0)
    weight_decay: float = option(0.05, "Weight decay of AdamW.", minimum=0)
    warmup: float = option(0.05, "Share of the steps in which the learning rate rises.", minimum=0, maximum=1)
    patience: int = option(6, "Validations without a better NDCG@10 before stopping; 0: never stop.", minimum=0)
    width: int = option(128, "Width of the model.", minimum=1)
    layers: int = option(2, "Layers (of the encoder, where there is a decoder).", minimum=1)
    heads: int = option(4, "Attention heads.", minimum=1)
    dropout: float = option(0.2, "Dropout.", minimum=0, maximum=0.9)
    history: int = option(20, "Last items of a user that the model sees (the protocol: 20).", minimum=1)


@dataclass(frozen=True, kw_only=True)
class BBQRecConfig(TrainingConfig):
    """BBQRec's generator (paper, section 4.2)."""

    method: ClassVar[str] = "bbqrec"
    PAPER: ClassVar[dict[str, Any]] = {
        "tuple_vectors": "none", "normalisation": "codes", "masking": "bidirectional", "init_std": 0.01,
    }  # fmt: skip
    """The paper's value of every option whose default departs from it: what --paper sets."""

    epochs: int = option(12, "Epochs at most; also the length of the learning rate's schedule.", minimum=1)
    learning_rate: float = option(2e-3, "Highest learning rate of AdamW.", minimum=0)
    decoder_layers: int = option(2, "Layers of the decoder.", minimum=1)
    variant: str = option("full", "full, no-similarity (BBQRec_S) or inherit (BBQRec_E).", choices=VARIANTS)
    similarity_buckets: int = option(100, "K, buckets of the similarity (eq. 15).", minimum=1)
    masking: str = option(
        "causal", "Encoder: causal (all positions in one pass) or bidirectional.", choices=("causal", "bidirectional")
    )
    normalisation: str = option(
        "catalogue",
        "A level's softmax: over the existing tuples (catalogue) or all codes.",
        choices=("catalogue", "codes"),
    )
    tuple_vectors: str = option(
        "free",
        "What a first-level code tuple has beside its codes (catalogue only): a vector of its own (free), the mean of "
        "the codes below it (composed) or none.",
        choices=("free", "composed", "none"),
    )
    tied_embeddings: bool = option(True, "One table embeds the codes and predicts them.")
    signal_weights: bool = option(False, "Learn a weight of each level's and signal's logits (beyond the paper).")
    dense_head: bool = option(False, "A second head that scores all items at once (beyond the paper).")
    dense_weight: float = option(1.0, "Weight of the dense head's loss.", minimum=0)
    label_smoothing: float = option(0.0, "Share of a level's target spread over what exists.", minimum=0, maximum=0.9)
    code_dropout: float = option(0.0, "Share of the history's codes that a step does not see.", minimum=0, maximum=0.9)
    init_std: float = option(0.02, "Standard deviation of the embeddings at the start.", minimum=0)


@dataclass(frozen=True, kw_only=True)
class TIGERConfig(BBQRecConfig):
    """The same generator without similarity attention, on any tokenizer's IDs (Rajput et al. 2023)."""

    method: ClassVar[str] = "tiger"

    variant: str = option("no-similarity", "full, no-similarity (BBQRec_S) or inherit (BBQRec_E).", choices=VARIANTS)


@dataclass(frozen=True, kw_only=True)
class SASRecConfig(TrainingConfig):
    """SASRec (Kang and McAuley 2018) with a softmax over all items, or over sampled ones."""

    method: ClassVar[str] = "sasrec"

    epochs: int = option(40, "Epochs at most; also the length of the learning rate's schedule.", minimum=1)
    weight_decay: float = option(0.0, "Weight decay of AdamW.", minimum=0)
    width: int = option(64, "Width of the model.", minimum=1)
    heads: int = option(2, "Attention heads.", minimum=1)
    dropout: float = option(0.5, "Dropout.", minimum=0, maximum=0.9)
    negatives: int = option(0, "Sampled negatives a step; 0: softmax over all items.", minimum=0)


@dataclass(frozen=True, kw_only=True)
class PopularityConfig:
    """The most taken items of the training part, for everybody."""

    method: ClassVar[str] = "popularity"
