"""Decoding pictures, and encoding them with CLIP-like models."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image

from bbqrec_cli.device import autocast
from bbqrec_cli.encoders.base import Encoder, fingerprint, load_pretrained, short_name
from bbqrec_cli.errors import DataError

if TYPE_CHECKING:
    import torch

FLAG = "--image-model"
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow's decoders raise on damaged pictures."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""EXIF orientation -> what makes the picture upright."""


def decode(picture: bytes, *, size: int = 0) -> Image.Image | None:
    """The picture in RGB, upright as its EXIF orientation says, transparent parts on white; None if it cannot be read.

    Args:
        picture: an encoded picture (JPEG, PNG, …); of an animation, the first frame is used.
        size: resize the picture to size × size (JPEGs are decoded at a small size, which is faster); 0: keep its size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on damaged EXIF data
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(picture))
        if size:
            image.draft("RGB", (size, size))
        image = _upright(image)
        if image.mode == "P" or "A" in image.mode or "transparency" in image.info:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        image = image.convert("RGB")
        return image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0) if size else image
    except (*_UNREADABLE, Image.DecompressionBombWarning):
        return None


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; as it is, where that is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            turn = image.getexif().get(ExifTags.Base.Orientation)
    except _UNREADABLE:
        return image
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def _safely(local: bool) -> dict[str, Any]:
    """Options for transformers, which would otherwise ask on the terminal whether to run a model's code."""
    return {"local_files_only": local, "trust_remote_code": False}


class ImageEncoder(Encoder):
    """CLIP, SigLIP or another model with `get_image_features`; or the pooled output of a vision model (ViT, DINOv2).

    Raises:
        DataError: not a model of pictures; and the errors of `load_pretrained`.
    """

    def __init__(self, model: str, *, device: torch.device, precision: str = "fp32") -> None:
        from transformers import AutoImageProcessor, AutoModel

        self.processor = load_pretrained(
            FLAG, model, lambda local: AutoImageProcessor.from_pretrained(model, **_safely(local))
        )
        loaded = load_pretrained(FLAG, model, lambda local: AutoModel.from_pretrained(model, **_safely(local)))
        self.model = loaded.to(device).eval()
        self.name = short_name(model)
        self.weights = fingerprint(self.model)
        self._device, self._precision = device, precision

    def encode(self, inputs: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """values (n, d) float32 and readable (n,) bool."""
        import torch

        decoded = [decode(picture) for picture in inputs]
        readable = np.array([image is not None for image in decoded])
        # A grey picture in place of unreadable ones keeps the batch's shape.
        images = [image or Image.new("RGB", (32, 32), "grey") for image in decoded]
        pixels = self.processor(images=images, return_tensors="pt")["pixel_values"].to(self._device)
        with torch.no_grad(), autocast(self._device, self._precision):
            values = self._pooled(pixels)
        found = values.float().cpu().numpy()
        return np.where(readable[:, None], found, np.float32(0)), readable

    def _pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, d). transformers 5 wraps the features of CLIP-like models in an output object, 4 does not."""
        call: Any = getattr(self.model, "get_image_features", self.model)
        made = call(pixel_values=pixels)
        if hasattr(made, "pooler_output"):
            made = made.pooler_output
        if made is None or not hasattr(made, "ndim") or made.ndim != 2:
            raise DataError(
                f"{FLAG} {self.name}: a {type(self.model).__name__} does not give one vector per picture",
                "give a CLIP-like model, or --image-model descriptor",
            )
        return made
