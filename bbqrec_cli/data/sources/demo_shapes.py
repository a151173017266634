"""The products of the demo shop: each draws itself with a `Pen` on a page of 100 × 100 whose floor is at 86.

variant 0 or 1 is the cut that the title names (KINDS).
"""

from __future__ import annotations

from collections.abc import Callable

from bbqrec_cli.data.sources.demo_pen import Pen


def mug(p: Pen, variant: int) -> None:
    left, right, top = ((30, 64, 22), (22, 70, 42))[variant]
    p.layer("behind")
    p.arc(-100, 100, right - 14, top + 12, right + 16, 76, width=6, fill="trim")
    p.layer("cloth")
    p.box(left, top, right, 86, radius=7)
    p.layer("front")
    p.ellipse(left, top - 5, right, top + 6, fill="dark")


def teapot(p: Pen, variant: int) -> None:
    p.layer("behind")
    p.arc(-130, 130, 62, 46, 92, 76, width=5, fill="trim")
    p.ellipse(45, 30, 55, 39)
    p.layer("cloth")
    p.blob(30, 70, 18, 52, 6, 44, 12, 40, 26, 46, 34, 58)
    if variant:
        p.blob(28, 38, 72, 38, 78, 92, 22, 92, rounds=2)
    else:
        p.ellipse(22, 40, 78, 86)
    p.slice(180, 360, 34, 36, 66, 54)
    p.layer("front")
    p.arc(200, 340, 26, 44, 74, 60, width=1.5)


def bowl(p: Pen, variant: int) -> None:
    top = 50 if variant else 56
    p.layer("behind")
    p.box(40, 80, 60, 87, radius=2)
    p.layer("cloth")
    p.slice(0, 180, 14, 2 * top - 84, 86, 84)
    p.layer("front")
    p.ellipse(14, top - 8, 86, top + 6, fill="#fbf8f2")
    p.ellipse(20, top - 5, 80, top + 4, fill="dark")


def bottle(p: Pen, variant: int) -> None:
    half = 11 if variant else 15
    p.layer("behind")
    p.box(44, 12, 56, 28, radius=2)
    p.layer("cloth")
    p.blob(43, 24, 57, 24, 57, 36, 50 + half, 44, 50 + half, 92, 50 - half, 92, 50 - half, 44, 43, 36, rounds=2)
    p.layer("front")
    p.box(42, 11, 58, 20, radius=2)


def vase(p: Pen, variant: int) -> None:
    p.layer("cloth")
    if variant:
        p.blob(40, 18, 60, 18, 54, 40, 84, 62, 62, 92, 38, 92, 16, 62, 46, 40)
    else:
        p.blob(36, 14, 64, 14, 58, 36, 66, 60, 60, 92, 40, 92, 34, 60, 42, 36, rounds=2)
    p.layer("front")
    p.ellipse(39, 15, 61, 25)
    p.ellipse(42, 17, 58, 23, fill="dark")


def planter(p: Pen, variant: int) -> None:
    p.layer("behind")
    for x, y in ((22, 30), (36, 12), (64, 12), (78, 30), (50, 6)) if not variant else ((30, 22), (50, 4), (70, 22)):
        p.blob(46, 56, (x + 40) / 2 - 6, (y + 56) / 2, x, y, (x + 60) / 2 + 6, (y + 56) / 2, 54, 56, fill="#6f8f63")
    p.layer("cloth")
    p.polygon(26, 52, 74, 52, 67, 80, 33, 80)
    p.box(23, 46, 77, 56, radius=2)
    p.layer("front")
    p.box(29, 78, 71, 83, radius=1.5)
    for x in (33, 62):
        p.box(x, 82, x + 5, 88, radius=1)


def lamp(p: Pen, variant: int) -> None:
    p.layer("behind")
    p.box(47.5, 44, 52.5, 82, radius=1)
    p.ellipse(32, 78, 68, 88)
    p.layer("cloth")
    if variant:
        p.slice(180, 360, 18, 14, 82, 78)
    else:
        p.polygon(38, 12, 62, 12, 80, 48, 20, 48)
    p.layer("front")
    p.line(*((18, 46, 82, 46) if variant else (20, 48, 80, 48)), width=1.5)


