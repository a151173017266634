"""Text and pictures -> feature rows. `load_encoder` is the way in; nothing heavy is imported before it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from bbqrec_cli.encoders.base import Encoder

DESCRIPTOR = "descriptor"
"""The image model that needs no weights; files call it hog-colour."""


def load_encoder(
    modality: str, model: str, *, device: torch.device, precision: str = "fp32", max_length: int = 0
) -> Encoder:
    """The encoder of 'text' or 'image'.

    Args:
        model: name or folder; '' is the modality's default (the offline text model, the descriptor).
        device, precision: as `bbqrec_cli.device` resolves them; the descriptor needs neither.
        max_length: tokens of a text; 0 leaves it to the model.

    Raises:
        MissingPackageError, LackingError, DataError: the model is not there or is not one.
        UsageError: the model can not read `max_length` tokens.
    """
    if modality == "text":
        from bbqrec_cli.encoders.text import TextEncoder

        return TextEncoder(model, device=device, precision=precision, max_length=max_length)
    if model in ("", DESCRIPTOR):
        from bbqrec_cli.encoders.descriptor import DescriptorEncoder

        return DescriptorEncoder()
    from bbqrec_cli.encoders.image import ImageEncoder

    return ImageEncoder(model, device=device, precision=precision)
