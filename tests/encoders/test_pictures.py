"""Pictures of every kind, read in this process and in workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import encoded
from PIL import Image

from bbqrec_cli.encoders import workers
from bbqrec_cli.encoders.base import KINDS, Prepared
from bbqrec_cli.encoders.descriptor import DescriptorEncoder
from bbqrec_cli.encoders.image import read_picture
from bbqrec_cli.encoders.workers import prepared_ahead, sensible_workers
from bbqrec_cli.errors import LackingError

SIZE = (24, 16)


def noise(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


def palette() -> bytes:
    """Half red, half of the transparent colour."""
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.paste(0, (0, 0, 12, 16))
    return encoded(image, transparency=0)


def ramp_of_16_bits() -> bytes:
    """From black to white."""
    values = np.tile(np.linspace(0, 65535, 24).astype(np.uint16), (16, 1))
    return encoded(Image.fromarray(values))


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "green", "blue")]
    return encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], **{"lossless": True} if kind == "WEBP" else {}
    )


WHOLE = {
    "plain": (encoded(noise()), ""),
    "GIF of three frames": (animation("GIF"), "of several frames (the first counts)"),
    "WebP of three frames": (animation("WEBP"), "of several frames (the first counts)"),
    "CMYK JPEG": (encoded(noise("CMYK"), "JPEG"), "CMYK"),
    "16 bits": (ramp_of_16_bits(), "16-bit"),
    "transparent palette": (palette(), "transparent"),
    "RGBA": (encoded(noise("RGBA")), "transparent"),
    "grey with alpha": (encoded(noise("LA")), "transparent"),
    "grey": (encoded(noise("L"), "JPEG"), "greyscale"),
    "black and white": (encoded(noise("1")), "greyscale"),
}
LARGE = noise(size=(96, 96))
BROKEN = {
    "no picture": (b"no picture", "corrupt"),
    "GIF's first bytes": (b"GIF89a", "corrupt"),
    "half a JPEG": (encoded(LARGE, "JPEG")[:2000], "truncated"),
    "half a PNG": (encoded(LARGE)[:2000], "truncated"),
}
EVERY = WHOLE | BROKEN


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("size", [0, 32])
def test_every_kind(name, size):
    picture, kind = EVERY[name]
    image, found = read_picture(picture, size=size)
    assert found == kind
    if name in BROKEN:
        assert image is None
    else:
        assert image.mode == "RGB"
        assert image.size == ((size, size) if size else SIZE)


def test_what_is_in_them():
    """Pixels that are known: the first frame, the brightness of 16 bits, white for what is transparent, CMYK's red."""
    for kind in ("GIF", "WEBP"):
        assert read_picture(animation(kind))[0].getpixel((3, 3)) == (255, 0, 0)
    ramp = np.asarray(read_picture(ramp_of_16_bits())[0])[0]
    np.testing.assert_array_equal(ramp, np.linspace(0, 255, 24).round().astype(np.uint8)[:, None].repeat(3, axis=1))
    both = np.asarray(read_picture(palette())[0])
    assert (both[:, :12] == 255).all()
    assert (both[:, 12:] == (255, 0, 0)).all()
    red = encoded(Image.new("CMYK", SIZE, (0, 255, 255, 0)), "JPEG", quality=95)
    np.testing.assert_allclose(read_picture(red)[0].getpixel((3, 3)), (255, 0, 0), atol=3)


@pytest.mark.parametrize("frames", [1, 2])
def test_floating_point_keeps_its_brightness(frames):
    values = np.tile(np.linspace(0, 1, 24, dtype=np.float32), (16, 1))
    page = Image.fromarray(values)
    more = {"save_all": True, "append_images": [page]} if frames > 1 else {}
    image, kind = read_picture(encoded(page, "TIFF", **more))
    assert kind == ("16-bit" if frames == 1 else "of several frames (the first counts)")
    assert np.asarray(image)[0, :, 0].tolist() == (values[0] * 255).round().astype(int).tolist()


def test_a_bomb_is_an_error_of_that_picture_alone(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 16)
    bomb, worse = encoded(noise(size=(24, 20))), encoded(noise(size=(100, 100)))
    prepared = DescriptorEncoder.prepare([EVERY["plain"][0], bomb, worse])
    assert [KINDS[kind] for kind in prepared.kinds] == ["", "too large", "too large"]
    assert prepared.readable.tolist() == [True, False, False]


