"""Published overlaps of ortholog rankings, recomputed from their counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from regulens.errors import ParameterError
from regulens.rng import stream
from regulens.stats.top_overlap import overlap


@pytest.mark.parametrize(
    ("k", "shared", "expected", "fold", "printed"),
    [(100, 26, 0.386, 67.3, 484), (500, 153, 9.66, 15.8, 114), (1000, 289, 38.6, 7.48, 54),
     (5000, 1094, 966, 1.13, 8.2)],
)  # fmt: skip
def test_ortholog_folds_golden(k, shared, expected, fold, printed):
    found = overlap(shared, k, 25_876)
    assert float(f"{found.expected:.3g}") == expected
    assert float(f"{found.fold:.3g}") == fold
    # the printed folds follow from another universe: 61 x 3,054 pairs
    assert overlap(shared, k, 186_290).fold == pytest.approx(printed, rel=0.01)


def test_expectation_and_tail_by_simulation():
    rng = stream(0, "overlap")
    shared = [np.intersect1d(rng.permutation(60)[:15], rng.permutation(60)[:20]).size for _ in range(4000)]
    found = overlap(8, (15, 20), 60)
    assert np.mean(shared) == pytest.approx(found.expected, abs=0.1)
    assert np.mean(np.array(shared) >= 8) == pytest.approx(found.p, abs=0.01)
    assert found.p == pytest.approx(stats.hypergeom.sf(7, 60, 15, 20))
    assert found.jaccard == pytest.approx(8 / 27)


@pytest.mark.parametrize("bad", [(5, 3, 10), (0, 8, 10), (1, 11, 10), (1, 0, 10)])
def test_refusals(bad):
    with pytest.raises(ParameterError, match=r"^Expected lists.*got"):
        overlap(*bad)
