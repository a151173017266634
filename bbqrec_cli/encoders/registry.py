"""The encoders that plugins add, by name; those of this package are pretrained models and the descriptor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import MethodConfig
from bbqrec_cli.registry import Registry

DESCRIPTOR = "descriptor"
"""The image model without weights; files name it hog-colour."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(MethodConfig):
    """The base of the declarations of encoders. They have no options of their own.

    implementation: 'module:Class' of an `encoders.base.Encoder`, which is built as `Class(device=…, precision=…,
    max_length=…)`; modality: what it encodes, 'text' or 'image'.
    """

    modality: ClassVar[str] = "text"


ENCODERS = Registry(
    "", option="--text-model or --image-model", default="", group="bbqrec.encoders", base=EncoderConfig,
    reserved=(DESCRIPTOR,),
)  # fmt: skip
