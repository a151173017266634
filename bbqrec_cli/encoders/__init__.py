"""Texts and pictures -> features. Start with `load_encoder`; heavy packages are imported only when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bbqrec_cli.encoders.registry import DESCRIPTOR, ENCODERS
from bbqrec_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

    from bbqrec_cli.encoders.base import Encoder


def load_encoder(
    modality: str,
    model: str,
    *,
    device: torch.device,
    precision: str = "fp32",
    max_length: int = 0,
    chunks: bool = False,
) -> Encoder:
    """The encoder of 'text' or 'image'.

    Args:
        model: name or folder, or the name of an encoder that a plugin adds; '' is the modality's default (the offline
            text model, the descriptor).
        device, precision: as `bbqrec_cli.device` resolves them; the descriptor needs neither.
        max_length, chunks: of texts; see `TextEncoder`.

    Raises:
        MissingPackageError, LackingError, DataError: the model is missing or cannot be loaded.
        UsageError: the model cannot read `max_length` tokens, or a plugin's encoder is of another modality.
    """
    if model in ENCODERS:
        if (of := ENCODERS.config(model).modality) != modality:
            raise UsageError(f"--{modality}-model {model}: it encodes {of}", f"--{of}-model {model}")
        if chunks:
            raise UsageError(
                f"--long-texts chunk: the encoder {model} of a plugin reads texts as it does", "leave it out"
            )
        made: Encoder = ENCODERS.implementation(model)(device=device, precision=precision, max_length=max_length)
        return made
    if modality == "text":
        from bbqrec_cli.encoders.text import TextEncoder

        return TextEncoder(model, device=device, precision=precision, max_length=max_length, chunks=chunks)
    if model in ("", DESCRIPTOR):
        from bbqrec_cli.encoders.descriptor import DescriptorEncoder

        return DescriptorEncoder()
    from bbqrec_cli.encoders.image import ImageEncoder

    return ImageEncoder(model, device=device, precision=precision)
