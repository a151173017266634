"""Steps from good settings."""

from __future__ import annotations

import numpy as np
import pytest

from bbqrec_cli.config import Range
from bbqrec_cli.tuning.near import STRIDE, near

SPACE = {
    "rate": Range(1e-4, 1e-2, log=True), "dropout": Range(0.0, 0.7), "layers": (1, 2, 3, 4),
    "loss": ("ce", "sampled", "gbce"), "rank": (None, 4, 8),
}  # fmt: skip
BEST = {"rate": 1e-3, "dropout": 0.0, "layers": 1, "loss": "ce", "rank": 4}


@pytest.fixture(scope="module")
def steps() -> list[dict]:
    return [near(SPACE, BEST, [], seed) for seed in range(2000)]


def test_a_step_changes_about_a_third(steps):
    changed = [sum(step[name] != BEST[name] for name in SPACE) for step in steps]
    assert min(changed) >= 1
    assert np.mean(changed) == pytest.approx(5 / 3 + (2 / 3) ** 5, abs=0.1)
    assert steps[0] == near(SPACE, BEST, [], 0)
    assert steps[0].keys() == SPACE.keys()


def test_numbers_move_to_a_neighbour_and_words_to_any(steps):
    assert {step["layers"] for step in steps} == {1, 2}
    assert {step["loss"] for step in steps} == {"ce", "sampled", "gbce"}
    assert {step["rank"] for step in steps} == {None, 4, 8}


def test_ranges_are_kept_and_a_step_is_short(steps):
    for name, limits in SPACE.items():
        if isinstance(limits, Range):
            assert all(limits.low <= step[name] <= limits.high for step in steps)
    rates = np.log10([step["rate"] for step in steps if step["rate"] != BEST["rate"]]) + 3
    assert rates.std() == pytest.approx(2 * STRIDE, rel=0.1)
    assert abs(rates.mean()) < 0.05
    dropouts = [step["dropout"] for step in steps if step["dropout"] != BEST["dropout"]]
    assert np.mean(dropouts) == pytest.approx(0.7 * STRIDE * (2 / np.pi) ** 0.5, rel=0.1), "turned back at the end"


def test_what_was_tried_is_not_tried_again():
    space = {"layers": (1, 2, 3)}
    assert near(space, {"layers": 2}, [{"layers": 1}], 5) == {"layers": 3}
    assert near(space, {"layers": 2}, [{"layers": 1}, {"layers": 3}], 5)["layers"] in (1, 3)
