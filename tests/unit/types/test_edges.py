import numpy as np
import pandas as pd
import pytest

from regulens.errors import AlignmentError, InputError, ParameterError, SchemaError
from regulens.types.edges import EdgeScores, EdgeUniverse
from regulens.types.labelled import LabelledEdges
from regulens.types.networks import ReferenceNetwork


def reference(*pairs, name="ref"):
    frame = pd.DataFrame([(s, t, 1, "") for s, t in pairs], columns=["source", "target", "sign", "evidence"])
    return ReferenceNetwork(name=name, edges=frame)


GENES = ("A", "B", "C", "D")


def universe():
    return EdgeUniverse.build(genes=GENES, reference=reference(("A", "B"), ("C", "A"), ("C", "Z"), ("Y", "A")))


def test_a_universe_is_regulators_by_genes_without_self_pairs():
    u = universe()
    assert u.regulators == ("A", "C")
    assert u.candidate.tolist() == [[False, True, True, True], [True, True, False, True]]
    assert u.positive.tolist() == [[False, True, False, False], [True, False, False, False]]


def test_what_was_lost_is_counted():
    counts = universe().counts
    assert counts == {
        "reference_edges": 4, "reference_sources": 3, "mappable": 2, "evaluable": 2, "regulators": 2,
        "regulators_with_positives": 2, "regulators_lost": 1, "genes": 4, "candidates": 6,
    }  # fmt: skip


def test_mappable_counts_the_whole_input_and_evaluable_the_universe():
    made = EdgeUniverse.build(
        genes=("A", "B"), reference=reference(("A", "B"), ("A", "C")), input_genes=("A", "B", "C")
    )
    assert (made.counts["mappable"], made.counts["evaluable"]) == (2, 1)


def test_no_positive_is_refused_with_the_account():
    with pytest.raises(InputError, match=r"got none: of 1 edges 0 have both ends .* 0 of 1 regulators"):
        EdgeUniverse.build(genes=GENES, reference=reference(("X", "Y")))


def test_the_digest_moves_with_the_labels():
    other = EdgeUniverse.build(genes=GENES, reference=reference(("A", "B"), ("C", "B")))
    assert universe().digest == universe().digest != other.digest


def test_a_self_pair_or_a_foreign_positive_is_refused():
    u = universe()
    with pytest.raises(AlignmentError, match="self-pairs"):
        EdgeUniverse(
            genes=u.genes, regulators=u.regulators, candidate=np.ones((2, 4), bool), positive=u.positive,
            reference="r", counts={},
        )  # fmt: skip
    with pytest.raises(AlignmentError, match="inside the candidate"):
        EdgeUniverse(
            genes=u.genes, regulators=u.regulators, candidate=np.zeros((2, 4), bool), positive=u.positive,
            reference="r", counts={},
        )  # fmt: skip


def scores(values=None, observed=None):
    values = np.arange(8.0).reshape(1, 2, 4) if values is None else values
    observed = np.ones((2, 4), bool) if observed is None else observed
    return EdgeScores(values=values, observed=observed, names=("s",), genes=GENES, regulators=("A", "C"))


def test_values_may_be_undefined_only_where_nothing_was_observed():
    values = np.arange(8.0).reshape(1, 2, 4)
    values[0, 1, 3] = np.nan
    with pytest.raises(ParameterError, match="finite scores"):
        scores(values)
    observed = np.ones((2, 4), bool)
    observed[1, 3] = False
    assert not scores(values, observed).observed[1, 3]


def test_a_transposed_grid_is_refused():
    with pytest.raises(AlignmentError, match=r"\(score, regulator, target\)"):
        scores(np.arange(8.0).reshape(1, 4, 2))


def test_scores_are_aligned_by_name_not_by_position():
    shuffled = EdgeScores(
        values=np.array([[[0.0, 1, 2, 3], [10, 11, 12, 13]]]), observed=np.ones((2, 4), bool), names=("s",),
        genes=("D", "C", "B", "A"), regulators=("C", "A"),
    )  # fmt: skip
    on = shuffled.on(universe())
    assert on.values[0].tolist() == [[13, 12, 11, 10], [3, 2, 1, 0]]
    with pytest.raises(AlignmentError, match="missing"):
        scores().on(EdgeUniverse.build(genes=(*GENES, "E"), reference=reference(("A", "E"))))


def test_labelled_edges_keep_the_pairs_that_every_set_observed_and_count_the_rest():
    u = universe()
    a, b = np.ones((2, 4), bool), np.ones((2, 4), bool)
    a[0, 1] = False  # a positive
    b[1, 3] = False  # a negative
    second = EdgeScores(values=np.ones((1, 2, 4)), observed=b, names=("t",), genes=GENES, regulators=("A", "C"))
    edges = LabelledEdges.build([scores(observed=a), second], u)
    assert len(edges.label) == 4
    assert (edges.n_missing, edges.n_missing_positive) == (2, 1)
    assert edges.names == ("s", "t")
    assert (edges.n_pos, edges.n_neg) == (1, 3)


def test_labelled_edges_carry_the_right_value_for_each_pair():
    u = universe()
    edges = LabelledEdges.build(scores(), u)
    grid = np.full((2, 4), np.nan)
    grid[edges.regulator, edges.target] = edges.score("s")
    expected = np.where(u.candidate, np.arange(8.0).reshape(2, 4), np.nan)
    np.testing.assert_array_equal(grid, expected)


def test_a_score_table_lists_observed_pairs_strongest_first():
    frame = scores().to_frame()
    assert frame.iloc[0].tolist() == ["C", "D", 7.0]


def test_arrays_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        universe().positive[0, 0] = True
    with pytest.raises(ValueError, match="read-only"):
        scores().values[0, 0, 0] = 1


def test_a_reference_refuses_repeats_and_unknown_columns():
    with pytest.raises(SchemaError, match="unique pairs"):
        reference(("A", "B"), ("A", "B"))
    with pytest.raises(SchemaError, match="unique pairs"):
        reference(("A", "A"))
    with pytest.raises(SchemaError, match="columns"):
        ReferenceNetwork(name="r", edges=pd.DataFrame({"tf": ["A"], "target": ["B"]}))
