"""A synthetic shop: deterministic, offline, made in seconds. I items, U users.

What users prefer is planted in three places, so that each signal contributes:

- a *theme* (the sea, chess, …) that only the text shows: title and description share words of one theme, and the
  picture of a sea mug is drawn like that of a chess mug;
- a *look* (colours and pattern) that only the picture shows: no text names a colour or a pattern;
- a *circle* that only co-occurrence shows: after an item of a circle, users often interact next with one of the same or
  the following circle.

The *kind* (mug, table lamp, …), its cut, its material and the maker are noise: text and picture show them, and no user
prefers any. An item's appeal makes some items popular and leaves many with few interactions, where only text and
pictures help.

A user prefers two themes and two looks. The weight of an item as the next one is its appeal, times LIKED for each of
the user's themes and looks that it has, times AGAIN if the last item has the same theme (look), times FOLLOWS if it is
of the circle that comes next. No user interacts with an item twice. Theme, look and circle are not stored in the
dataset file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bbqrec_cli.data.sources.base import Interactions, Items
from bbqrec_cli.data.sources.options.demo import DemoOptions
from bbqrec_cli.data.sources.paths import check_no_path
from bbqrec_cli.progress import Progress
from bbqrec_cli.records import LIST_SEPARATOR
from bbqrec_cli.seeds import numpy_generator

SIZES = {"full": (1200, 2500), "small": (200, 300)}
"""Items and users."""
CIRCLE = 15
"""Items of a circle."""
APPEAL, LIKED, AGAIN, FOLLOWS, STAYS = 0.7, 7.0, 3.0, 30.0, 0.67
"""Spread of log appeal; the three factors above; how often the next circle is the same one."""
LENGTHS = 5, 25

THEMES = {
    "sea": ("lighthouse", "harbour", "anchor", "sailor", "tide", "seagull"),
    "music": ("jazz", "violin", "melody", "orchestra", "trumpet", "rhythm"),
    "garden": ("orchard", "gardener", "meadow", "greenhouse", "blossom", "hedgerow"),
    "space": ("comet", "orbit", "galaxy", "rocket", "lunar", "astronaut"),
    "mountain": ("alpine", "summit", "glacier", "mountaineer", "ridge", "base camp"),
    "bakery": ("croissant", "baker", "cinnamon bun", "pretzel", "sourdough", "pastry"),
    "circus": ("acrobat", "juggler", "carousel", "trapeze", "clown", "ringmaster"),
    "chess": ("checkmate", "gambit", "chess club", "grandmaster", "pawn", "castling"),
    "railway": ("locomotive", "conductor", "steam train", "railway platform", "signal box", "sleeper car"),
    "desert": ("cactus", "dune", "caravan", "oasis", "camel", "mesa"),
    "detective": ("sleuth", "alibi", "mystery", "fingerprint", "clue", "inspector"),
    "winter": ("snowflake", "sledge", "frost", "skating", "icicle", "snowman"),
}
"""Words that only the text has. They suit any product."""
MAKERS = ("Halden", "Moss & Reed", "Oriel", "Tamarind", "Kvist", "Pell Street", "Northlane", "Ardent", "Lumen", "Fable")
PRAISE = ("Made to last", "A quiet favourite", "From a small workshop", "A gift that stays", "Good for every day")


@dataclass(frozen=True)
class ProductKind:
    """A kind of product: its shelf, its two cuts and its materials, as the title names them."""

    shelf: str
    cuts: tuple[str, str]
    materials: tuple[str, ...]


_HANDLED, _WOOD, _METAL = ("oak", "bamboo", "walnut"), ("oak", "walnut"), ("brass", "steel", "iron")
PRODUCT_KINDS = {
    "mug": ProductKind("Kitchen", ("tall", "wide"), ("oak", "leather", "steel")),
    "teapot": ProductKind("Kitchen", ("round", "straight"), (*_HANDLED, "brass")),
    "bowl": ProductKind("Kitchen", ("shallow", "deep"), _HANDLED),
    "bottle": ProductKind("Kitchen", ("wide", "slim"), ("steel", "bamboo", "oak")),
    "vase": ProductKind("Home", ("slender", "bellied"), ("brass", "iron")),
    "planter": ProductKind("Home", ("five leaves", "three leaves"), _WOOD),
    "table lamp": ProductKind("Home", ("cone shade", "dome shade"), (*_METAL, "walnut")),
    "cushion": ProductKind("Home", ("square", "round"), ("leather", "bamboo")),
    "wall clock": ProductKind("Home", ("round", "square"), ("brass", "walnut", "iron")),
    "chair": ProductKind("Home", ("high back", "armchair"), (*_WOOD, "iron")),
    "rug": ProductKind("Home", ("fringed", "oval"), ("leather", "bamboo")),
    "T-shirt": ProductKind("Clothing", ("short sleeves", "long sleeves"), ()),
    "bag": ProductKind("Clothing", ("weekender", "tote"), ("leather", "bamboo", "brass")),
    "backpack": ProductKind("Clothing", ("buckled", "zipped"), ("leather", "steel")),
    "umbrella": ProductKind("Clothing", ("open frame", "folding"), _HANDLED),
    "notebook": ProductKind("Desk", ("bound", "spiral"), ("leather", "brass", "steel")),
    "boots": ProductKind("Clothing", ("knee-high", "ankle"), ("leather",)),
    "hat": ProductKind("Clothing", ("with a peak", "with a bobble"), ()),
    "scarf": ProductKind("Clothing", ("short", "long"), ()),
}
_PARTS = {
    "mug": "handle", "teapot": "handle", "bowl": "foot", "bottle": "stopper", "vase": "rim", "planter": "stand",
    "table lamp": "stand", "cushion": "piping", "wall clock": "hands", "chair": "legs", "rug": "edging",
    "bag": "handles", "backpack": "straps", "umbrella": "handle", "notebook": "binding", "boots": "sole",
}  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Planted:
    """The items, (I,) each: rows of PRODUCT_KINDS, THEMES and LOOKS, the circle, and the weight of the appeal."""

    kind: np.ndarray
    theme: np.ndarray
    look: np.ndarray
    circle: np.ndarray
    appeal: np.ndarray


def plant(seed: int, count: int) -> Planted:
    """Kind, theme, look, circle and appeal of `count` items."""
    from bbqrec_cli.data.sources.demo_pictures import LOOKS

    rng = numpy_generator(seed, "demo", "items")
    # Rounded, so that machines whose exp differs in the last bit make the same shop.
    return Planted(
        kind=rng.permutation(count) % len(PRODUCT_KINDS),
        theme=rng.permutation(count) % len(THEMES),
        look=rng.permutation(count) % len(LOOKS),
        circle=rng.permutation(count) // CIRCLE,
        appeal=np.round(np.exp(rng.normal(0, APPEAL, count)), 3),
    )


class Demo:
    """The demo shop; `options.size` is a key of SIZES, `seed` changes everything.

    Raises:
        UsageError: a path was given.
    """

    minimum = 0
    own_order = True

    def __init__(self, paths: list[Path], options: DemoOptions, *, seed: int, progress: Progress) -> None:
        check_no_path(paths, "demo")
        self.files: list[Path] = []
        self._seed, self._progress = seed, progress
        self._count, self._users = SIZES[options.size]
        self._planted = plant(seed, self._count)

    def interactions(self) -> Interactions:
        """Simulated interactions; items without any are left out."""
        rng = numpy_generator(self._seed, "demo", "users")
        histories = simulate(self._planted, self._users, rng)
        kept, rows = np.unique(np.concatenate(histories), return_inverse=True)
        lengths = [len(history) for history in histories]
        if len(kept) < self._count:
            self._progress.log(f"{self._count - len(kept)} items are left out: they have no interactions")
        return Interactions(
            user_ids=[f"user-{user + 1:04d}" for user in range(self._users)],
            item_ids=[f"item-{item + 1:04d}" for item in kept],
            users=np.repeat(np.arange(self._users), lengths),
            items=rows,
        )

    def items(self, item_ids: list[str]) -> Items:
        """Texts and pictures."""
        from bbqrec_cli.data.sources.demo_pictures import LOOKS, draw

        kinds, themes, fields, images = list(PRODUCT_KINDS), list(THEMES), [], []
        with self._progress.task("drawing pictures", len(item_ids)) as task:
            for name in item_ids:
                item = int(name.removeprefix("item-")) - 1
                rng = numpy_generator(self._seed, "demo", "item", item)
                kind, cut = kinds[self._planted.kind[item]], int(rng.integers(2))
                materials = PRODUCT_KINDS[kind].materials
                material = materials[rng.integers(len(materials))] if materials else ""
                fields.append(item_fields(rng, kind, cut, material, themes[self._planted.theme[item]]))
                images.append(draw(kind, cut, material, LOOKS[self._planted.look[item]], rng))
                task.advance()
        return Items(fields={name: [each[name] for each in fields] for name in fields[0]}, images=images)


def item_fields(rng: np.random.Generator, kind: str, cut: int, material: str, theme: str) -> dict[str, str]:
    """The item's fields. They contain three words of its theme, one of them in the title."""
    first, second, third = (str(word) for word in rng.permutation(THEMES[theme])[:3])
    about, maker = PRODUCT_KINDS[kind], MAKERS[rng.integers(len(MAKERS))]
    detail = f", {material} {_PARTS[kind]}" if material else ""
    return {
        "title": f"{first.capitalize()} {kind}, {about.cuts[cut]}{detail}",
        "maker": maker,
        "category": f"{about.shelf}{LIST_SEPARATOR}{kind.capitalize()}",
        "description": f"{PRAISE[rng.integers(len(PRAISE))]}, with {second} and {third} in mind.",
    }