def cushion(p: Pen, variant: int) -> None:
    p.layer("cloth")
    if variant:
        p.ellipse(18, 20, 82, 84)
        p.layer("front")
        p.arc(0, 360, 21, 23, 79, 81, width=2.4, fill="trim")
        p.ellipse(46.5, 48.5, 53.5, 55.5)
        return
    p.blob(8, 14, 50, 24, 92, 14, 84, 52, 92, 92, 50, 82, 8, 92, 16, 52)
    p.layer("front")
    p.line(20, 22, 50, 28, 80, 22, 76, 52, 80, 82, 50, 76, 20, 82, 24, 52, 20, 22, width=2.4, fill="trim")


def clock(p: Pen, variant: int) -> None:
    p.layer("cloth")
    if variant:
        p.box(18, 18, 82, 82, radius=10)
    else:
        p.ellipse(16, 16, 84, 84)
    p.layer("front")
    p.ellipse(29, 29, 71, 71, fill="#fdfbf6")
    for x, y in ((50, 33), (67, 50), (50, 67), (33, 50)):
        p.ellipse(x - 1.6, y - 1.6, x + 1.6, y + 1.6)
    p.line(50, 50, 50, 37, width=2.2)
    p.line(50, 50, 60, 55, width=2.2)


def chair(p: Pen, variant: int) -> None:
    p.layer("behind")
    for x in (26, 69):
        p.polygon(x, 66, x + 6, 66, x + 4, 88, x + 1, 88)
    p.layer("cloth")
    if variant:
        p.box(24, 18, 76, 70, radius=12)
        p.box(14, 42, 30, 76, radius=6)
        p.box(70, 42, 86, 76, radius=6)
        p.box(28, 56, 72, 76, radius=4)
    else:
        p.box(30, 10, 70, 50, radius=8)
        p.box(23, 58, 77, 68, radius=3)
        p.layer("behind")
        p.box(33, 46, 37, 62, radius=1)
        p.box(63, 46, 67, 62, radius=1)


def rug(p: Pen, variant: int) -> None:
    p.layer("cloth")
    if variant:
        p.ellipse(4, 46, 96, 88)
        p.layer("front")
        p.arc(0, 360, 8, 48.5, 92, 85.5, width=2.4, fill="trim")
        return
    p.layer("behind")
    for step in range(13):
        p.line(4 + 7.6 * step, 84, 3 + 7.7 * step, 92, width=1.2, fill="trim")
    p.layer("cloth")
    p.polygon(20, 46, 80, 46, 97, 86, 3, 86)


def shirt(p: Pen, variant: int) -> None:
    p.layer("cloth")
    if variant:
        p.polygon(24, 24, 34, 20, 30, 50, 20, 82, 8, 78, 15, 46)
        p.polygon(76, 24, 66, 20, 70, 50, 80, 82, 92, 78, 85, 46)
    else:
        p.polygon(26, 22, 36, 18, 34, 46, 24, 52, 8, 40)
        p.polygon(74, 22, 64, 18, 66, 46, 76, 52, 92, 40)
    p.polygon(26, 22, 40, 16, 60, 16, 74, 22, 71, 50, 72, 86, 28, 86, 29, 50)
    p.layer("front")
    p.slice(0, 180, 39, 5, 61, 27, fill="dark")


def tote(p: Pen, variant: int) -> None:
    p.layer("behind")
    p.arc(180, 360, 34, 8 if variant else 20, 66, 76, width=4, fill="trim")
    p.layer("cloth")
    if variant:
        p.polygon(24, 42, 76, 42, 78, 86, 22, 86)
    else:
        p.blob(14, 44, 86, 44, 96, 92, 4, 92, rounds=2)
    p.layer("front")
    p.line(*((24, 48, 76, 48) if variant else (15, 52, 85, 52)), width=1.4)


