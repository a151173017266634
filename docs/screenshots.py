"""Makes the pictures of docs/gallery.md: python docs/screenshots.py FOLDER

FOLDER is where examples/pages.sh left its pages. Needs Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURES = Path(__file__).with_name("gallery")
SHOTS = (
    ("collisions", 1280, "light"),
    ("collisions", 1280, "dark"),
    ("collisions", 390, "light"),
    ("benchmark", 1280, "light"),
    ("benchmark", 390, "light"),
    ("benchmark", 390, "dark"),
)
HEIGHT = {390: 844, 1280: 900}
FRAME = '<body style="margin:0"><iframe src="{page}" style="border:0;width:{width}px;height:{height}px"></iframe>'
"""A window of Chromium is at least 500 px wide, a frame as narrow as it should be."""


def main() -> None:
    """Take every picture."""
    PICTURES.mkdir(exist_ok=True)
    for name, width, scheme in SHOTS:
        page = Path(sys.argv[1], f"{name}.html").resolve(strict=True)
        shoot(page, PICTURES / f"{name}-{width}-{scheme}.webp", width=width, dark=scheme == "dark")


def shoot(page: Path, picture: Path, *, width: int, dark: bool) -> None:
    """The top of a page, as a screen of that width shows it, as WebP."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    height = HEIGHT[width]
    with tempfile.TemporaryDirectory() as folder:
        frame, png = Path(folder, "frame.html"), Path(folder, "page.png")
        frame.write_text(FRAME.format(page=page.as_uri(), width=width, height=height), encoding="utf-8")
        subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
             "--allow-file-access-from-files", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
             "--virtual-time-budget=5000", f"--user-data-dir={folder}/profile",
             f"--window-size={max(width, 500)},{height + 200}", f"--screenshot={png}", frame.as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        with Image.open(png) as image:
            image.crop((0, 0, width, height)).save(picture, quality=80, method=6)


if __name__ == "__main__":
    main()
