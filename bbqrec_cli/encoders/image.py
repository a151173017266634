"""Decoding pictures, and encoding them with CLIP-like models."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image

from bbqrec_cli.device import autocast
from bbqrec_cli.encoders.base import KINDS, Encoder, Prepared, digest_of, fingerprint, load_pretrained, short_name
from bbqrec_cli.errors import DataError

if TYPE_CHECKING:
    import torch

FLAG = "--image-model"

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""EXIF orientation -> what makes the picture upright."""


def decode(picture: bytes, *, size: int = 0) -> Image.Image | None:
    """`read_picture` without the kind."""
    return read_picture(picture, size=size)[0]


def decode_all(pictures: Sequence[bytes], *, size: int = 0) -> tuple[list[Image.Image], np.ndarray]:
    """n pictures, with a grey one in place of those that cannot be read, and their kinds (n,) uint8, rows of KINDS."""
    read = [read_picture(picture, size=size) for picture in pictures]
    blank = Image.new("RGB", (size or 32, size or 32), "grey")
    kinds = np.array([KINDS.index(kind) for _, kind in read], dtype=np.uint8)
    return [image or blank for image, _ in read], kinds


def read_picture(picture: bytes, *, size: int = 0) -> tuple[Image.Image | None, str]:
    """The picture in RGB, upright as its EXIF orientation says, transparent parts on white; None if it cannot be read.

    Args:
        picture: an encoded picture (JPEG, PNG, …); of an animation, the first frame is used.
        size: resize the picture to size × size (JPEGs are decoded at a small size, which is faster); 0: keep its size.

    Returns:
        the picture, and what is remarkable about it: one of KINDS.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on damaged EXIF data
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(picture))
            kind = _kind(image)
            if size:
                image.draft("RGB", (size, size))
            image = _upright(image)
            if image.mode.startswith(("I", "F")):
                image = _eight_bits(image)
            if _has_transparency(image):
                layer = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            image = image.convert("RGB")
            small = (size, size)
            return (image.resize(small, Image.Resampling.BILINEAR, reducing_gap=2.0) if size else image), kind
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None, "too large"
    except MemoryError:
        raise
    except Exception as error:  # as in `_tried`
        short = isinstance(error, EOFError) or "truncated" in str(error).lower()
        return None, "truncated" if short else "corrupt"


def _kind(image: Image.Image) -> str:
    """What is remarkable about an opened picture, one of KINDS: whatever needs most care, if it is several."""
    if _has_frames(image):
        return "of several frames (the first counts)"
    if image.mode == "CMYK":
        return "CMYK"
    if image.mode.startswith(("I", "F")):
        return "16-bit"
    if _has_transparency(image):
        return "transparent"
    return "greyscale" if image.mode in ("1", "L") else ""


def _tried(read: Callable[[], Any]) -> Any:
    """What it gives; None where the picture is damaged there."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception:  # Pillow's decoders raise anything on damaged pictures
        return None


def _has_frames(image: Image.Image) -> bool:
    return bool(_tried(lambda: getattr(image, "is_animated", False)))


def _has_transparency(image: Image.Image) -> bool:
    return "A" in image.mode or "a" in image.mode or "transparency" in image.info


def _eight_bits(image: Image.Image) -> Image.Image:
    """A picture of 16 bits (or more, or of floating point) with its brightness kept; Pillow would clip it at 255."""
    values = np.asarray(image, dtype=np.float64)
    highest = values.max(initial=0)
    scale = next((each for each in (1, 255, 65535) if highest <= each), highest)
    scale = 65535 if image.mode.startswith("I;16") else scale
    return Image.fromarray((np.clip(values / scale, 0, 1) * 255).round().astype(np.uint8))


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says; as it is, where that is damaged."""
    turn = _tried(lambda: image.getexif().get(ExifTags.Base.Orientation))
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def _safely(local: bool) -> dict[str, Any]:
    """Options for transformers, which would otherwise ask on the terminal whether to run a model's code."""
    return {"local_files_only": local, "trust_remote_code": False}


@dataclass(frozen=True)
class Pixels:
    """Encoded pictures -> pixels as a model takes them, (n, 3, S, S) float32. processor: the model's own."""

    processor: Any

    def __call__(self, inputs: Sequence[bytes]) -> Prepared:
        """One by one: a batch of decoded pictures of full size could take gigabytes."""
        pixels, kinds = [], []
        for picture in inputs:
            images, kind = decode_all([picture])
            pixels.append(self.processor(images=images, return_tensors="pt")["pixel_values"].numpy())
            kinds.append(kind)
        return Prepared(np.concatenate(pixels), np.concatenate(kinds))


class ImageEncoder(Encoder):
    """CLIP, SigLIP or another model with `get_image_features`; or the pooled output of a vision model (ViT, DINOv2).

    Raises:
        DataError: not a model of pictures; and the errors of `load_pretrained`.
    """

    def __init__(self, model: str, *, device: torch.device, precision: str = "fp32") -> None:
        from transformers import AutoImageProcessor, AutoModel

        processor = load_pretrained(
            FLAG, model, lambda local: AutoImageProcessor.from_pretrained(model, **_safely(local))
        )
        self.prepare = Pixels(processor)
        loaded = load_pretrained(FLAG, model, lambda local: AutoModel.from_pretrained(model, **_safely(local)))
        self.model = loaded.to(device).eval()
        self.name = short_name(model)
        self.weights, self.setup = fingerprint(self.model), digest_of(processor.to_dict())
        self._device, self._precision = device, precision

    def forward(self, inputs: np.ndarray) -> np.ndarray:
        """(n, d) float32 of pixels (n, 3, S, S) float32."""
        import torch

        with torch.no_grad(), autocast(self._device, self._precision):
            values = self._pooled(torch.from_numpy(inputs).to(self._device))
        return values.float().cpu().numpy()

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
