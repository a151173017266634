"""hog-colour: a picture descriptor without weights, in NumPy. It describes shapes and colours, not meaning.

n pictures, S side in pixels, C cells per side, O orientations, T side of the thumbnail. Two parts of unit length:

- HOG, oriented gradients in cells, normalised by the energy of neighbouring cells (Dalal and Triggs, 2005, in the
  cell-wise form of Felzenszwalb et al., 2010): where the edges are and how they are oriented;
- colour in CIE L*a*b*, whose distances are perceptual: soft histograms of lightness and of the a*b* plane over the
  whole picture and its quarters (square-rooted, for Hellinger's distance), and the mean colour of each cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bbqrec_cli.encoders.base import Encoder, Prepared
from bbqrec_cli.encoders.image import decode_all

NAME = "hog-colour"
SIDE, CELLS, ORIENTATIONS = 96, 6, 9
THUMBNAIL = 24
LIGHTNESS_BINS, HUE_BINS = 8, 5
_SRGB = np.arange(256) / 255
_LINEAR = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4).astype(np.float32)
"""Byte -> linear light (IEC 61966-2-1)."""
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])
"""D65."""
_TO_XYZ = (_XYZ / _WHITE[:, None]).T.astype(np.float32)


class DescriptorEncoder(Encoder):
    """The descriptor of every picture; the same bytes always give the same numbers."""

    name = NAME

    @staticmethod
    def prepare(inputs: Sequence[bytes]) -> Prepared:
        """All of the work: there is no model to wait for."""
        images, kinds = decode_all(inputs, size=SIDE)
        return Prepared(describe(np.stack([np.asarray(image) for image in images])), kinds)

    def forward(self, inputs: np.ndarray) -> np.ndarray:
        """The descriptors, as they were prepared."""
        return inputs


def describe(pixels: np.ndarray) -> np.ndarray:
    """The descriptor (n, d) float32 of RGB pictures (n, SIDE, SIDE, 3) uint8."""
    lab = to_lab(_LINEAR[pixels].reshape(len(pixels), THUMBNAIL, SIDE // THUMBNAIL, THUMBNAIL, -1, 3).mean(axis=(2, 4)))
    grey = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
    parts = (_unit(oriented_gradients(grey)), _unit(colours(lab)))
    return np.concatenate(parts, axis=1) * np.float32(0.5**0.5)


def oriented_gradients(grey: np.ndarray) -> np.ndarray:
    """HOG of grey pictures (n, S, S) in 0…1: (n, C·C·O) float32."""
    count, side = len(grey), grey.shape[1]
    down = np.zeros_like(grey)
    across = np.zeros_like(grey)
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    across[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    strength = np.hypot(down, across).ravel()
    # Unsigned: an edge from dark to bright and one from bright to dark are the same edge.
    turn = (np.arctan2(down, across).ravel() / np.float32(np.pi)) % 1 * ORIENTATIONS
    low = np.floor(turn).astype(np.int64)
    share = turn - low
    row = np.arange(side) * CELLS // side
    cell = (np.arange(count)[:, None, None] * CELLS + row[:, None]) * CELLS + row
    start = cell.ravel() * ORIENTATIONS
    bins = count * CELLS * CELLS * ORIENTATIONS
    histogram = np.bincount(start + low % ORIENTATIONS, strength * (1 - share), bins)
    histogram += np.bincount(start + (low + 1) % ORIENTATIONS, strength * share, bins)
    return _normalise_cells(histogram.reshape(count, CELLS, CELLS, ORIENTATIONS)).reshape(count, -1).astype(np.float32)


def _normalise_cells(histogram: np.ndarray) -> np.ndarray:
    """Cells (n, C, C, O) divided by the energy of each of the four 2 × 2 blocks around, clipped at 0.2, averaged."""
    energy = np.pad((histogram**2).sum(axis=-1), ((0, 0), (1, 1), (1, 1)), mode="edge")
    blocks = energy[:, :-1, :-1] + energy[:, 1:, :-1] + energy[:, :-1, 1:] + energy[:, 1:, 1:]
    norm = np.sqrt(blocks + 1e-2)[..., None]
    four = (norm[:, :-1, :-1], norm[:, 1:, :-1], norm[:, :-1, 1:], norm[:, 1:, 1:])
    return sum(np.minimum(histogram / each, 0.2) for each in four) / 4


def to_lab(linear: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear RGB (..., 3) in 0…1: L 0…100, a and b about ±100."""
    xyz = linear.astype(np.float32, copy=False) @ _TO_XYZ
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    ).astype(np.float32, copy=False)


def colours(lab: np.ndarray) -> np.ndarray:
    """Histograms of the picture and its quarters, then the mean colour of each cell. lab (n, T, T, 3)."""
    count, half = len(lab), THUMBNAIL // 2
    quarters = lab.reshape(count, 2, half, 2, half, 3).swapaxes(2, 3).reshape(count * 4, -1, 3)
    parts = _colour_histogram(quarters).reshape(count, 4, -1)
    histograms = np.sqrt(np.concatenate([parts.mean(axis=1, keepdims=True), parts], axis=1)).reshape(count, -1)
    inside = THUMBNAIL // CELLS
    means = lab.reshape(count, CELLS, inside, CELLS, inside, 3).mean(axis=(2, 4))
    means[..., 0] -= 50  # centre lightness, as a and b are
    return np.concatenate([_unit(histograms), _unit(means.reshape(count, -1))], axis=1)


def _colour_histogram(lab: np.ndarray) -> np.ndarray:
    """Histograms of lightness (8 bins) and a*b* (5 × 5 bins) of pixels (n, P, 3), each with sum 1; (n, 33)."""
    light = _soft(lab[..., 0] / 100 * (LIGHTNESS_BINS - 1), LIGHTNESS_BINS)
    red, yellow = (_soft(lab[..., axis] / 25 + HUE_BINS // 2, HUE_BINS) for axis in (1, 2))
    plane = np.matmul(red.swapaxes(1, 2), yellow).reshape(len(lab), -1)
    return np.concatenate([light.sum(axis=1), plane], axis=1) / lab.shape[1]


def _soft(position: np.ndarray, bins: int) -> np.ndarray:
    """Soft assignment of values to `bins` bins, linear between the two nearest: (...) -> (..., bins)."""
    inside = np.clip(position, 0, bins - 1)
    return np.maximum(0, 1 - np.abs(inside[..., None] - np.arange(bins, dtype=np.float32)))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of unit length; zero rows stay."""
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-8)).astype(np.float32)
