"""Type-I error of the planned tests in worlds without signal, where attention and reference each have hubs.

Seeds are fixed. The bound is alpha plus three binomial standard errors: a test of exactly level alpha would fail it
about once in 700 seeds. The long version counts verdicts as well.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from regulens.analyses.base import StatisticsSettings
from regulens.testing.worlds import judge, make_world
from regulens.testing.worlds.expectations import SMALLER, SPINE

ALPHA = 0.05
FAST = StatisticsSettings(bootstrap=300, permutations=99)
#: Analyses that take a fraction of a second here; all others are measured by benchmarks/calibrate_analyses.py.
ANALYSES = (*SPINE, "degree_null", "tf_resolution", "reference_sensitivity")


def bound(n: int) -> float:
    """Largest rejection rate that is no surprise at level alpha."""
    return ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / n)


def p_values(seeds: range, **world) -> tuple[dict[str, np.ndarray], Counter]:
    found, states = defaultdict(list), Counter()
    for seed in seeds:
        inp = make_world("no_signal", seed=seed, **world).input(settings=FAST)
        _, ledger, verdicts = judge(inp, ANALYSES, parameters=SMALLER)
        for row in ledger.table().itertuples():
            # descriptive tests are not held to their level: some take pairs to be exchangeable, which they are not here
            if not row.undefined and row.confirmatory:
                found[row.id.split("/")[-1]].append(float(row.p_raw))
        states.update((v.claim, str(v.state)) for v in verdicts)
    return {k: np.array(v) for k, v in found.items()}, states


@pytest.fixture(scope="module")
def quick():
    return p_values(range(1000, 1040))


def test_no_test_rejects_too_often_without_signal(quick):
    found, _ = quick
    assert len(found) == 14
    for name, p in found.items():
        assert len(p) == 40, name
        assert (p < ALPHA).mean() <= bound(40), (name, (p < ALPHA).mean())


def test_no_claim_is_supported_without_signal(quick):
    _, states = quick
    assert states["beyond_prominence", "supported"] == 0
    assert states["beyond_degree", "supported"] == 0
    assert states["beyond_coexpression", "supported"] <= 40 * bound(40)


def test_the_check_catches_a_test_that_counts_pairs_as_independent():
    from regulens.analyses.common import edges_of
    from regulens.stats.power import auroc_null_se
    from regulens.stats.ranking import auroc

    rejected = []
    for seed in range(150):
        inp = make_world("no_signal", seed=seed).input(settings=FAST)
        edges = edges_of(inp, inp.baselines.select(["marginal_product"]))
        z = (auroc(edges.scores, edges.label)[0] - 0.5) / auroc_null_se(edges.n_pos, edges.n_neg)
        rejected.append(abs(z) > 1.96)
    assert np.mean(rejected) > bound(150)


@pytest.mark.long
@pytest.mark.parametrize("n_edges", [60, 400])
def test_long_no_test_rejects_too_often(n_edges):
    found, states = p_values(range(2000, 2200), n_edges=n_edges)
    for name, p in found.items():
        assert (p < ALPHA).mean() <= bound(len(p)), (name, (p < ALPHA).mean())
    assert states["beyond_prominence", "supported"] <= 200 * 0.01
    assert states["beyond_degree", "supported"] <= 200 * 0.01
    assert states["beyond_coexpression", "supported"] <= 200 * bound(200)