def backpack(p: Pen, variant: int) -> None:
    p.layer("behind")
    p.arc(180, 360, 42, 8, 58, 28, width=3.5, fill="trim")
    p.box(16, 52, 26, 82, radius=4)
    p.box(74, 52, 84, 82, radius=4)
    p.layer("cloth")
    p.box(22, 16, 78, 86, radius=16 if variant else 7)
    p.box(30, 56, 70, 80, radius=5)
    p.layer("front")
    p.line(30, 62, 70, 62, width=1.6)
    if variant:
        p.arc(180, 360, 30, 28, 70, 58, width=1.6)
    else:
        for x in (36, 60):
            p.box(x, 30, x + 4, 52, radius=1)


def umbrella(p: Pen, variant: int) -> None:
    p.layer("cloth")
    if variant:
        p.polygon(50, 10, 60, 30, 56, 66, 50, 70, 44, 66, 40, 30)
        p.layer("front")
        p.line(50, 70, 50, 82, width=2.4, fill="trim")
        p.line(43, 50, 57, 46, width=1.6)
    else:
        p.slice(180, 360, 10, 12, 90, 84)
        p.layer("front")
        p.line(50, 48, 50, 82, width=2.4, fill="trim")
        for x in (32, 68):
            p.line(50, 12, (x + 50) / 2, 22, x, 48, width=1.2)
    p.layer("front")
    p.arc(0, 180, 50, 76, 60, 88, width=2.4, fill="trim")
    p.line(50, 6, 50, 12, width=2.4, fill="trim")


def notebook(p: Pen, variant: int) -> None:
    p.layer("behind")
    p.box(28, 16, 80, 86, radius=2, fill="#f7f4ec")
    p.layer("cloth")
    p.box(24, 13, 76, 84, radius=3)
    p.layer("front")
    if variant:
        for y in range(18, 82, 6):
            p.arc(90, 330, 19, y, 29, y + 4, width=1.3, fill="trim")
    else:
        p.box(24, 13, 32, 84, radius=2)
    p.box(40, 26, 68, 40, radius=1, fill="#fbf8f0")
    p.line(44, 31, 64, 31, width=1)
    p.line(44, 35, 58, 35, width=1)


def boot(p: Pen, variant: int) -> None:
    top = 38 if variant else 10
    p.layer("cloth")
    p.blob(32, top, 60, top, 58, 56, 76, 60, 90, 68, 88, 84, 30, 84, 32, 64, rounds=2)
    p.layer("front")
    p.box(29, 80, 89, 87, radius=3)
    p.line(33, top + 8, 59, top + 8, width=1.6)


def hat(p: Pen, variant: int) -> None:
    p.layer("cloth")
    if variant:
        p.slice(180, 360, 24, 26, 76, 116)
        p.box(20, 62, 80, 80, radius=6)
        p.layer("front")
        p.ellipse(43, 14, 57, 28, fill="#f4efe4")
        return
    p.slice(180, 360, 18, 32, 72, 102)
    p.layer("front")
    p.blob(60, 62, 96, 66, 98, 76, 62, 72, 20, 72, 20, 64, rounds=2, fill="dark")
    p.line(45, 32, 45, 64, width=1.2)


def scarf(p: Pen, variant: int) -> None:
    p.layer("behind")
    for step in range(5):
        p.line(31 + 4 * step, 80, 30 + 4 * step, 88, width=1.3, fill="trim")
        p.line(53 + 4 * step, 66 + 8 * variant, 54 + 4 * step, 75 + 8 * variant, width=1.3, fill="trim")
    p.layer("cloth")
    p.polygon(52, 34, 70, 34, 72, 68 + 8 * variant, 52, 68 + 8 * variant)
    p.polygon(32, 34, 52, 34, 48, 82, 29, 82)
    p.blob(18, 14, 82, 14, 82, 50, 18, 50)
    p.layer("front")
    p.blob(34, 20, 66, 20, 60, 34, 40, 34, fill="dark")


SHAPES: dict[str, Callable[[Pen, int], None]] = {
    "mug": mug, "teapot": teapot, "bowl": bowl, "bottle": bottle, "vase": vase, "planter": planter, "table lamp": lamp,
    "cushion": cushion, "wall clock": clock, "chair": chair, "rug": rug, "T-shirt": shirt, "bag": tote,
    "backpack": backpack, "umbrella": umbrella, "notebook": notebook, "boots": boot, "hat": hat, "scarf": scarf,
}  # fmt: skip
