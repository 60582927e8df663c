"""One AUROC per perturbation, and the error of their mean when perturbations share the genes that respond."""

import numpy as np
import pytest

from regulens.analyses.inference import effects_of
from regulens.analyses.per_perturbation import PerPerturbation
from regulens.types.endpoints import Endpoint
from regulens.types.labelled import LabelledEdges


def labelled(scores, y):
    """Edges of full (perturbation, gene) grids."""
    i, j = (a.ravel() for a in np.indices(y.shape))
    return LabelledEdges(
        scores=np.stack([s.ravel() for s in scores.values()]), names=tuple(scores), label=y.ravel(), regulator=i,
        target=j, universe_digest="u", endpoint=Endpoint.PERTURBATION_RESPONSE,
    )  # fmt: skip


def shared_responders(rng, n_perturbations=20, n_genes=80, spread=2.0):
    """Genes respond to many perturbations or to few, a score ranks genes nearly alike for all: no signal at all."""
    gene = rng.normal(size=n_genes) * spread
    p = 1 / (1 + np.exp(-(gene - 2.5)))
    y = rng.random((n_perturbations, n_genes)) < p
    score = rng.normal(size=n_genes) + 0.5 * rng.normal(size=(n_perturbations, n_genes))
    return score, y


def of(scores, y, **options):
    return PerPerturbation.of(labelled(scores, y), tuple(f"P{k}" for k in range(len(y))), **options)


@pytest.fixture
def per():
    rng = np.random.default_rng(1)
    y = rng.random((12, 60)) < 0.15
    y[:, :2], y[:, 2:4] = True, False
    y[4], y[7] = False, True
    return of({"good": y + rng.normal(size=y.shape), "weak": 0.3 * y + rng.normal(size=y.shape),
               "none": np.zeros(y.shape)}, y)  # fmt: skip


def test_perturbations_without_both_classes_are_left_out_and_counted(per):
    assert per.n == 10 and per.n_left_out == 2 and "P4" not in per.perturbations and "P7" not in per.perturbations
    assert per.dropped()["perturbations without responders or without others"] == 2
    assert per.counts()["n_perturbations"] == 10
    frame = per.table()
    assert len(frame) == 30 and (frame.loc[frame["score"] == "none", "auroc"] == 0.5).all()
    assert frame["recall_at_100"].eq(1).all()  # longer than the list of genes


def test_mean_is_the_mean_and_contrasts_are_paired(per):
    found = per.mean()
    assert found.estimate == pytest.approx(per.metrics.auroc.mean(1))
    assert found.undefined[2].startswith("the standard error is 0")
    gap = per.differences("good", ["weak"])
    assert gap.estimate[0] == pytest.approx((per.values("good") - per.values("weak")).mean())
    one_way = per.differences("good", ["weak"], over="perturbation")
    d = per.values("good") - per.values("weak")
    assert one_way.se[0] == pytest.approx(d.std(ddof=1) / np.sqrt(10))
    assert "genes held fixed" in one_way.method and "target genes" in gap.method


def test_contrast_has_its_parts(per):
    found = per.contrast("good", "weak", delta=0.02, draws=500, level=0.95, rng=np.random.default_rng(0))
    assert found.bootstrap.low < found.effect.value < found.bootstrap.high
    assert 0 <= found.wins <= 1 and 0 < found.wilcoxon.p <= 1 and 0 < found.p_equivalent <= 1
    assert found.row(level=0.95)["delta"] == pytest.approx(found.effect.value)


def test_restrict_equals_building_from_fewer(per):
    part = per.restrict(np.arange(per.n) < 6)
    again = PerPerturbation.of(per.edges.restrict(per.rows.row() < 6), tuple(f"P{k}" for k in range(12)))
    assert part.perturbations == again.perturbations
    assert part.mean().se[:2] == pytest.approx(again.mean().se[:2])
    assert part.metrics.auroc == pytest.approx(again.metrics.auroc)


def test_few_perturbations_are_refused_with_a_reason():
    rng = np.random.default_rng(0)
    y = rng.random((4, 30)) < 0.3
    per = of({"s": rng.normal(size=y.shape)}, y)
    effect = per.above_chance("s")
    assert per.refusal.startswith("4 perturbations") and effect.undefined == per.refusal
    grouped = of({"s": rng.normal(size=(8, 30))}, rng.random((8, 30)) < 0.3, cluster=np.repeat([0, 1], 4))
    assert grouped.refusal.startswith("2 groups")


def test_nothing_at_all_is_no_crash():
    per = of({"s": np.zeros((3, 5))}, np.zeros((3, 5), dtype=bool))
    assert per.n == 0 and per.refusal and len(per.table()) == 0 and np.isnan(per.mean().se).all()
    assert per.dropped()["perturbations without responders or without others"] == 3


def rejections(n_sim, *, over, seed, **world):
    rng = np.random.default_rng(seed)
    p = []
    for _ in range(n_sim):
        score, y = shared_responders(rng, **world)
        per = of({"s": score}, y)
        p.append(effects_of(per.mean(over=over), null_value=0.5)[0].p_greater())
    return float(np.nanmean(np.array(p) < 0.05))


def test_shared_responders_break_the_test_over_perturbations_alone_and_not_the_default():
    """The broken twin: perturbations as if independent. It rejects in more than a quarter of worlds without signal."""
    assert rejections(200, over="perturbation", seed=5) > 0.25
    assert rejections(200, over="both", seed=5) <= 0.09


@pytest.mark.long
@pytest.mark.parametrize("n_perturbations", [5, 10, 25, 40])
@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_level_holds(n_perturbations, spread):
    share = rejections(1000, over="both", seed=n_perturbations, n_perturbations=n_perturbations, spread=spread)
    assert share <= 0.07
