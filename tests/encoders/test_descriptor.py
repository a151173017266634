from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bbqrec_cli.encoders import descriptor
from bbqrec_cli.encoders.descriptor import DescriptorEncoder, describe, oriented_gradients, to_lab


def test_lab_of_colours_with_published_values():
    """Reference: sRGB primaries in CIE L*a*b* under D65, as colour tables print them."""
    rgb = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]])
    expected = [
        [100, 0, 0],
        [0, 0, 0],
        [53.24, 80.09, 67.20],
        [87.73, -86.18, 83.18],
        [32.30, 79.19, -107.86],
        [53.59, 0, 0],
    ]
    np.testing.assert_allclose(to_lab(descriptor._LINEAR[rgb]), expected, atol=0.05)


@pytest.mark.parametrize(("angle", "orientation"), [(0, 0), (40, 2), (80, 4), (120, 6), (160, 8)])
def test_gradients_fall_into_the_bin_of_their_angle(angle, orientation):
    """A plane wave whose gradient runs at 20° · k has all its strength in bin k of 9."""
    y, x = np.mgrid[:96, :96]
    wave = np.cos((x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))) / 6)
    cells = oriented_gradients((0.5 + 0.5 * wave)[None].astype(np.float32)).reshape(6, 6, 9)
    inner = cells[1:-1, 1:-1].mean(axis=(0, 1))
    assert inner.argmax() == orientation
    assert inner[orientation] > 2 * np.sort(inner)[-4]  # its two neighbours may share it, no other bin


def test_gradients_agree_with_a_loop():
    """Cell histograms by the definition, pixel by pixel."""
    grey = np.random.default_rng(0).random((2, 96, 96)).astype(np.float32)
    expected = np.zeros((2, 6, 6, 9))
    for n, y, x in np.ndindex(grey.shape):
        down = grey[n, y + 1, x] - grey[n, y - 1, x] if 0 < y < 95 else 0.0
        across = grey[n, y, x + 1] - grey[n, y, x - 1] if 0 < x < 95 else 0.0
        turn = np.arctan2(down, across) % np.pi / np.pi * 9
        low, share = int(turn), turn % 1
        expected[n, y // 16, x // 16, low % 9] += np.hypot(down, across) * (1 - share)
        expected[n, y // 16, x // 16, (low + 1) % 9] += np.hypot(down, across) * share
    made = descriptor._normalise_cells(expected).reshape(2, -1)
    np.testing.assert_allclose(oriented_gradients(grey), made, atol=1e-4)


def test_like_pictures_are_near(dataset):
    """The same corner in another colour shares the shape; the same colour in another corner shares the colours."""
    there = [picture for picture in dataset.images if picture]
    values, readable = DescriptorEncoder().encode(there)
    assert readable.all()
    assert values.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-5)
    again, _ = DescriptorEncoder().encode(there[:1])
    np.testing.assert_array_equal(again[0], values[0])  # the batch does not matter
    likeness = values @ values.T
    assert likeness[0, 1] < 0.999  # another place
    assert likeness[0, 4] < 0.999  # another colour
    assert likeness[0, 4] > likeness[0, 6]  # same place and another colour > another place and another colour
    assert likeness[0, 1] > likeness[0, 6]  # same colour and another place > neither


def test_flat_pictures_are_no_zero_vectors():
    values = describe(np.stack([np.full((96, 96, 3), shade, dtype=np.uint8) for shade in (0, 128, 255)]))
    assert np.isfinite(values).all()
    assert (np.linalg.norm(values, axis=1) > 0.5).all()
    assert len(np.unique(values.round(3), axis=0)) == 3


def test_unreadable_pictures_are_masked(dataset):
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(stream, "JPEG")
    values, readable = DescriptorEncoder().encode(
        [dataset.images[0], b"no picture", stream.getvalue()[:300], b"GIF89a"]
    )
    assert readable.tolist() == [True, False, False, False]
    assert not values[1:].any()