def test_an_animation_that_is_cut_anywhere():
    """Its first frame, if that is whole, else nothing; Pillow raises IndexError where the second one begins."""
    frames = [noise(), noise().rotate(180)]
    stream = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    whole = read_picture(stream)[0]
    found = [read_picture(stream[:length])[0] for length in range(len(stream))]
    assert all(image is None or image.tobytes() == whole.tobytes() for image in found)
    assert found[0] is None
    assert found[-1] is not None


@pytest.mark.parametrize("error", [RuntimeError, IndexError, KeyError, AssertionError])
def test_whatever_a_decoder_raises_the_picture_cannot_be_read(error, monkeypatch):
    def broken(_):
        raise error

    monkeypatch.setattr(Image.Image, "load", broken)
    assert read_picture(EVERY["plain"][0]) == (None, "corrupt")
    monkeypatch.undo()
    monkeypatch.setattr(Image.Image, "getexif", broken)
    assert read_picture(EVERY["plain"][0])[0] is not None


def test_too_little_memory_is_no_damage_of_a_picture(monkeypatch):
    def greedy(*_):
        raise MemoryError

    for name in ("load", "getexif"):
        monkeypatch.setattr(Image.Image, name, greedy)
        with pytest.raises(MemoryError):
            read_picture(EVERY["plain"][0])
        monkeypatch.undo()


@pytest.fixture
def batches() -> list[list[bytes]]:
    pictures = [picture for picture, _ in EVERY.values()]
    return [pictures[:5], pictures[5:6], pictures[6:]]


def test_workers_give_the_same_in_order(batches):
    with prepared_ahead(DescriptorEncoder.prepare, batches, 0) as ready:
        expected = list(ready)
    with prepared_ahead(DescriptorEncoder.prepare, batches * 3, 2) as ready:
        found = list(ready)
    assert len(found) == 9
    for one, other in zip(found, expected * 3, strict=True):
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.kinds, other.kinds)


def die(batch: list[bytes]) -> Prepared:
    os._exit(9)


@pytest.mark.slow
def test_a_worker_that_dies_is_an_error(batches):
    with pytest.raises(LackingError, match="worker process") as caught, prepared_ahead(die, batches, 1) as ready:
        list(ready)
    assert "--workers 0" in caught.value.hint


def test_batches_are_not_all_sent_at_once(batches):
    sent = []

    def counted():
        for number in range(50):
            sent.append(number)
            yield batches[1]

    with prepared_ahead(DescriptorEncoder.prepare, counted(), 1) as ready:
        next(ready)
        assert len(sent) <= workers.AHEAD + 1


def test_how_many_workers(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(32)), raising=False)
    assert sensible_workers(100, 0) == 0
    assert sensible_workers(100_000, 0) == 8
    assert sensible_workers(100_000, 3) == 3
    assert sensible_workers(100_000, 1) == 0  # one thread: the main process does it


ORPHANS = """
import os, signal, sys
from bbqrec_cli.encoders.workers import prepared_ahead
from bbqrec_cli.encoders.descriptor import DescriptorEncoder
import multiprocessing
with prepared_ahead(DescriptorEncoder.prepare, [[b"x"]] * 3, 1) as ready:
    next(ready)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks processes up in /proc")
def test_workers_end_with_a_main_process_that_is_killed():
    died = subprocess.run([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True, check=False)
    assert died.returncode == -signal.SIGKILL
    (pid,) = died.stdout.split()
    until = time.monotonic() + 20
    while running(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not running(pid)


def running(pid: str) -> bool:
    """Whether a process lives; one that nobody has waited for yet has ended."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


INTERRUPTED = """
import signal, time
from bbqrec_cli.encoders.workers import prepared_ahead
from bbqrec_cli.encoders.descriptor import DescriptorEncoder
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with prepared_ahead(DescriptorEncoder.prepare, [[b"x"]] * 30, 2) as ready:
        for _ in ready:
            print("begun", flush=True)
            time.sleep(0.5)
except KeyboardInterrupt:
    print("ended")
"""


def test_only_the_main_process_hears_of_ctrl_c():
    """It reaches every process of the terminal."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED], start_new_session=True, **pipes) as process:
        assert process.stdout.readline() == "begun\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert out.splitlines()[-1] == "ended"
    assert err == ""
    assert process.returncode == 0
