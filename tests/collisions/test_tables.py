"""Every figure of an analysis is in its cell."""

from __future__ import annotations

from types import SimpleNamespace as Made

import pytest

from bbqrec_cli.collisions import tables
from bbqrec_cli.pages.tables import Shown

FIGURES = ("depth", "distinct", "colliding_items", "largest", "entropy", "gini", "mean_children", "max_children")


@pytest.fixture
def analysis() -> Made:
    """200 items, two levels of two signals, one of which 150 of them have."""
    book = Made(size=64, in_use=40, perplexity=16.0, entropy=4.0, gini=0.31)
    near = Made(
        near=0.05, scale=3.0, searched=80, other_id=21, same_id=13, neighbours=0.5, closest=(),
        differ={"id": (10, 30), "text": (4, 36)},
    )  # fmt: skip
    return Made(
        input="ids.h5", method="bbqrec", items=200, distinct=170, colliding_items=50, codebook_size=64,
        signals=("id", "text"),
        depths=(
            Made(**dict(zip(FIGURES, (1, 90, 160, 12, 5.5, 0.41, 90.0, 91), strict=True))),
            Made(**dict(zip(FIGURES, (2, 170, 50, 7, 6.5, 0.21, 1.9, 8), strict=True))),
        ),
        codebooks=(
            Made(signal="id", level=1, items=200, **vars(book)),
            Made(signal="text", level=2, items=150, **vars(book) | {"perplexity": 32.0}),
        ),
        causes=Made(
            without_signal={"id": 120, "text": 110}, without_level={1: 140, 2: 160},
            only_signal={"id": 111, "text": 90}, only_items={"id": 200, "text": 150},
            partings=(Made(level=1, signal="id", sharing=100, pairs=400, parted=120, resolved=33, needed=22),),
        ),
        duplicates=Made(
            colliding_items=50, unknown=5, duplicates=20, same_title=8, same_features=16, victims=25
        ),
        alike={"text": (0.1, 0.4, 0.8)},
        neighbours=(
            Made(feature="text", vectors="all", asked=150, k=10, recall=0.4, chance=0.06),
            Made(feature="text", vectors="text", asked=140, k=10, recall=0.5, chance=0.07),
        ),
        near=near, near_items=(), groups=(),
    )  # fmt: skip


def cells(table: object) -> list[tuple[str, ...]]:
    return [tuple(" ".join(each.lines) if isinstance(each, Shown) else str(each) for each in row) for row in table.rows]


def test_every_cell(analysis):
    made = {table.title: cells(table) for table in tables.of_file(analysis)}
    assert made["prefixes"] == [
        ("1", "90", "160", "80.0%", "12", "5.50", "0.41", "90.0", "91"),
        ("2", "170", "50", "25.0%", "7", "6.50", "0.21", "1.9", "8"),
    ]
    assert made["codebooks"] == [
        ("id", "1", "200", "40 of 64", "16.0", "4.00", "0.31"),
        ("text", "2", "150", "40 of 64", "32.0", "4.00", "0.31"),
    ]
    assert made["IDs of other parts"] == [
        ("all", "200", "50", "25.0%"),
        ("without id", "200", "120", "60.0%"),
        ("without text", "200", "110", "55.0%"),
        ("without level 1", "200", "140", "70.0%"),
        ("without level 2", "200", "160", "80.0%"),
        ("id alone", "200", "111", "55.5%"),
        ("text alone", "150", "90", "60.0%"),
    ]
    assert made["what tells items apart"] == [("1", "id", "100", "400", "30.0%", "33", "22")]
    assert made["duplicates and victims"] == [
        ("duplicates", "20", "40.0%"),
        ("… by their title", "8", "16.0%"),
        ("… by their features", "16", "32.0%"),
        ("victims", "25", "50.0%"),
        ("not known", "5", "10.0%"),
    ]
    assert made["likeness"] == [("text", "0.100", "0.400", "0.800")]
    assert made["kept neighbours"] == [
        ("text", "all", "150", "10", "0.4000", "0.0600"),
        ("text", "text", "140", "10", "0.5000", "0.0700"),
    ]
    assert made["near-collisions"] == [
        ("items searched", "80"),
        ("… with a near item of another ID", "21"),
        ("… with a near item of the same ID", "13"),
        ("near items of another ID, on average", "0.50"),
        ("bound", "0.05 × 3"),
    ]
    assert made["what tells near items apart"] == [("id", "25.0%", "75.0%"), ("text", "10.0%", "90.0%")]


def test_files_side_by_side(analysis):
    assert cells(tables.comparison_table([analysis])) == [
        ("ids.h5 bbqrec", "2×2×64", "200", "170", "50 25.0%", "25–50%", "0.400"),
    ]
