from __future__ import annotations

from dataclasses import dataclass

from bbqrec_cli.config import option
from bbqrec_cli.errors import UsageError
from bbqrec_cli.models.options._generator import GeneratorConfig


@dataclass(frozen=True, kw_only=True)
class TIGERConfig(GeneratorConfig):
    """TIGER's generator: a bidirectional encoder-decoder with one softmax per code (Rajput et al., NeurIPS 2023)."""

    epochs: int = 30
    learning_rate: float = 1e-3
    layers: int = option(4, "Layers of the encoder.", role="model", minimum=1)
    decoder_layers: int = 4
    dropout: float = 0.1
    variant: str = "no-similarity"
    masking: str = option(
        "bidirectional", "Encoder mask: causal (all positions in one pass) or bidirectional (one sample per prefix).",
        role="model", choices=("causal", "bidirectional"),
    )  # fmt: skip
    normalisation: str = option(
        "codes", "Softmax per level: over the existing code tuples (catalogue) or over all codes (codes).",
        role="model", choices=("catalogue", "codes"),
    )  # fmt: skip
    tuple_vectors: str = option(
        "none", "Vector added to the codes of a first-level tuple (catalogue only): free, interaction, composed or "
        "none.",
        role="model", choices=("free", "interaction", "composed", "none"),
    )  # fmt: skip
    architecture: str = option(
        "bbqrec", "Transformer: bbqrec (learnt positions; the decoder starts from the last item) or t5 (TIGER's).",
        role="model", choices=("bbqrec", "t5"),
    )  # fmt: skip
    head_width: int = option(0, "Width of an attention head; 0: width / heads.", role="model", minimum=0)
    inner: int = option(0, "Width of the feed-forward layers; 0: 4 · width.", role="model", minimum=0)
    temperature: float = option(
        1.0, "τ of LETTER's ranking-guided loss: training divides the logits by it.", role="model", minimum=0.01,
        search=(0.6, 0.8, 1.0, 1.2),
    )  # fmt: skip
    init_std: float = option(0.02, "Standard deviation of the embeddings at the start.", role="model", minimum=0)

    def __post_init__(self) -> None:
        if not self.head_width:
            super().__post_init__()
        if self.architecture == "t5" and self.variant == "full":
            raise UsageError(
                "--architecture t5 has no similarity", "use --variant no-similarity or --architecture bbqrec"
            )
