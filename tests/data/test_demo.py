"""The planted structure is where the module says: theme in texts only, look in pictures, circle in sequences."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bbqrec_cli.data.sources import demo
from bbqrec_cli.data.sources.demo import PRODUCT_KINDS, THEMES, Demo
from bbqrec_cli.data.sources.demo_pictures import LOOKS, draw
from bbqrec_cli.data.sources.options.demo import DemoOptions
from bbqrec_cli.errors import UsageError
from bbqrec_cli.progress import SILENT

DRAWN = 300
"""Items whose pictures are drawn here."""
COLOURS = {
    "red", "orange", "yellow", "green", "blue", "purple", "violet", "pink", "brown", "black", "white", "grey", "gray",
    "navy", "teal", "cream", "sage", "mustard", "plain", "striped", "stripes", "dotted", "dots", "checked", "checks",
    "zigzag", "bands", "diamonds", "flowers", "floral",
}  # fmt: skip


@pytest.fixture(scope="module")
def shop():
    """The whole shop: interactions; labels of its items (I,); texts and pictures of its first items."""
    source = Demo([], DemoOptions(), seed=0, progress=SILENT)
    interactions = source.interactions()
    planted = source._planted
    rows = np.array([int(name.removeprefix("item-")) - 1 for name in interactions.item_ids])
    items = source.items(interactions.item_ids[:DRAWN])
    labels = {name: getattr(planted, name)[rows] for name in ("kind", "theme", "look", "circle")}
    texts = [" ".join(values) for values in zip(*items.fields.values(), strict=True)]
    return SimpleNamespace(interactions=interactions, labels=labels, texts=texts, images=items.images, items=items)


def nearest_share(vectors: np.ndarray, labels: dict[str, np.ndarray]) -> dict[str, float]:
    """label -> how often an item and the one that is most like it have it in common. vectors (n, d), of unit length."""
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = likeness.argmax(axis=1)
    return {
        name: float((label[: len(vectors)][nearest] == label[: len(vectors)]).mean()) for name, label in labels.items()
    }


def bags_of_words(texts: list[str]) -> np.ndarray:
    """(n, words) of unit length, rare words weighing more."""
    words = [set(re.findall(r"[a-z]+", text.lower())) for text in texts]
    column = {word: number for number, word in enumerate(sorted(set.union(*words)))}
    bags = np.zeros((len(texts), len(column)))
    for row, these in enumerate(words):
        bags[row, [column[word] for word in these]] = 1
    bags *= np.log(len(bags) / bags.sum(axis=0))
    return bags / np.linalg.norm(bags, axis=1, keepdims=True)


def pairs(shop) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items (P,) and the items (P,) that were taken next, and the latter shuffled: what chance would give."""
    users, items = shop.interactions.users, shop.interactions.items
    inside = users[:-1] == users[1:]
    after = items[1:][inside]
    return items[:-1][inside], after, np.random.default_rng(0).permutation(after)


def test_its_size(shop):
    lengths = np.bincount(shop.interactions.users)
    assert 1000 <= len(shop.interactions.item_ids) <= 1500
    assert len(lengths) == 2500
    assert 5 <= lengths.min() < lengths.max() <= 25
    for user in range(0, 2500, 50):
        taken = shop.interactions.items[shop.interactions.users == user]
        assert len(set(taken.tolist())) == len(taken)  # nobody takes an item twice


def test_every_text_has_words_of_its_theme_and_of_no_other(shop):
    for text, theme in zip(shop.texts, shop.labels["theme"], strict=False):
        found = {
            name: sum(bool(re.search(rf"\b{word}\b", text, re.IGNORECASE)) for word in words)
            for name, words in THEMES.items()
        }
        assert found.pop(list(THEMES)[theme]) == 3
        assert not any(found.values())


def test_no_text_names_a_colour_or_a_pattern(shop):
    for text in shop.texts:
        assert not COLOURS & set(re.findall(r"[a-z]+", text.lower()))


def test_theme_is_in_texts_alone_and_look_in_pictures_alone(shop):
    """Chance is 1/12 for both, 1/80 for circles; the kind is in both."""
    from bbqrec_cli.encoders.descriptor import DescriptorEncoder

    assert len(THEMES) == len(LOOKS) == 12
    text = nearest_share(bags_of_words(shop.texts), shop.labels)
    picture = nearest_share(DescriptorEncoder().encode(shop.images)[0], shop.labels)
    assert text["theme"] > 0.5
    assert text["look"] < 0.15
    assert picture["look"] > 0.5
    assert picture["theme"] < 0.15
    assert min(text["kind"], picture["kind"]) > 0.7
    assert max(text["circle"], picture["circle"]) < 0.04


