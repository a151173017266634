from __future__ import annotations

import pytest

from bbqrec_cli.training.schedule import schedule


def test_by_hand():
    assert [schedule(step, 100, 10) for step in (0, 4, 9)] == [0.1, 0.5, 1.0]
    assert schedule(10, 100, 10) == 1.0
    assert schedule(55, 100, 10) == pytest.approx(0.505), "half way down a cosine from 1 to .01"
    assert 0.01 < schedule(99, 100, 10) < 0.011


def test_it_only_falls_after_the_rise_and_stays_down():
    falling = [schedule(step, 100, 10) for step in range(10, 101)]
    assert falling == sorted(falling, reverse=True)
    assert schedule(150, 100, 10) == pytest.approx(0.01), "a step more than planned does not raise it again"


def test_constant_after_the_rise():
    assert [schedule(step, 100, 2, "constant") for step in (0, 1, 2, 99, 150)] == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_a_run_of_two_steps():
    assert [schedule(step, 2, 1) for step in (0, 1, 2)] == [1.0, 1.0, pytest.approx(0.01)]
