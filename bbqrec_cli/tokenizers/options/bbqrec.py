from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.tokenizers.options._codebooks import WarmupConfig


@dataclass(frozen=True, kw_only=True)
class BBQRecConfig(WarmupConfig):
    """Text, picture and a learnt ID signal in one residual codebook, aligned with behaviour (paper, section 4.1).

    Loss: L_recon + Σ L_RQ + β L_Rec + γ L_MIM (eq. 13).
    """

    implementation: ClassVar[str] = "bbqrec_cli.tokenizers.methods.bbqrec.method:BBQRec"
    warmup_share: ClassVar[float] = 1 / 2

    codebook_size: int = option(
        0, "Codes N per codebook; 0: fitted to the catalogue, 256 from 513 items on.", role="model", paper=256,
        minimum=0, maximum=65536,
    )  # fmt: skip
    dim: int = option(128, "Width D of a code.", role="model", minimum=2)
    signals: tuple[str, ...] = option(
        (), "Signals, any of id,text,image; empty: id and every feature of the file.", role="model"
    )
    warmup_epochs: int = option(
        -1, "Epochs without quantisation, before k-means; -1: half of all.", paper=0, minimum=-1
    )
    batch_size: int = option(256, "Users per step.", minimum=2)
    learning_rate: float = option(1e-3, "Peak learning rate of AdamW.", minimum=0)
    beta: float = option(1.0, "β, weight of the sequence-to-item loss (eq. 13).", minimum=0)
    gamma: float = option(1.0, "γ, weight of the mutual information loss (eq. 13).", minimum=0)
    tau: float = option(0.1, "τ, temperature of the contrastive loss (eq. 12).", minimum=1e-3)
    alpha: float = option(0.25, "α, weight of the commitment term (eq. 9).", minimum=0)
    hidden: int = option(256, "Width of the hidden layers of encoders and decoders.", role="model", minimum=1)
    sequence_encoder: str = option(
        "sasrec", "Sequence encoder: sasrec or srgnn, both named in the paper.", role="model",
        choices=("sasrec", "srgnn"),
    )  # fmt: skip
    sequence_layers: int = option(
        2, "Layers (sasrec) or steps (srgnn) of the sequence encoder.", role="model", minimum=1
    )
    sequence_heads: int = option(4, "Heads of the sequence encoder (sasrec).", role="model", minimum=1)
    dropout: float = option(0.3, "Dropout of the sequence encoder.", role="model", minimum=0, maximum=0.9)
    popularity: str = option(
        "ranking",
        "Where to correct for the popularity of a batch's items: in the sequence encoder's reported recall (ranking; "
        "the IDs are the paper's), in its loss (loss), or nowhere (none, the paper's).",
        paper="none", choices=("none", "loss", "ranking"),
    )  # fmt: skip
    warm_start: str = option(
        "", "Model file (sasrec) whose item vectors initialise the ID signal.", role="input", complete=".h5"
    )
    mim: bool = option(
        True, "Split off a modality-specific part and minimise CLUB (off: the paper's ¬MIM).", role="model"
    )
    rec: bool = option(
        True, "Train the sequence-to-item task (off: the paper's ¬Rec, without the ID signal).", role="model"
    )
    shared_codebook: bool = option(True, "One codebook per level for all signals (off: the paper's ¬U).", role="model")
    plain_equations: bool = option(
        False, "Equations 2–9 as printed: signals not normalised, CLUB without a lower bound, which diverges.",
        role="model", paper=True,
    )  # fmt: skip

    @property
    def idle(self) -> dict[str, str]:
        """What belongs to a part that is left out."""
        graph = {} if self.sequence_encoder == "sasrec" else {"sequence_heads": "sequence_encoder"}
        encoder = ("sequence_encoder", "sequence_layers", "sequence_heads", "dropout")
        without_task = {} if self.rec else dict.fromkeys(("beta", "tau", "popularity", *encoder), "rec")
        return graph | without_task | ({} if self.mim else {"gamma": "mim"})
