from __future__ import annotations

import pytest

from bbqrec_cli.evaluation.correction import holm


@pytest.mark.parametrize(
    ("ps", "corrected"),
    [
        # The example of R's p.adjust(c(.01, .02, .03, .04), "holm"), and its order mixed.
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),
        ([0.04, 0.01, 0.03, 0.02], [0.06, 0.04, 0.06, 0.06]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.001, 0.001, 0.9], [0.003, 0.003, 0.9]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm(ps, corrected):
    assert holm(ps) == pytest.approx(corrected)