def test_users_care_for_theme_look_and_circle_and_not_for_kinds(shop):
    before, after, shuffled = pairs(shop)
    share = {name: float((of[before] == of[after]).mean()) for name, of in shop.labels.items()}
    chance = {name: float((of[before] == of[shuffled]).mean()) for name, of in shop.labels.items()}
    assert share["theme"] > 3 * chance["theme"]
    assert share["look"] > 3 * chance["look"]
    assert share["circle"] > 8 * chance["circle"]
    assert share["kind"] == pytest.approx(chance["kind"], abs=0.01)


def test_no_signal_stands_in_for_another(shop):
    """Where two of them are of no help, the third still is; and the labels do not go together in the items."""
    before, after, shuffled = pairs(shop)
    for name, lift in (("theme", 2.5), ("look", 2.5), ("circle", 8)):
        others = [shop.labels[other] for other in ("theme", "look", "circle") if other != name]
        label = shop.labels[name]

        def share(following, label=label, others=others):
            differ = np.logical_and.reduce([other[before] != other[following] for other in others])
            return (label[before] == label[following])[differ].mean()

        assert share(after) > lift * share(shuffled), name
    theme, look = shop.labels["theme"], shop.labels["look"]
    together = np.zeros((12, 12))
    np.add.at(together, (theme, look), 1)
    expected = np.outer(together.sum(axis=1), together.sum(axis=0)) / together.sum()
    assert ((together - expected) ** 2 / expected).sum() < 173  # chi-square, 121 degrees of freedom, p = .001


def test_the_next_circle_follows(shop):
    before, after, shuffled = pairs(shop)
    circle = shop.labels["circle"]
    step, by_chance = ((circle[following] - circle[before]) % (circle.max() + 1) for following in (after, shuffled))
    assert (step == 1).mean() > 4 * (by_chance == 1).mean()
    assert (step == 2).mean() < 1.5 * (by_chance == 2).mean()  # and not the one after the next


def test_some_items_are_popular_and_many_are_not(shop):
    counts = np.sort(np.bincount(shop.interactions.items))
    assert counts[-120:].sum() > 0.25 * counts.sum()
    assert (counts < 15).mean() > 0.25


def same(one: Demo, other: Demo) -> bool:
    first, second = one.interactions(), other.interactions()
    few = first.item_ids[:10]
    return (
        np.array_equal(first.items, second.items)
        and first.item_ids == second.item_ids
        and one.items(few).fields == other.items(few).fields
        and one.items(few).images == other.items(few).images
    )


def test_the_seed_is_all_that_matters():
    one, again, other = (Demo([], DemoOptions(size="small"), seed=seed, progress=SILENT) for seed in (0, 0, 1))
    assert same(one, again)
    few = one.interactions().item_ids[:10]
    assert not np.array_equal(one.interactions().items, other.interactions().items)
    assert one.items(few).fields["title"] != other.items(few).fields["title"]
    assert not set(one.items(few).images) & set(other.items(few).images)


def test_an_items_picture_does_not_depend_on_which_others_are_asked_for(shop):
    source = Demo([], DemoOptions(), seed=0, progress=SILENT)
    name = shop.interactions.item_ids[7]
    assert source.items([name]).images == [shop.images[7]]


def test_pictures_are_96_by_96_and_differ(shop):
    assert len(set(shop.images)) == DRAWN
    for picture in shop.images[:20]:
        with Image.open(io.BytesIO(picture)) as image:
            assert (image.size, image.mode, image.format) == ((96, 96), "RGB", "PNG")


@pytest.mark.parametrize("kind", PRODUCT_KINDS)
def test_both_cuts_and_all_materials_of_a_kind_show(kind):
    """All else is equal, so that what the title names is what differs."""
    materials = PRODUCT_KINDS[kind].materials or ("",)
    chosen = [(cut, material) for cut in (0, 1) for material in materials]
    assert len({draw(kind, *each, LOOKS[0], np.random.default_rng(0)) for each in chosen}) == len(chosen)


def test_items_that_nobody_takes_are_left_out_and_said(monkeypatch, listener):
    monkeypatch.setitem(demo.SIZES, "small", (200, 5))
    interactions = Demo([], DemoOptions(size="small"), seed=0, progress=listener).interactions()
    assert len(interactions.item_ids) < 200
    assert listener.logged == [f"{200 - len(interactions.item_ids)} items are left out: they have no interactions"]
    assert set(interactions.items.tolist()) == set(range(len(interactions.item_ids)))


def test_it_takes_no_path(tmp_path):
    with pytest.raises(UsageError, match="takes no path"):
        Demo([tmp_path], DemoOptions(), seed=0, progress=SILENT)