def simulate(planted: Planted, users: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Each user's items, oldest first: (length,) int64 rows.

    One step draws one item per user: the argmin of exponentials over weights draws in proportion to the weights.
    """
    count, circles = len(planted.theme), int(planted.circle.max()) + 1
    labels = planted.theme, planted.look
    weights = np.tile(planted.appeal, (users, 1))
    for label in labels:
        kinds_of = int(label.max()) + 1
        liked = np.argsort(rng.random((users, kinds_of)), axis=1)[:, :2]
        weights *= np.where((label == liked[:, :1]) | (label == liked[:, 1:]), LIKED, 1.0)
    same = [np.where(label[:, None] == label[None, :], AGAIN, 1.0) for label in labels]  # (I, I): last item, next item
    again = same[0] * same[1]
    of_circle = np.where(np.arange(circles)[:, None] == planted.circle[None, :], FOLLOWS, 1.0)  # (circles, I)
    lengths = np.clip(LENGTHS[0] + rng.poisson(7, users), *LENGTHS)
    histories = np.full((users, LENGTHS[1]), -1)
    for step in range(int(lengths.max())):
        active = np.flatnonzero(lengths > step)
        now = weights[active]
        if step:
            last = histories[active, step - 1]
            follow = (planted.circle[last] + (rng.random(len(active)) >= STAYS)) % circles
            now = now * again[last] * of_circle[follow]
        with np.errstate(divide="ignore"):
            items = (rng.standard_exponential((len(active), count)) / now).argmin(axis=1)
        histories[active, step] = items
        weights[active, items] = 0.0  # an infinite waiting time: never drawn again
    return [row[:length] for row, length in zip(histories, lengths, strict=True)]
