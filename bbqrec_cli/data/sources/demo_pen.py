"""The pen that draws the demo's shapes. Coordinates are of a page of 100 × 100."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import ImageColor, ImageDraw

SIZE, SCALE = 96, 3
"""Pixels of a picture's side, and how many times larger it is drawn."""
FULL = SIZE * SCALE


def darker(colour: str, share: float) -> tuple[int, ...]:
    return tuple(int(v * share) for v in ImageColor.getrgb(colour))


class Pen:
    """Records the parts of a shape, to be painted layer by layer.

    Layers: `behind` the cloth (handles, legs), the `cloth` itself, which gets the look, and `front` of it.
    A colour may be 'trim', that of the product's material, or 'dark', a dark tone of the look.

    Args:
        zoom: size of the product; it keeps standing on the floor.
        at: shift of the product, in units of the page.
        trim: the material's colour.
    """

    def __init__(self, *, zoom: float, at: tuple[float, float], trim: str) -> None:
        self._zoom, self._at, self._trim, self._layer = zoom, at, trim, "cloth"
        self._parts: list[tuple[str, str, list, dict]] = []

    def layer(self, name: str) -> None:
        """Draw on this layer from now on."""
        self._layer = name

    def polygon(self, *xy: float, fill: str = "trim") -> None:
        """Straight edges."""
        self._add("polygon", xy, fill=fill)

    def blob(self, *xy: float, fill: str = "trim", rounds: int = 3) -> None:
        """A polygon whose corners are cut `rounds` times (Chaikin), so that it is round."""
        points = np.array(xy, dtype=float).reshape(-1, 2)
        for _ in range(rounds):
            following = np.roll(points, -1, axis=0)
            points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], 1).reshape(-1, 2)
        self._add("polygon", points.ravel().tolist(), fill=fill)

    def ellipse(self, *xy: float, fill: str = "trim") -> None:
        """Inside the box x0 y0 x1 y1."""
        self._add("ellipse", xy, fill=fill)

    def box(self, *xy: float, radius: float = 4, fill: str = "trim") -> None:
        """A rectangle x0 y0 x1 y1 with round corners."""
        self._add("rounded_rectangle", xy, fill=fill, radius=radius)

    def slice(self, start: float, stop: float, *xy: float, fill: str = "trim") -> None:
        """A part of an ellipse, degrees clockwise from the right."""
        self._add("pieslice", xy, fill=fill, start=start, end=stop)

    def arc(self, start: float, stop: float, *xy: float, width: float = 2, fill: str = "dark") -> None:
        """A part of an ellipse's edge."""
        self._add("arc", xy, fill=fill, start=start, end=stop, width=width)

    def line(self, *xy: float, width: float = 2, fill: str = "dark") -> None:
        """Through all points."""
        self._add("line", xy, fill=fill, width=width)

    def _add(self, how: str, xy: Sequence[float], **style) -> None:
        place = [50 + (x - 50) * self._zoom + self._at[0] if n % 2 == 0 else 86 + (x - 86) * self._zoom + self._at[1]
                 for n, x in enumerate(xy)]  # fmt: skip
        unit = FULL / 100
        style |= {k: v * unit * self._zoom for k, v in style.items() if k in ("width", "radius")}
        self._parts.append((self._layer, how, [v * unit for v in place], style))

    def replay(
        self, layer: str, ink: ImageDraw.ImageDraw, body: ImageDraw.ImageDraw | None, *,
        colour: tuple[int, ...] = (), dark: tuple[int, ...] = (60, 56, 52),
    ) -> None:  # fmt: skip
        """Paint one layer; `body` collects where it is.

        'cloth' paints a mask, 'outline' the cloth's edges in `colour`.
        """
        for name, how, points, style in self._parts:
            if name != ("cloth" if layer == "outline" else layer):
                continue
            style = dict(style)
            if "width" in style:
                style["width"] = max(1, round(style["width"]))
            style["fill"] = {"trim": self._trim, "dark": dark}.get(style["fill"], style["fill"])
            if layer == "cloth":
                style["fill"] = 255
            elif layer == "outline" and "width" not in style:
                style |= {"fill": None, "outline": colour, "width": SCALE}
            elif layer != "outline" and "width" not in style:
                style |= {"outline": darker(_hex(style["fill"]), 0.6), "width": SCALE - 1}
            elif layer == "outline":
                continue
            getattr(ink, how)(points, **style)
            if body is not None:
                getattr(body, how)(points, **{k: v for k, v in style.items() if k != "outline"} | {"fill": 255})


def _hex(colour: str | tuple[int, ...]) -> str:
    return colour if isinstance(colour, str) else "#" + "".join(f"{v:02x}" for v in colour)
