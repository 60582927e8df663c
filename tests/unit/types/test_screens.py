"""Effects become labels under a rule, labels become pairs: self, missing, ties at the bar, what is lost and why."""

import numpy as np
import pytest

from regulens.errors import AlignmentError, InputError
from regulens.stats.multiplicity import benjamini_hochberg
from regulens.types.screens import LabelRule, PerturbationEffects, ResponseLabels

GENES = tuple("ABCDEFGHIJ")


def effects(**changes) -> PerturbationEffects:
    rng = np.random.default_rng(0)
    effect = np.tile(np.array([2.0, 1.0, -0.9, 0.6, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0]), (3, 1))
    p = np.where(np.abs(effect) > 0.3, 1e-6, rng.uniform(0.2, 1.0, effect.shape))
    given = {
        "perturbations": ("A", "B", "Z"), "genes": GENES, "effect": effect, "p": p, "se": None,
        "n_cells": np.array([50, 20, 50]), "n_controls": 100, "test": "welch",
    }  # fmt: skip
    return PerturbationEffects(**(given | changes))


def test_a_responder_passes_both_bars_and_is_never_the_perturbed_gene_itself():
    found = ResponseLabels.build(effects())
    assert [GENES[j] for j in np.flatnonzero(found.positive[0])] == ["B", "C", "D"]
    assert [GENES[j] for j in np.flatnonzero(found.positive[1])] == ["A", "C", "D"]
    assert not found.tested[0, 0] and not found.tested[1, 1] and found.tested[2].all()


def test_adjustment_is_within_the_perturbation_and_without_its_own_gene():
    given = effects()
    found = ResponseLabels.build(given)
    np.testing.assert_allclose(found.q[0, 1:], benjamini_hochberg(given.p[0, 1:]))
    assert np.isnan(found.q[0, 0])


def test_p_that_were_adjusted_are_not_adjusted_again():
    given = effects(adjusted=True)
    np.testing.assert_array_equal(ResponseLabels.build(given).q[2], given.p[2])


def test_an_effect_at_the_bar_is_no_response():
    given = effects(effect=np.full((3, 10), 0.5))
    assert not ResponseLabels.build(given).positive.any()


def test_without_p_the_effect_alone_decides_and_the_rule_says_so():
    given = effects(p=None)
    found = ResponseLabels.build(given)
    assert found.q is None and found.positive[2].sum() == 4
    assert "no p in the table" in found.rule.words(given)


def test_what_was_not_measured_is_neither_positive_nor_negative():
    effect = effects().effect.copy()
    effect[:, 5:] = np.nan
    found = ResponseLabels.build(effects(effect=effect))
    assert not found.tested[:, 5:].any() and not found.positive[:, 5:].any()
    lost = ResponseLabels.build(effects(effect=effect), LabelRule(min_negatives=3)).kept(GENES)[1]
    assert "without a response" in lost["A"]


def test_an_effect_without_a_p_among_others_is_not_tested():
    p = effects().p.copy()
    p[0, 2] = np.nan
    found = ResponseLabels.build(effects(p=p))
    assert not found.tested[0, 2] and not found.positive[0, 2]


def test_every_lost_perturbation_has_its_reason():
    kept, lost = ResponseLabels.build(effects()).kept(GENES)
    assert kept == ("A",)
    assert "20 cells" in lost["B"] and "outside the universe" in lost["Z"]


def test_a_table_that_does_not_count_cells_is_not_held_to_a_number_of_cells():
    kept, _ = ResponseLabels.build(effects(n_cells=np.array([-1, -1, -1]))).kept(GENES)
    assert kept == ("A", "B")


def test_the_universe_follows_the_order_of_its_genes_and_keeps_unmeasured_ones_out():
    labels = ResponseLabels.build(effects(n_cells=np.array([50, 50, 50])))
    genes = ("NEW", *GENES[::-1])
    universe = labels.universe(genes=genes, name="u", screen="s")
    assert universe.regulators == ("A", "B")
    assert not universe.candidate[:, 0].any()  # measured nowhere: missing, not a negative
    assert [genes[j] for j in np.flatnonzero(universe.positive[0])] == ["D", "C", "B"]
    assert not universe.candidate[0, genes.index("A")]
    assert universe.counts["evaluable"] == 6 and universe.counts["perturbations_lost"] == 1


def test_a_universe_without_any_perturbation_is_refused_with_counted_reasons():
    labels = ResponseLabels.build(effects(), LabelRule(min_effect=50.0))
    with pytest.raises(InputError, match="1 because it has fewer than 3 responders"):
        labels.universe(genes=GENES, name="u", screen="s")


def test_digests_know_numbers_names_and_rule():
    base = ResponseLabels.build(effects())
    moved = effects().effect.copy()
    moved[0, 9] += 1e-9
    assert base.digest == ResponseLabels.build(effects()).digest
    assert base.digest != ResponseLabels.build(effects(effect=moved)).digest
    assert base.digest != ResponseLabels.build(effects(), LabelRule(alpha=0.01)).digest


def test_shapes_and_names_are_checked():
    with pytest.raises(AlignmentError, match="perturbation, gene"):
        effects(p=np.ones((2, 10)))
    with pytest.raises(AlignmentError, match="unique"):
        effects(perturbations=("A", "A", "B"))


def test_the_list_of_responders_is_complete():
    found = ResponseLabels.build(effects())
    frame = found.to_frame()
    assert len(frame) == found.positive.sum()
    first = frame[frame["perturbation"] == "A"].iloc[0]
    assert (first["gene"], first["effect"]) == ("B", 1.0)
