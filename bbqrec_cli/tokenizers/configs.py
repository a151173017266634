"""The options of every tokenizer (no torch here: the command line reads this file to make its flags)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.errors import UsageError

_WARMUP = "Epochs without quantisation before k-means; -1: half of them (bbqrec), a sixth (rqvae, letter)."
_SINKHORN = "While training, spread each batch evenly over the last level's codes, with this ε; 0: do not."


class _WithWarmup:
    """Epochs without quantisation come first (docs/tokenizer.md says why)."""

    warmup_share: ClassVar[float]
    epochs: int
    warmup_epochs: int

    def __post_init__(self) -> None:
        if self.warmup_epochs >= self.epochs:
            raise UsageError(
                f"--warmup-epochs is {self.warmup_epochs} and --epochs {self.epochs}: no epoch is left in which the "
                "codebooks are learnt",
                f"--warmup-epochs {int(self.epochs * self.warmup_share)}, or leave it out",
            )

    @property
    def warmup(self) -> int:
        """Epochs before the codebooks are initialised, fewer than `epochs`."""
        return int(self.epochs * self.warmup_share) if self.warmup_epochs < 0 else self.warmup_epochs


@dataclass(frozen=True, kw_only=True)
class BBQRecConfig(_WithWarmup):
    """Paper, sections 4.1 and 5.1. Loss: L_recon + Σ L_RQ + β L_Rec + γ L_MIM (eq. 13)."""

    method: ClassVar[str] = "bbqrec"
    FILES: ClassVar[tuple[str, ...]] = ("warm_start",)
    """The options that name input files."""
    PAPER: ClassVar[dict[str, Any]] = {"popularity": "none"}
    """The paper's value of every option whose default departs from it: what --paper sets."""
    warmup_share: ClassVar[float] = 1 / 2

    levels: int = option(3, "Levels L of the semantic ID.", minimum=1, maximum=8)
    codebook_size: int = option(256, "Codes N of a codebook.", minimum=2, maximum=65536)
    dim: int = option(128, "Width D of a code; rqkmeans, pq, opq: of the features' PCA, 0: all they have.", minimum=2)
    signals: tuple[str, ...] = option((), "Signals, any of id,text,image; empty: id and every feature there is.")
    epochs: int = option(40, "Epochs, warm-up included.", minimum=1)
    warmup_epochs: int = option(-1, _WARMUP, minimum=-1)
    batch_size: int = option(256, "Users (bbqrec) or items (rqvae, letter) a step.", minimum=2)
    learning_rate: float = option(1e-3, "Highest learning rate of AdamW.", minimum=0)
    beta: float = option(1.0, "β, weight of the sequence-to-item loss (eq. 13).", minimum=0)
    gamma: float = option(1.0, "γ, weight of the mutual information (eq. 13).", minimum=0)
    tau: float = option(0.1, "τ, temperature of the contrastive loss (eq. 12).", minimum=1e-3)
    alpha: float = option(0.25, "α, weight of the commitment term (eq. 9).", minimum=0)
    reconstruction: float = option(1.0, "Weight of the reconstruction (1 in the paper).", minimum=0)
    hidden: int = option(256, "Width of the encoders' and decoders' hidden layer.", minimum=1)
    sequence_layers: int = option(2, "Layers (sasrec) or steps (srgnn) of the sequence encoder.", minimum=1)
    sequence_heads: int = option(4, "Heads of the sequence encoder (sasrec).", minimum=1)
    dropout: float = option(0.3, "Dropout of the sequence encoder.", minimum=0, maximum=0.9)
    sequence_encoder: str = option(
        "sasrec", "Sequence encoder: sasrec or srgnn, both named by the paper.", choices=("sasrec", "srgnn")
    )
    negatives: str = option(
        "batch",
        "Negatives: the batch's (batch, the paper's), these and some more (mixed), or all items.",
        choices=("batch", "mixed", "all"),
    )
    sampled: int = option(2048, "Items drawn a step for --negatives mixed.", minimum=1)
    popularity: str = option(
        "ranking",
        "Where it counts that a batch's items are the popular ones: when the sequence encoder's recall is measured "
        "(ranking; the IDs are the paper's), in its loss (loss), or nowhere (none, the paper's).",
        choices=("none", "loss", "ranking"),
    )
    learn_tau: bool = option(False, "Learn τ, from --tau on.")
    codebook_learning: str = option(
        "gradient",
        "Codes learn by gradient (eq. 9, the paper's) or are running means (ema).",
        choices=("gradient", "ema"),
    )
    ema_decay: float = option(0.99, "Decay of those running means.", minimum=0.5, maximum=0.9999)
    estimator: str = option(
        "straight-through",
        "Gradients pass the codebooks straight through (the paper's) or turned as z onto q (rotation).",
        choices=("straight-through", "rotation"),
    )
    warm_start: str = option("", "A model file (sasrec): the ID signal starts from its item vectors.")
    mim: bool = option(True, "Split off a modality-specific part and push CLUB down (off: the paper's ¬MIM).")
    club_floor: bool = option(
        True, "No gradient of CLUB below 0, and a bounded variance (off: eq. 3 as it stands, which runs away)."
    )
    unit_signals: bool = option(
        True, "Signals on the unit sphere after a batch norm, z̄ after a layer norm (off: as the encoders give them)."
    )
    rec: bool = option(True, "Train the sequence-to-item task (off: the paper's ¬Rec; leaves the ID signal out).")
    shared_codebook: bool = option(True, "One codebook a level for all signals (off: the paper's ¬U).")


