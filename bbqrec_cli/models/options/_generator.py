"""Options that all generators of semantic IDs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.models.options._training import TrainingConfig

VARIANTS = ("full", "no-similarity", "inherit")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig(TrainingConfig):
    """An encoder-decoder over semantic IDs."""

    implementation: ClassVar[str] = "bbqrec_cli.models.semantic_id_generator:SemanticIDGenerator"

    epochs: int = 12
    batch_size: int = option(
        256, "Users per step, on average (causal; one with more items than the history counts several times), or "
        "prefixes per step (bidirectional).", minimum=1,
    )  # fmt: skip
    learning_rate: float = 2e-3
    decoder_layers: int = option(2, "Layers of the decoder.", role="model", minimum=1, search=(1, 2, 3, 4))
    variant: str = option(
        "full",
        "Variant: full, no-similarity (BBQRec_S), or inherit (BBQRec_E: without similarity, too; code embeddings "
        "start as the codebooks).",
        role="model",
        choices=VARIANTS,
    )
    similarity_buckets: int = option(
        100, "K, buckets of the similarity (eq. 15).", role="model", minimum=1, search=(10, 50, 100, 200)
    )
    masking: str = option(
        "causal", "Encoder mask: causal (all positions in one pass) or bidirectional (one sample per prefix).",
        role="model", paper="bidirectional", choices=("causal", "bidirectional"),
    )  # fmt: skip
    normalisation: str = option(
        "catalogue", "Softmax per level: over the existing code tuples (catalogue) or over all codes (codes).",
        role="model", paper="codes", choices=("catalogue", "codes"),
    )  # fmt: skip
    tuple_vectors: str = option(
        "free", "Vector added to the codes of a first-level tuple (catalogue only; beyond the paper): its own (free), "
        "one of what its codes say together (interaction), the mean of the codes below it (composed) or none.",
        role="model", paper="none", choices=("free", "interaction", "composed", "none"),
    )  # fmt: skip
    dense_head: bool = option(False, "Add a head that scores all items at once (beyond the paper).", role="model")
    markov_head: bool = option(
        False, "Mix in what followed the last items in training: a Markov chain (beyond the paper).", role="model"
    )
    similarity_head: bool = option(
        False, "Mix in how similar items are to the history, by the vectors of the tokens file (beyond the paper).",
        role="model",
    )  # fmt: skip
    init_std: float = option(0.02, "Standard deviation of the initial embeddings.", role="model", paper=0.01, minimum=0)

    @property
    def idle(self) -> dict[str, str]:
        """Without similarity in attention there are no buckets of it, and tuples only with a softmax over them."""
        without = {"similarity_buckets": "variant"} if self.variant != "full" else {}
        tuples = self.normalisation == "codes" and self.tuple_vectors != "none"
        return without | ({"tuple_vectors": "normalisation"} if tuples else {})

    @property
    def beyond_paper(self) -> tuple[str, ...]:
        """Tuple vectors and the heads, where they are on."""
        found = ["tuple vectors"] if self.normalisation == "catalogue" and self.tuple_vectors != "none" else []
        heads = {
            "a dense head": self.dense_head,
            "a Markov head": self.markov_head,
            "similarity heads": self.similarity_head,
        }
        return (*found, *(name for name, there in heads.items() if there))
