"""Pictures of the demo shop, drawn with Pillow: a product in a look (colours and pattern) on a pale ground.

Everything is drawn three times as large and reduced, on a page of 100 × 100 units whose floor is at 86.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from bbqrec_cli.data.sources.demo_pen import FULL, SCALE, Pen, darker
from bbqrec_cli.data.sources.demo_shapes import SHAPES

_GROUNDS = ("#f4f1ec", "#eef1f3", "#f3efe9", "#eff1ec", "#f2eef0", "#ecedef")
_TRIMS = {
    "oak": "#b98a55", "walnut": "#7a5233", "bamboo": "#d3b777", "brass": "#c9a24a", "steel": "#9aa3a8",
    "iron": "#4a4c50", "leather": "#8a5a3a",
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Two colours and a pattern: plain, stripes, bands, dots, checks, zigzag, diamonds, flowers."""

    main: str
    second: str
    pattern: str


LOOKS = (
    Look("#d2433a", "#f7e8d4", "stripes"), Look("#23406f", "#f0f3f8", "dots"), Look("#e3ab2f", "#7c4c22", "checks"),
    Look("#8cb08a", "#a9c4a4", "plain"), Look("#f3bcc6", "#c5456b", "dots"), Look("#1d8a85", "#dcf2ec", "zigzag"),
    Look("#6d3f80", "#8a5f9a", "plain"), Look("#549cdb", "#ffffff", "bands"), Look("#e8722e", "#33333c", "zigzag"),
    Look("#2d6b3d", "#e8d9a8", "checks"), Look("#3b3b44", "#f1f1f1", "diamonds"), Look("#f5f1e6", "#3d74c4", "flowers"),
)  # fmt: skip


def draw(kind: str, variant: int, material: str, look: Look, rng: np.random.Generator) -> bytes:
    """A PNG of SIZE × SIZE: the product, with its size, place and part of the pattern drawn at random."""
    pen = Pen(
        zoom=float(rng.uniform(0.86, 1.0)), at=(float(rng.uniform(-4, 4)), 0.0), trim=_TRIMS.get(material, "#8d8478")
    )
    SHAPES[kind](pen, variant)
    picture = _ground(int(rng.integers(len(_GROUNDS)))).copy()
    ink = ImageDraw.Draw(picture)
    body = Image.new("L", picture.size)
    pen.replay("behind", ink, ImageDraw.Draw(body))
    cloth = Image.new("L", picture.size)
    pen.replay("cloth", ImageDraw.Draw(cloth), None)
    left, top = (int(v) for v in rng.integers(0, 60, 2))
    bolt = _cloth(look, int(rng.integers(3)), int(rng.integers(3)))
    picture.paste(bolt.crop((left, top, left + FULL, top + FULL)), (0, 0), cloth)
    pen.replay("outline", ink, None, colour=darker(look.main, 0.55))
    pen.replay("front", ink, ImageDraw.Draw(body), dark=darker(look.main, 0.5))
    lit = ImageChops.multiply(picture, _light())
    picture.paste(lit, (0, 0), ImageChops.lighter(body, cloth))
    stream = io.BytesIO()
    picture.reduce(SCALE).save(stream, "PNG")
    return stream.getvalue()


@lru_cache
def _ground(number: int) -> Image.Image:
    """A wall, a floor and a soft shadow on it."""
    picture = Image.new("RGB", (FULL, FULL), _GROUNDS[number])
    ink, horizon = ImageDraw.Draw(picture), int(0.74 * FULL)
    ink.rectangle((0, horizon, FULL, FULL), fill=darker(_GROUNDS[number], 0.94))
    shadow = Image.new("L", picture.size)
    ImageDraw.Draw(shadow).ellipse((0.17 * FULL, 0.82 * FULL, 0.87 * FULL, 0.92 * FULL), fill=95)
    picture.paste("#55504a", (0, 0), shadow.filter(ImageFilter.GaussianBlur(3 * SCALE)))
    return picture


@lru_cache
def _light() -> Image.Image:
    """Light from the left: (x) -> brightness, multiplied onto the product."""
    x = np.linspace(0, 1, FULL)
    row = np.round(255 * np.clip(1.08 - 0.5 * np.abs(x - 0.36) ** 1.3 - 0.12 * x, 0, 1)).astype(np.uint8)
    return Image.fromarray(np.tile(row, (FULL, 1))).convert("RGB")


@lru_cache
def _cloth(look: Look, cut: int, turn: int) -> Image.Image:
    """The look's pattern on an image a little larger than the picture; three sizes, three slants."""
    side, step = FULL + 180, (9 + 2 * cut) * SCALE
    cloth = Image.new("RGB", (side, side), look.main)
    ink = ImageDraw.Draw(cloth)
    for row, y in enumerate(range(-step, side, step)):
        if look.pattern == "bands":
            ink.rectangle((0, y, side, y + step // 2), fill=look.second)
        elif look.pattern == "zigzag":
            points = [(x, y + (step // 2 if (x // (step // 2)) % 2 else 0)) for x in range(0, side + step, step // 2)]
            ink.line(points, fill=look.second, width=step // 4, joint="curve")
        for column, x in enumerate(range(-step, side, step)):
            _motif(ink, look, x, y, step, odd=(row + column) % 2 == 1)
    turned = cloth.rotate((turn - 1) * 7, Image.Resampling.BILINEAR)
    return turned.crop((50, 50, side - 50, side - 50))


def _motif(ink: ImageDraw.ImageDraw, look: Look, x: int, y: int, step: int, *, odd: bool) -> None:
    """Draw one cell of the pattern."""
    half, quarter = step // 2, step // 4
    if look.pattern == "stripes":
        ink.rectangle((x, y, x + half, y + step), fill=look.second)
    elif look.pattern == "dots" and odd:
        ink.ellipse((x, y + quarter, x + half, y + quarter + half), fill=look.second)
    elif look.pattern == "checks" and odd:
        ink.rectangle((x, y, x + step, y + step), fill=look.second)
    elif look.pattern == "diamonds" and odd:
        ink.polygon([(x + half, y), (x + step, y + half), (x + half, y + step), (x, y + half)], fill=look.second)
    elif look.pattern == "flowers" and odd:
        for angle in range(0, 360, 72):
            a, b = (quarter * 1.1 * f(math.radians(angle)) for f in (math.cos, math.sin))
            ink.ellipse(_round(x + half + a, y + half + b, quarter), fill=look.second)
        ink.ellipse(_round(x + half, y + half, quarter // 2), fill="#f2c230")


def _round(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    """The bounding box of a circle."""
    return x - radius, y - radius, x + radius, y + radius