@dataclass(frozen=True, kw_only=True)
class RQVAEConfig(_WithWarmup):
    """TIGER's RQ-VAE (Rajput et al. 2023): one modality, or several concatenated, reconstructed from residual codes."""

    method: ClassVar[str] = "rqvae"
    warmup_share: ClassVar[float] = 1 / 6

    levels: int = option(3, "Levels L of the semantic ID.", minimum=1, maximum=8)
    codebook_size: int = option(256, "Codes N of a codebook.", minimum=2, maximum=65536)
    dim: int = option(32, "Width D of a code.", minimum=2)
    signals: tuple[str, ...] = option((), "Features to concatenate; empty: text, or what there is.")
    epochs: int = option(300, "Epochs over the items, warm-up included.", minimum=1)
    warmup_epochs: int = option(-1, _WARMUP, minimum=-1)
    batch_size: int = option(1024, "Users (bbqrec) or items (rqvae, letter) a step.", minimum=2)
    learning_rate: float = option(1e-3, "Highest learning rate of AdamW.", minimum=0)
    alpha: float = option(0.25, "α, weight of the commitment term (eq. 9).", minimum=0)
    hidden: int = option(512, "Width of the encoders' and decoders' hidden layer.", minimum=1)
    restart_dead_codes: bool = option(True, "Move unused codes onto random residuals after an epoch.")
    sinkhorn: float = option(0.0, _SINKHORN, minimum=0, maximum=1)


@dataclass(frozen=True, kw_only=True)
class LETTERConfig(RQVAEConfig):
    """LETTER (Wang et al., CIKM 2024): an RQ-VAE that follows a sequence model and spreads its codes."""

    method: ClassVar[str] = "letter"
    FILES: ClassVar[tuple[str, ...]] = ("collaborative",)

    collaborative: str = option("", "A sasrec's model file: its item vectors are followed.")
    collaborative_weight: float = option(0.01, "LETTER's α, weight of following them; 0 needs no model.", minimum=0)
    diversity_weight: float = option(0.0001, "LETTER's β, weight of the codes' diversity.", minimum=0)
    clusters: int = option(10, "Clusters of a codebook's codes, for the diversity.", minimum=1)
    sinkhorn: float = option(0.003, _SINKHORN, minimum=0, maximum=1)


@dataclass(frozen=True, kw_only=True)
class _KMeansConfig:
    """What is learnt by k-means alone takes."""

    levels: int = option(3, "Levels L of the semantic ID.", minimum=1, maximum=8)
    codebook_size: int = option(256, "Codes N of a codebook.", minimum=2, maximum=65536)
    dim: int = option(32, "Width D of a code: of the features' PCA, 0: all they have.", minimum=0)
    signals: tuple[str, ...] = option((), "Features to concatenate; empty: text, or what there is.")
    kmeans_sample: int = option(256, "Vectors a code that k-means looks at; more are sampled.", minimum=1)


@dataclass(frozen=True, kw_only=True)
class RQKMeansConfig(_KMeansConfig):
    """Residual k-means on the features: no network, no training."""

    method: ClassVar[str] = "rqkmeans"

    balanced: bool = option(False, "Every code of a level gets the same number of items, give or take one.")


@dataclass(frozen=True, kw_only=True)
class PQConfig(_KMeansConfig):
    """Product quantisation: one k-means for each of L parts of the features."""

    method: ClassVar[str] = "pq"


@dataclass(frozen=True, kw_only=True)
class OPQConfig(_KMeansConfig):
    """VQ-Rec's: product quantisation after a rotation that is learnt (Ge et al. 2013; Hou et al. 2023)."""

    method: ClassVar[str] = "opq"


@dataclass(frozen=True, kw_only=True)
class RandomConfig:
    """Codes that are drawn and say nothing: what a tokenizer must beat."""

    method: ClassVar[str] = "random"

    levels: int = option(3, "Levels L of the semantic ID.", minimum=1, maximum=8)
    codebook_size: int = option(256, "Codes N of a codebook.", minimum=2, maximum=65536)


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """Somebody else's semantic IDs, read from an index.json."""

    method: ClassVar[str] = "published"
    FILES: ClassVar[tuple[str, ...]] = ("index",)

    index: tuple[str, ...] = option(
        (), 'An index.json (LETTER, MQL4GRec, MiniOneRec: item id -> ["<a_1>", …]); several: one a signal.'
    )
